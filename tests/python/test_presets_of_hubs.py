# SPDX-License-Identifier: Apache-2.0
"""Tasks come from both hubs by their handles; a local server plays the hubs."""

from pathlib import Path

import pytest
from fuseq.models import BartSeq2SeqLM, CausalLM
from loopback_hub import LoopbackHub, use_hugging_face, use_kaggle

TEXTS = ["the quick brown fox", "fox"]


def files_of(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.mark.parametrize(
    "handle", ["hf://org/name", "kaggle://keras/bart/keras/bart_base_en/3", "bart_base_en"]
)
def test_a_task_comes_from_a_hub(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handle: str
) -> None:
    monkeypatch.delenv("FUSEQ_PRESETS", raising=False)
    folder = golden / "keras_presets" / "bart_032"
    with LoopbackHub(files_of(folder)) as server:
        use_hugging_face(monkeypatch, server.url, tmp_path / "hugging_face")
        use_kaggle(monkeypatch, server.url, tmp_path / "kaggle")
        task = CausalLM.from_preset(handle)
    assert isinstance(task, BartSeq2SeqLM)
    local = CausalLM.from_preset(folder)
    for each in (task, local):
        each.compile(sampler="greedy")
    assert task.generate(TEXTS, max_length=12) == local.generate(TEXTS, max_length=12)


def test_a_transformers_checkpoint_comes_from_a_hub(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "checkpoint"
    CausalLM.from_preset(golden / "keras_presets" / "gpt2_032").export_to_transformers(folder)
    with LoopbackHub(files_of(folder)) as server:
        use_hugging_face(monkeypatch, server.url, tmp_path / "hugging_face")
        task = CausalLM.from_preset("hf://org/name")
    assert task.preprocessor is not None
    assert task.backbone.rules == "transformers"
    task.compile(sampler="greedy")
    assert task.generate("fox", max_length=8).startswith("fox")
