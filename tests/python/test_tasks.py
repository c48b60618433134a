# SPDX-License-Identifier: Apache-2.0
"""Tasks: how they are made, compiled, loaded, saved, described and pickled."""

import json
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuseq.models import (
    BartBackbone,
    BartSeq2SeqLM,
    CausalLM,
    GPT2Backbone,
    GPT2CausalLM,
    Seq2SeqLM,
    Task,
)
from fuseq.samplers import GreedySampler, TopKSampler
from tiny_tasks import BART, GPT2, PROMPTS, SOURCES, bart, gpt2, inputs_of

# ---- making and compiling ----


def test_a_backbone_of_another_family_is_refused() -> None:
    with pytest.raises(
        TypeError, match="BartSeq2SeqLM: backbone must be a BartBackbone, got GPT2Backbone"
    ):
        BartSeq2SeqLM(gpt2().backbone)
    with pytest.raises(TypeError, match="GPT2CausalLM: backbone must be a GPT2Backbone, got str"):
        GPT2CausalLM("gpt2_base_en")  # type: ignore[arg-type]


def test_a_preprocessor_must_be_one() -> None:
    task = gpt2()
    with pytest.raises(TypeError, match="preprocessor must be a Preprocessor or None, got str"):
        GPT2CausalLM(task.backbone, "words")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="preprocessor must be a Preprocessor or None, got dict"):
        task.preprocessor = {}  # type: ignore[assignment]


def test_a_preprocessor_of_another_task_is_refused() -> None:
    with pytest.raises(TypeError, match="must take encoder_text, decoder_text, got GPT2CausalLMPr"):
        BartSeq2SeqLM(bart().backbone, gpt2().preprocessor)
    with pytest.raises(TypeError, match="must take text, got BartSeq2SeqLMPreprocessor that takes"):
        gpt2().preprocessor = bart().preprocessor


@pytest.mark.parametrize("base", [Task, CausalLM, Seq2SeqLM])
def test_bases_are_no_tasks_themselves(base: type[Task]) -> None:
    with pytest.raises(TypeError, match=f"{base.__name__}: must be a task of one family"):
        base(bart().backbone)


def test_a_task_is_compiled_with_top_k_unless_it_is_told_not_to() -> None:
    assert gpt2().sampler == TopKSampler(k=5)
    task = gpt2(compile=False)
    assert task.sampler is None
    with pytest.raises(ValueError, match=r"GPT2CausalLM\.generate: the task must be compiled, got"):
        task.generate("fox")
    assert isinstance(task.generate("fox", sampler="greedy"), str)
    task.compile()
    assert isinstance(task.generate("fox"), str)


def test_an_unknown_keyword_of_compile_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(
        TypeError, match=r"BartSeq2SeqLM\.compile: arguments .* sampler, .* got top"
    ):
        bart().compile(top_k=5)


def test_keywords_without_effect_are_named_in_one_warning() -> None:
    task = gpt2()
    with pytest.warns(UserWarning) as found:
        task.compile(sampler="greedy", run_eagerly=True, jit_compile="auto")
    assert [str(warning.message) for warning in found] == [
        "compile: jit_compile, run_eagerly has no effect in fuseq"
    ]
    assert found[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        task.compile("adam", "mse", ["accuracy"], sampler="greedy", metrics=[], loss_weights=None)


@pytest.mark.parametrize("name", ["foo", "Greedy", ""])
def test_an_unknown_sampler_is_an_error_that_lists_the_known(name: str) -> None:
    task = gpt2()
    with pytest.raises(ValueError, match="sampler: must be one of beam, contrastive, greedy"):
        task.compile(sampler=name)
    assert task.sampler == TopKSampler(k=5)
    with pytest.raises(TypeError, match=r"sampler: must be a name, .* got int"):
        task.compile(sampler=3)
    with pytest.raises(TypeError, match="sampler: must be a name, a Sampler or a function, got N"):
        task.compile(sampler=None)


def test_stop_ids_that_are_none_are_named() -> None:
    task = gpt2()
    with pytest.raises(
        ValueError, match="stop_token_ids: must be \"auto\", None or ids, got 'all'"
    ):
        task.generate("fox", stop_token_ids="all")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="stop_token_ids: must be whole numbers, got"):
        task.generate("fox", stop_token_ids=[1.5])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"stop_token_ids: must be in 0 \.\.\. 267, got \[268\]"):
        task.generate("fox", stop_token_ids=[268])
    task.compile(sampler="greedy")
    assert task.generate("fox", stop_token_ids=[]) == task.generate("fox", stop_token_ids=None)


@pytest.mark.parametrize("name", ["max_length", "max_new_tokens", "encoder_sequence_length"])
def test_lengths_of_a_call_are_positive_whole_numbers(name: str) -> None:
    task = bart()
    for wrong in (0, -1, 2.5, True, "6"):
        with pytest.raises(ValueError, match=f"generate: {name} must be a positive whole number"):
            task.generate("fox", **{name: wrong})  # type: ignore[arg-type]
    assert isinstance(task.generate("fox", **{name: np.int64(5)}), str)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_length and max_new_tokens exclude each other, got 5"):
        task.generate("fox", max_length=5, max_new_tokens=5)


# ---- from_preset ----


@pytest.mark.parametrize(
    ("base", "folder", "kind"),
    [
        (Task, BART, BartSeq2SeqLM),
        (CausalLM, BART, BartSeq2SeqLM),
        (Seq2SeqLM, BART, BartSeq2SeqLM),
        (BartSeq2SeqLM, BART, BartSeq2SeqLM),
        (CausalLM, GPT2, GPT2CausalLM),
        (GPT2CausalLM, GPT2, GPT2CausalLM),
    ],
)
def test_bases_find_the_class_of_a_preset(base: type[Task], folder: Path, kind: type[Task]) -> None:
    task = base.from_preset(str(folder))
    assert type(task) is kind
    assert type(task.backbone) is kind.backbone_cls
    assert type(task.preprocessor) is kind.preprocessor_cls
    assert (
        task.name
        == {"BartSeq2SeqLM": "bart_seq2_seq_lm", "GPT2CausalLM": "gpt2_causal_lm"}[kind.__name__]
    )


@pytest.mark.parametrize(
    ("base", "folder", "found"),
    [
        (GPT2CausalLM, BART, "BartBackbone"),
        (Seq2SeqLM, GPT2, "GPT2Backbone"),
        (BartSeq2SeqLM, GPT2, "GPT2Backbone"),
    ],
)
def test_a_preset_of_another_family_is_an_error_that_names_both(
    base: type[Task], folder: Path, found: str
) -> None:
    wanted = (
        f"Unable to find a subclass of {base.__name__} that is compatible with {found} found in "
        f"preset '{folder}'."
    )
    with pytest.raises(ValueError, match=re.escape(wanted)):
        base.from_preset(folder)


def test_unknown_arguments_are_an_error_that_lists_the_known() -> None:
    with pytest.raises(TypeError, match=r"CausalLM\.from_preset: .*sequence_length.*got num_clas"):
        CausalLM.from_preset(BART, num_classes=2)
    with pytest.raises(ValueError, match="device must be \"cpu\", got 'cuda'"):
        CausalLM.from_preset(BART, device="cuda")


def test_a_preset_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="none"):
        CausalLM.from_preset(tmp_path / "none")


def test_lengths_are_set_where_the_preprocessor_has_them() -> None:
    words: Any = CausalLM.from_preset(
        BART, encoder_sequence_length=9, decoder_sequence_length=8
    ).preprocessor
    assert (words.encoder_sequence_length, words.decoder_sequence_length) == (9, 8)
    other = CausalLM.from_preset(GPT2, sequence_length=7).preprocessor
    assert other is not None
    assert other.sequence_length == 7
    with pytest.raises(
        ValueError, match="encoder_sequence_length must come with a preprocessor th"
    ):
        CausalLM.from_preset(GPT2, encoder_sequence_length=7)
    with pytest.raises(
        ValueError, match="must come with a preprocessor that has it, got no prepro"
    ):
        CausalLM.from_preset(GPT2, preprocessor=None, sequence_length=7)


def test_parts_of_a_task_can_be_brought() -> None:
    task = Seq2SeqLM.from_preset(BART, preprocessor=None, compile=False, name="mine")
    assert task.preprocessor is None
    assert task.sampler is None
    assert task.name == "mine"
    mine = bart()
    other = Seq2SeqLM.from_preset(BART, preprocessor=mine.preprocessor, backbone=mine.backbone)
    assert other.backbone is mine.backbone
    assert other.preprocessor is mine.preprocessor


def test_a_dtype_takes_effect() -> None:
    task = CausalLM.from_preset(BART, dtype="bfloat16")
    assert task.backbone.dtype == "bfloat16"
    task.compile(sampler="greedy")
    assert isinstance(task.generate("the fox", max_length=8), str)
    assert CausalLM.from_preset(BART).backbone.dtype == "float32"
    stored = CausalLM.from_preset(BART.parent / "bart_032_bfloat16", dtype="float32")
    assert stored.backbone.dtype == "float32"


def test_weights_are_drawn_when_they_are_not_wanted() -> None:
    task, other = (CausalLM.from_preset(GPT2, load_weights=False) for _ in range(2))
    inputs = {"token_ids": [[3, 4]]}
    assert not np.allclose(task(inputs), other(inputs), atol=1e-6)
    assert isinstance(task.generate("the fox", max_length=8), str)


def test_a_class_of_users_loads_as_itself() -> None:
    class Mine(GPT2CausalLM):
        pass

    assert type(Mine.from_preset(GPT2)) is Mine
    assert type(CausalLM.from_preset(GPT2)) is GPT2CausalLM


def test_presets_are_those_of_the_class_and_of_all_below_it() -> None:
    own, causal = set(BartSeq2SeqLM.presets), set(GPT2CausalLM.presets)
    assert own >= {"bart_base_en", "bart_large_en", "bart_large_en_cnn"}
    assert "gpt2_base_en" in causal
    assert not own & causal
    assert set(Task.presets) >= own | causal
    assert set(CausalLM.presets) >= own | causal  # a Seq2SeqLM is a CausalLM
    assert set(Seq2SeqLM.presets) == own
    row = BartSeq2SeqLM.presets["bart_base_en"]
    assert row["kaggle_handle"].startswith("kaggle://")
    assert row["metadata"]["params"] == 139_417_344
    BartSeq2SeqLM.presets.clear()  # of a copy
    assert set(BartSeq2SeqLM.presets) == own


# ---- saving ----


@pytest.mark.parametrize("make", [bart, gpt2])
def test_a_saved_preset_has_keras_hubs_files(make: Any, tmp_path: Path) -> None:
    task = make()
    task.save_to_preset(tmp_path / "mine")
    files = [path for path in (tmp_path / "mine").rglob("*") if path.is_file()]
    assert {str(path.relative_to(tmp_path / "mine")) for path in files} == {
        "config.json",
        "metadata.json",
        "model.weights.h5",
        "preprocessor.json",
        "task.json",
        "tokenizer.json",
        "assets/tokenizer/merges.txt",
        "assets/tokenizer/vocabulary.json",
    }
    written = json.loads((tmp_path / "mine" / "task.json").read_text("utf-8"))
    assert written["class_name"] == type(task).__name__
    assert written["registered_name"] == f"keras_hub>{type(task).__name__}"
    assert written["config"].keys() >= {"backbone", "preprocessor", "name"}
    assert "build_config" not in json.dumps(written)
    assert "compile_config" not in json.dumps(written)
    again = CausalLM.from_preset(tmp_path / "mine")
    assert type(again) is type(task)
    for each in (task, again):
        each.compile(sampler="greedy")
    assert again.generate(inputs_of(task)) == task.generate(inputs_of(task))


def test_lengths_survive_being_saved(tmp_path: Path) -> None:
    bart().save_to_preset(tmp_path / "bart")
    words: Any = Seq2SeqLM.from_preset(tmp_path / "bart").preprocessor
    assert (words.encoder_sequence_length, words.decoder_sequence_length) == (14, 13)
    gpt2().save_to_preset(tmp_path / "gpt2")
    other = CausalLM.from_preset(tmp_path / "gpt2").preprocessor
    assert other is not None
    assert other.sequence_length == 13


def test_a_task_without_preprocessor_is_saved_without_words(tmp_path: Path) -> None:
    task = gpt2()
    task.preprocessor = None
    task.save_to_preset(tmp_path / "mine")
    files = {path.name for path in (tmp_path / "mine").iterdir()}
    assert files == {"config.json", "metadata.json", "model.weights.h5", "task.json"}
    again = CausalLM.from_preset(tmp_path / "mine")
    assert again.preprocessor is None
    np.testing.assert_array_equal(again({"token_ids": [[3, 4]]}), task({"token_ids": [[3, 4]]}))


@pytest.mark.parametrize("ending", [".weights.h5", ".safetensors"])
@pytest.mark.parametrize("make", [bart, gpt2])
def test_weights_alone_survive_a_file(make: Any, ending: str, tmp_path: Path) -> None:
    task = make()
    task.save_weights(str(tmp_path / f"mine{ending}"))
    other = type(task)(
        type(task.backbone).from_config(task.backbone.get_config()), task.preprocessor
    )
    for each in (task, other):
        each.compile(sampler="greedy")
    wanted = task.generate(inputs_of(task))
    assert other.generate(inputs_of(task)) != wanted
    other.load_weights(str(tmp_path / f"mine{ending}"))
    assert other.generate(inputs_of(task)) == wanted


# ---- what a task is ----


def test_a_summary_tells_of_words_and_weights() -> None:
    task, lines = bart(), []
    task.summary(print_fn=lines.append)
    text = "\n".join(lines)
    for part in (
        'Preprocessor: "bart_seq2_seq_lm_preprocessor"',
        "bart_tokenizer (BartTokenizer)",
        "Vocab size: 270",
        'Model: "bart_seq2_seq_lm"',
        f"Total params: {task.count_params():,}",
    ):
        assert part in text
    assert {len(line) for line in text.splitlines()} <= set(range(81))
    task.preprocessor = None
    lines.clear()
    task.summary(line_length=60, print_fn=lines.append)
    assert "Preprocessor" not in "\n".join(lines)
    assert max(map(len, "\n".join(lines).splitlines())) == 60


def test_a_summary_is_printed_where_nobody_takes_it(capsys: pytest.CaptureFixture[str]) -> None:
    gpt2().summary()
    assert "Total params: " in capsys.readouterr().out


def test_a_config_has_the_parts() -> None:
    task = gpt2(name="mine")
    config = task.get_config()
    assert config["name"] == "mine"
    assert config["backbone"] == task.backbone.get_config()
    assert task.preprocessor is not None
    assert config["preprocessor"] == task.preprocessor.get_config()
    assert task.count_params() == task.backbone.count_params()


# ---- pickling ----


@pytest.mark.parametrize(("folder", "inputs"), [(BART, SOURCES), (GPT2, PROMPTS)])
def test_a_loaded_task_survives_pickling(folder: Path, inputs: list[str]) -> None:
    task = CausalLM.from_preset(folder, dtype="bfloat16", sequence_length=12, name="mine")
    task.compile(sampler=TopKSampler(9, seed=4), metrics=["accuracy"])
    again = pickle.loads(pickle.dumps(task))
    assert type(again) is type(task)
    assert (again.name, again.backbone.dtype) == ("mine", "bfloat16")
    assert again.preprocessor.sequence_length == 12
    assert again.sampler == task.sampler
    assert again.generate(inputs) == task.generate(inputs)
    assert pickle.loads(pickle.dumps(CausalLM.from_preset(folder, compile=False))).sampler is None


def test_a_task_built_by_hand_is_pickled_once_it_is_saved(tmp_path: Path) -> None:
    task = bart()
    with pytest.raises(
        ValueError, match=r"pickle: BartSeq2SeqLM must come from .* save_to_preset f"
    ):
        pickle.dumps(task)
    task.save_to_preset(tmp_path / "mine")
    task.compile(sampler=GreedySampler())
    assert pickle.loads(pickle.dumps(task)).generate(SOURCES) == task.generate(SOURCES)


def test_weights_that_were_loaded_later_are_not_lost_silently(tmp_path: Path) -> None:
    task = CausalLM.from_preset(GPT2)
    CausalLM.from_preset(GPT2, load_weights=False).save_weights(tmp_path / "other.safetensors")
    task.load_weights(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="weights that no folder holds"):
        pickle.dumps(task)


def test_backbones_know_their_classes() -> None:
    assert BartSeq2SeqLM.backbone_cls is BartBackbone
    assert GPT2CausalLM.backbone_cls is GPT2Backbone
    assert issubclass(Seq2SeqLM, CausalLM)
