# SPDX-License-Identifier: Apache-2.0
"""The methods on KerasHub's pages on Seq2SeqLM and CausalLM have what is printed there.

Small presets stand in for the named ones.
"""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fuseq
import numpy as np
import pytest
import stand_in_presets

BASES = ("Seq2SeqLM", "CausalLM")


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the small presets."""
    return stand_in_presets.write(tmp_path_factory.mktemp("presets"))


@pytest.fixture(autouse=True)
def offline(stand_ins: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Named presets are found among the small ones."""
    monkeypatch.setenv("FUSEQ_PRESETS", str(stand_ins))
    yield


@pytest.mark.parametrize("name", BASES)
def test_compile_has_the_printed_arguments_and_defaults(name: str) -> None:
    kind = getattr(fuseq.models, name)
    parameters = list(inspect.signature(kind.compile).parameters.values())
    printed = {
        "optimizer": "auto", "loss": "auto", "weighted_metrics": "auto", "sampler": "top_k"
    }  # fmt: skip
    assert {p.name: p.default for p in parameters[1:5]} == printed
    assert parameters[5].kind is inspect.Parameter.VAR_KEYWORD
    lm = kind.from_preset("bart_base_en")
    lm.compile("auto", "auto", "auto", "greedy")  # KerasHub itself takes only two by position
    assert isinstance(lm.sampler, fuseq.samplers.GreedySampler)
    lm.compile(sampler=fuseq.samplers.TopPSampler(p=0.9, seed=3))
    assert isinstance(lm.sampler, fuseq.samplers.TopPSampler)
    lm.compile(optimizer="auto", loss="auto", weighted_metrics="auto", sampler="top_k")
    assert isinstance(lm.sampler, fuseq.samplers.TopKSampler)


@pytest.mark.parametrize("name", [*BASES, "BartSeq2SeqLM"])
def test_generate_and_from_preset_have_the_printed_arguments_and_defaults(name: str) -> None:
    kind = getattr(fuseq.models, name)
    parameters = list(inspect.signature(kind.generate).parameters.values())
    plain = [p for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD][1:]
    assert [(p.name, p.default) for p in plain] == [
        ("inputs", inspect.Parameter.empty),
        ("max_length", None),
        ("stop_token_ids", "auto"),
        ("strip_prompt", False),
    ]
    assert str(inspect.signature(kind.from_preset)).startswith("(preset: ")
    assert inspect.signature(kind.from_preset).parameters["load_weights"].default is True


def test_a_tuple_of_stop_ids_ends_rows_and_none_fills_them() -> None:
    lm = fuseq.models.CausalLM.from_preset("gpt2_base_en")
    lm.compile(sampler="greedy")
    full = lm.generate("Keras is a", 40, None, return_scores=True)
    assert len(full.token_ids) == 40
    prompt = len(lm.preprocessor.tokenizer("Keras is a")) + 1
    stop = full.token_ids[prompt + 3]
    end = full.token_ids.index(stop, prompt)
    cut = lm.generate("Keras is a", max_length=40, stop_token_ids=(stop,), return_scores=True)
    assert cut.token_ids == full.token_ids[: end + 1]


def test_strip_prompt_returns_only_the_new_text() -> None:
    lm = fuseq.models.CausalLM.from_preset("gpt2_base_en")
    lm.compile(sampler="greedy")
    whole = lm.generate("Keras is a", max_length=24)
    assert "Keras is a" + lm.generate("Keras is a", 24, strip_prompt=True) == whole


def test_batches_of_a_dataset_are_generated_one_by_one_and_joined() -> None:
    lm = fuseq.models.Seq2SeqLM.from_preset("bart_base_en")
    lm.compile(sampler="greedy")
    texts = ["The quick brown fox", "The whale", "a fox"]

    class Dataset:  # the method by which tf.data gives numpy arrays
        def as_numpy_iterator(self) -> Iterator[Any]:
            yield np.array([text.encode() for text in texts[:2]], object)
            yield np.array([texts[2].encode()], object)

    assert lm.generate(Dataset(), max_length=12) == lm.generate(texts, max_length=12)


@pytest.mark.parametrize(
    ("name", "preset"), [("Seq2SeqLM", "bart_base_en"), ("CausalLM", "gpt2_base_en")]
)
def test_save_to_preset_writes_a_folder_that_loads_as_it_was(
    name: str, preset: str, tmp_path: Path
) -> None:
    kind = getattr(fuseq.models, name)
    lm = kind.from_preset(preset)
    preset_dir = str(tmp_path / "saved")
    lm.save_to_preset(preset_dir)
    other = kind.from_preset(preset_dir)
    assert type(other) is type(lm)
    for task in (lm, other):
        task.compile(sampler="greedy")
    assert other.generate("The fox", max_length=12) == lm.generate("The fox", max_length=12)


def test_the_properties_are_of_the_printed_kinds() -> None:
    models = fuseq.models
    lm = models.Seq2SeqLM.from_preset("bart_base_en")
    assert isinstance(lm.backbone, models.BartBackbone)
    assert isinstance(lm.preprocessor, models.BartSeq2SeqLMPreprocessor)
    assert isinstance(lm.backbone, models.Backbone)
    assert isinstance(lm.preprocessor, models.Preprocessor)
    assert models.Seq2SeqLM.from_preset("bart_base_en", preprocessor=None).preprocessor is None
    lm.preprocessor = None
    with pytest.raises(ValueError, match="texts must come with a preprocessor"):
        lm.generate("The quick brown fox", max_length=30)
