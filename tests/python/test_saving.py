# SPDX-License-Identifier: Apache-2.0
"""Tasks in preset folders of three forms: what is written whole, and what is refused."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from fuseq.models import BartBackbone, BartSeq2SeqLM, CausalLM, Seq2SeqLM

FORMS = ["keras_hub", "transformers", "fuseq"]
TEXTS = ["the quick brown fox", " fox", ""]


@pytest.fixture(scope="module")
def keras_presets(golden: Path) -> Path:
    return golden / "keras_presets"


def other_weights(task: CausalLM) -> CausalLM:
    """The same task with other weights."""
    config = task.backbone.get_config()
    backbone = type(task.backbone).from_config({**config, "name": "other"})
    return type(task)(backbone, task.preprocessor)


def content(folder: Path) -> dict[str, bytes]:
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@contextmanager
def small_disk(limit: int) -> Iterator[None]:
    """No file may grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["bart_032", "gpt2_032"])
def test_a_saved_task_is_the_same_task(
    keras_presets: Path, tmp_path: Path, name: str, form: str
) -> None:
    task = CausalLM.from_preset(keras_presets / name)
    assert task.preprocessor is not None
    task.preprocessor.sequence_length = 24
    task.save_to_preset(tmp_path / "saved", format=form)  # type: ignore[arg-type]
    again = CausalLM.from_preset(tmp_path / "saved")
    assert type(again) is type(task)
    for each in (task, again):
        each.compile(sampler="greedy")
    if form == "transformers":  # whose folders start rows in transformers' way
        assert task.backbone.model.spec == again.backbone.model.spec
        return
    assert again.generate(TEXTS) == task.generate(TEXTS)
    assert again.preprocessor is not None
    assert again.preprocessor.get_config() == task.preprocessor.get_config()
    assert again.preprocessor.sequence_length == 24


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["bart_032", "gpt2_032"])
def test_a_disk_that_is_full_leaves_the_old_preset(
    keras_presets: Path, tmp_path: Path, name: str, form: str
) -> None:
    task = CausalLM.from_preset(keras_presets / name)
    folder = tmp_path / "saved"
    task.save_to_preset(folder, format=form)  # type: ignore[arg-type]
    before = content(folder)
    with small_disk(6000), pytest.raises(OSError):
        other_weights(task).save_to_preset(folder, format=form)  # type: ignore[arg-type]
    assert content(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]
    other_weights(task).save_to_preset(folder, format=form)  # type: ignore[arg-type]
    assert content(folder) != before


@pytest.mark.parametrize("suffix", [".weights.h5", ".safetensors"])
def test_a_disk_that_is_full_leaves_the_old_weights(
    keras_presets: Path, tmp_path: Path, suffix: str
) -> None:
    task = CausalLM.from_preset(keras_presets / "bart_032")
    path = tmp_path / f"saved{suffix}"
    task.save_weights(path)
    before = path.read_bytes()
    with small_disk(6000), pytest.raises(OSError):
        other_weights(task).save_weights(path)
    assert path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".weights.h5", ".safetensors"])
@pytest.mark.parametrize("name", ["bart_032", "gpt2_032"])
def test_weights_alone_go_to_a_task_of_the_same_shape(
    keras_presets: Path, tmp_path: Path, name: str, suffix: str
) -> None:
    task = CausalLM.from_preset(keras_presets / name)
    path = tmp_path / f"saved{suffix}"
    task.save_weights(path)
    other = other_weights(task)
    other.load_weights(path)
    rows = np.array([[2, 0, 9, 8]])
    inputs = {
        "bart_032": {"encoder_token_ids": rows, "decoder_token_ids": rows},
        "gpt2_032": {"token_ids": rows},
    }[name]
    assert (other(inputs) == task(inputs)).all()


def test_a_folder_of_another_form_is_not_written_over(keras_presets: Path, tmp_path: Path) -> None:
    task = CausalLM.from_preset(keras_presets / "bart_032")
    task.save_to_preset(tmp_path / "saved")
    with pytest.raises(ValueError, match=r'of the form "fuseq", got .* form "keras_hub"'):
        task.save_to_preset(tmp_path / "saved", format="fuseq")


def test_what_a_form_cannot_hold_is_named_with_a_form_that_can(
    golden: Path, tmp_path: Path
) -> None:
    task = Seq2SeqLM.from_preset(golden / "bart_tiny_hf")  # a head bias, and unequal stacks
    with pytest.raises(ValueError, match=r"head\.bias.*transformers.*fuseq"):
        task.save_to_preset(tmp_path / "saved")
    assert list(tmp_path.iterdir()) == []
    task.save_to_preset(tmp_path / "saved", format="transformers")
    task.save_to_preset(tmp_path / "ours", format="fuseq")
    rows = np.array([[2, 0, 9, 8]])
    inputs = {"encoder_token_ids": rows, "decoder_token_ids": rows}
    for folder in ("saved", "ours"):
        assert (Seq2SeqLM.from_preset(tmp_path / folder)(inputs) == task(inputs)).all()


def test_a_model_with_more_positions_than_the_form_counts_keeps_them(tmp_path: Path) -> None:
    backbone = BartBackbone(40, 1, 2, 8, 16, max_sequence_length=12)
    task = BartSeq2SeqLM(backbone)
    assert task.count_params() == 40 * 8 + 2 * 12 * 8 + 4 * 8 + (
        4 * 72 + 16 + (8 * 16 + 16 + 16 * 8 + 8) + 16
    ) + (8 * 72 + 32 + (8 * 16 + 16 + 16 * 8 + 8) + 16)
    for form in FORMS:
        task.save_to_preset(tmp_path / form, format=form)  # type: ignore[arg-type]
        again = Seq2SeqLM.from_preset(tmp_path / form)
        assert again.backbone.max_sequence_length == 12
        assert again.count_params() == task.count_params()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"format": "onnx"}, "format must be None or one of keras_hub, transformers, fuseq"),
        ({"max_shard_size": 0}, "max_shard_size must be above 0, got 0"),
    ],
)
def test_wrong_arguments_of_saving_are_said(
    tmp_path: Path, arguments: dict[str, object], message: str
) -> None:
    task = BartSeq2SeqLM(BartBackbone(40, 1, 2, 8, 16, max_sequence_length=12))
    with pytest.raises(ValueError, match=message):
        task.save_to_preset(tmp_path / "saved", **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("call", ["save_weights", "load_weights"])
def test_a_file_of_weights_has_a_known_ending(call: str) -> None:
    task = BartSeq2SeqLM(BartBackbone(40, 1, 2, 8, 16, max_sequence_length=12))
    with pytest.raises(ValueError, match=rf"{call}: path must end in \.weights\.h5 or \.safetens"):
        getattr(task, call)("weights.bin")


def test_a_file_of_weights_must_exist(tmp_path: Path) -> None:
    task = BartSeq2SeqLM(BartBackbone(40, 1, 2, 8, 16, max_sequence_length=12))
    with pytest.raises(FileNotFoundError, match="the file must exist"):
        task.load_weights(tmp_path / "none.safetensors")
