# SPDX-License-Identifier: Apache-2.0
"""Tasks in preset folders of three forms: what is written whole, and what is refused."""

import resource
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fuseq
import numpy as np
import pytest
from fuseq import _core
from fuseq.models import (
    BartBackbone,
    BartSeq2SeqLM,
    BartSeq2SeqLMPreprocessor,
    CausalLM,
    Seq2SeqLM,
)
from fuseq.presets import native_format
from fuseq.tokenizers import BartTokenizer

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


def reload(folder: Path) -> CausalLM:
    task = CausalLM.from_preset(folder)
    task.compile(sampler="greedy")
    return task


def weights_of(task: CausalLM) -> bytes:
    model = task.backbone.model
    names = [name for name, _, _ in _core.weight_table(model.spec)]
    return b"".join(np.asarray(model.weight(name)).tobytes() for name in names)


@pytest.mark.parametrize("sizes", [(10, 1e-6), (1e-6, 10)])
def test_a_save_that_dies_after_the_swap_leaves_the_new_weights(
    keras_presets: Path, tmp_path: Path, sizes: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = CausalLM.from_preset(keras_presets / "gpt2_032")
    folder = tmp_path / "saved"
    task.save_to_preset(folder, max_shard_size=sizes[0])
    new = other_weights(task)
    save_folder = _core.save_folder

    def die_after_the_swap(*arguments: Any) -> None:
        save_folder(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(_core, "save_folder", die_after_the_swap)
    with pytest.raises(KeyboardInterrupt):
        new.save_to_preset(folder, max_shard_size=sizes[1])
    assert weights_of(CausalLM.from_preset(folder)) == weights_of(new) != weights_of(task)


@pytest.mark.parametrize("form", FORMS)
def test_a_preset_without_text_does_not_take_the_old_preprocessor(
    keras_presets: Path, tmp_path: Path, form: Any
) -> None:
    task = CausalLM.from_preset(keras_presets / "gpt2_032")
    task.save_to_preset(tmp_path / "saved", format=form)
    assert CausalLM.from_preset(tmp_path / "saved").preprocessor is not None
    type(task)(task.backbone).save_to_preset(tmp_path / "saved", format=form)
    assert CausalLM.from_preset(tmp_path / "saved").preprocessor is None


@pytest.mark.parametrize("form", FORMS)
def test_one_family_may_be_saved_over_the_other(
    keras_presets: Path, tmp_path: Path, form: Any
) -> None:
    bart = CausalLM.from_preset(keras_presets / "bart_032")
    gpt2 = CausalLM.from_preset(keras_presets / "gpt2_032")
    gpt2.save_to_preset(tmp_path / "alone", format=form)
    for name in ("README.md", "notes/today.txt"):
        (tmp_path / "saved" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "saved" / name).write_text("mine")
    bart.save_to_preset(tmp_path / "saved", max_shard_size=1e-6, format=form)
    gpt2.save_to_preset(tmp_path / "saved", format=form)
    found = content(tmp_path / "saved")
    assert found.pop("README.md") == found.pop("notes/today.txt") == b"mine"
    alone = content(tmp_path / "alone")
    assert found.keys() == alone.keys()
    for name in found.keys() - {"metadata.json"}:  # which has the time
        if not name.endswith(".h5"):
            assert found[name] == alone[name], name
    assert reload(tmp_path / "saved").generate(" fox") == reload(tmp_path / "alone").generate(
        " fox"
    )


OLD = (
    "tokenizer.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "model.safetensors.index.json",
    "model-00001-of-00002.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "pytorch_model-00001-of-00002.bin",
)


def test_old_files_of_transformers_go_with_a_task(keras_presets: Path, tmp_path: Path) -> None:
    task = CausalLM.from_preset(keras_presets / "gpt2_032")
    for name in (*OLD, "model-card.txt"):
        (tmp_path / name).write_text('{"old": 1}')
    task.save_to_preset(tmp_path, format="transformers")
    assert sorted(content(tmp_path)) == [
        "config.json",
        "generation_config.json",
        "merges.txt",
        "model-card.txt",
        "model.safetensors",
        "tokenizer_config.json",
        "vocab.json",
    ]


@pytest.mark.parametrize("save", [fuseq.save_model, fuseq.export_transformers])
def test_a_model_alone_takes_old_weights_away_and_keeps_the_tokenizer(
    keras_presets: Path, tmp_path: Path, save: Callable[..., None]
) -> None:
    task = CausalLM.from_preset(keras_presets / "gpt2_032")
    for name in (*OLD, "README.md"):
        (tmp_path / name).write_text('{"old": 1}')
    save(task.backbone.model, tmp_path)
    kept = {name for name, text in content(tmp_path).items() if text == b'{"old": 1}'}
    assert kept == {*OLD[:3], "README.md"}
    assert (tmp_path / "model.safetensors").is_file()


@pytest.mark.parametrize("form", FORMS)
def test_the_current_folder_is_not_replaced(
    keras_presets: Path, tmp_path: Path, form: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = CausalLM.from_preset(keras_presets / "gpt2_032")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name in ("", ".", "..", "../here", tmp_path):
        with pytest.raises(ValueError, match="save_to_preset: preset_dir must not be the current"):
            task.save_to_preset(name, format=form)
    with pytest.raises(ValueError, match=r'write "\.": must not be the current folder or hold it'):
        fuseq.save_model(task.backbone.model, ".")
    with pytest.raises(ValueError, match=r'folder must have a name, got ""'):
        _core.save_folder("", lambda _: None)
    assert Path.cwd() == tmp_path / "here"
    assert [path.name for path in tmp_path.rglob("*")] == ["here"]
    task.save_to_preset("below", format=form)
    assert CausalLM.from_preset(tmp_path / "here" / "below").backbone.spec == task.backbone.spec


def test_threads_may_save_to_one_folder(keras_presets: Path, tmp_path: Path) -> None:
    tasks = [CausalLM.from_preset(keras_presets / name) for name in ("gpt2_032", "bart_032")]
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "README.md").write_text("mine")

    def save(number: int) -> None:
        size = 1e-6 if number % 4 < 2 else 10
        tasks[number % 2].save_to_preset(tmp_path / "saved", max_shard_size=size)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(save, range(20)))
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]
    assert (tmp_path / "saved" / "README.md").read_text() == "mine"
    found = weights_of(CausalLM.from_preset(tmp_path / "saved"))
    assert found in [weights_of(task) for task in tasks]


def test_a_file_that_looks_temporary_is_the_users(keras_presets: Path, tmp_path: Path) -> None:
    task = CausalLM.from_preset(keras_presets / "gpt2_032")
    names = ["generation.json.tmp", "my.weights.h5.tmp"]
    for name in names:
        (tmp_path / name).write_text("mine")
    task.save_weights(tmp_path / "my.weights.h5")
    native_format.save_generation_options(fuseq.GenerationOptions(num_beams=2), tmp_path)
    found = content(tmp_path)
    assert [found.pop(name) for name in names] == [b"mine", b"mine"]
    assert sorted(found) == ["generation.json", "my.weights.h5"]


def test_weights_and_settings_need_their_folder(keras_presets: Path, tmp_path: Path) -> None:
    task = CausalLM.from_preset(keras_presets / "gpt2_032")
    message = (
        r'save_weights ".*none/my\.weights\.h5": the folder must exist, got no folder ".*none"'
    )
    with pytest.raises(FileNotFoundError, match=message):
        task.save_weights(tmp_path / "none" / "my.weights.h5")
    with pytest.raises(FileNotFoundError, match="the folder must exist"):
        native_format.save_generation_options(fuseq.GenerationOptions(), tmp_path / "none")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"sequence_length": 5}, "sequence_length"),
        ({"unsplittable_tokens": []}, "unsplittable_tokens"),
    ],
)
def test_settings_of_a_tokenizer_that_a_form_cannot_hold_are_named(
    keras_presets: Path, tmp_path: Path, settings: dict[str, Any], named: str
) -> None:
    tokenizer = BartTokenizer.from_preset(keras_presets / "bart_032", **settings)
    task = CausalLM.from_preset(
        keras_presets / "bart_032", preprocessor=BartSeq2SeqLMPreprocessor(tokenizer)
    )
    with pytest.raises(ValueError, match=f"every setting of the tokenizer, got others in {named}"):
        task.save_to_preset(tmp_path / "saved", format="transformers")
    assert list(tmp_path.iterdir()) == []
