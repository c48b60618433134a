# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests of hubs: nothing of this machine, and a server that plays both."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback_hub import HF, KAGGLE, PRESET, LoopbackHub, use_hugging_face, use_kaggle


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of this machine reaches a test, and no test reaches the caches."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith(("HF_", "KAGGLE", "FUSEQ_PRESETS")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def server() -> Iterator[LoopbackHub]:
    with LoopbackHub(dict(PRESET)) as running:
        yield running


@pytest.fixture
def hugging_face(
    monkeypatch: pytest.MonkeyPatch, server: LoopbackHub, tmp_path: Path
) -> LoopbackHub:
    use_hugging_face(monkeypatch, server.url, tmp_path / "cache")
    return server


@pytest.fixture
def kaggle(monkeypatch: pytest.MonkeyPatch, server: LoopbackHub, tmp_path: Path) -> LoopbackHub:
    use_kaggle(monkeypatch, server.url, tmp_path / "cache")
    return server


@pytest.fixture(params=[HF, KAGGLE])
def either(request: pytest.FixtureRequest) -> tuple[str, LoopbackHub]:
    """Each hub in turn: a handle, and the server."""
    name = "hugging_face" if request.param == HF else "kaggle"
    return request.param, request.getfixturevalue(name)
