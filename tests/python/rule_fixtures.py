# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests of rules; a module asks for them as a plugin."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rule_tasks import KINDS, FolderOf, OracleOf, keras, task

if TYPE_CHECKING:
    from transformers_folders import Oracle


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> FolderOf:
    """Makes a folder of transformers, once for the same arguments."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    import transformers_folders

    made: dict[str, Path] = {}

    def of(family: str = "bart", settings: dict[str, Any] | None = None, **more: Any) -> Path:
        key = repr((family, settings, sorted(more.items())))
        if key not in made:
            folder = tmp_path_factory.mktemp(family)
            made[key] = transformers_folders.make(folder, family, settings, **more)
        return made[key]

    return of


@pytest.fixture(scope="session")
def oracle_of(folder_of: FolderOf) -> OracleOf:
    """Opens a folder with transformers, once."""
    import transformers_folders

    opened: dict[Path, Oracle] = {}

    def of(folder: Path) -> "Oracle":
        if folder not in opened:
            opened[folder] = transformers_folders.Oracle(folder)
        return opened[folder]

    return of


@pytest.fixture(params=KINDS)
def either_task(request: pytest.FixtureRequest) -> Any:
    """A BART of each kind that writes greedily."""
    if request.param == "keras_hub":
        return keras()
    return task(request.getfixturevalue("folder_of")("bart", {}), "greedy")
