# SPDX-License-Identifier: Apache-2.0
"""A model that was built by hand is saved with what other programs need to know of its text."""

import json
from pathlib import Path
from typing import Any

import fuseq
import pytest
from fuseq.models import CausalLM
from fuseq.presets.generation_config import options_from_config
from fuseq.presets.generation_config_writing import config_from_options
from tiny_tasks import bart, gpt2

IDS = ("pad_id", "bos_id", "decoder_start_id", "eos_ids")


def ids_of(folder: Path) -> dict[str, Any]:
    spec = json.loads((folder / "spec.json").read_text())
    return {name: spec[name] for name in IDS}


def without_ids(task: CausalLM) -> CausalLM:
    """The task; its spec knows no special token."""
    for name in IDS:
        assert task.backbone.spec[name] in (-1, [])
    return task


def test_the_ids_of_the_tokenizer_go_into_the_spec(tmp_path: Path) -> None:
    task = without_ids(bart())
    tokenizer = task.text_preprocessor().tokenizer
    task.save_to_preset(tmp_path / "bart", format="fuseq")
    end = tokenizer.token_to_id("</s>")
    assert ids_of(tmp_path / "bart") == {
        "pad_id": tokenizer.token_to_id("<pad>"),
        "bos_id": tokenizer.token_to_id("<s>"),
        "decoder_start_id": end,
        "eos_ids": [end],
    }
    assert task.backbone.spec["eos_ids"] == []  # what is in memory stays
    # As a program in C++ generates, which sees nothing but the folder.
    model = fuseq.load_model(tmp_path / "bart")
    prompts = [[0, 5, 6, 2], [0, 7, 2], [0, 9, 8, 5, 2]]
    options = fuseq.GenerationOptions(max_new_tokens=8, logit_bias={end: 1000.0})
    rows = [row[0].ids for row in fuseq.generate(model, prompts, options)]
    assert rows == [[end, end]] * 3  # the row starts, and ends as soon as it can

    causal = without_ids(gpt2())
    causal.save_to_preset(tmp_path / "gpt2", format="fuseq")
    end = causal.text_preprocessor().tokenizer.token_to_id("<|endoftext|>")
    assert ids_of(tmp_path / "gpt2")["eos_ids"] == [end]


def test_transformers_is_told_the_ids_of_the_tokenizer(tmp_path: Path) -> None:
    task = without_ids(bart())
    tokenizer = task.text_preprocessor().tokenizer
    task.save_to_preset(tmp_path, format="transformers")
    for file in ("config.json", "generation_config.json"):
        config = json.loads((tmp_path / file).read_text())
        assert config["eos_token_id"] == tokenizer.token_to_id("</s>")
        assert config["decoder_start_token_id"] == tokenizer.token_to_id("</s>")
        assert config["pad_token_id"] == tokenizer.token_to_id("<pad>")


def test_ids_that_are_known_and_models_without_text_stay_as_they_are(
    golden: Path, tmp_path: Path
) -> None:
    task = without_ids(bart())
    type(task)(task.backbone).save_to_preset(tmp_path / "bare", format="fuseq")
    assert ids_of(tmp_path / "bare")["eos_ids"] == []
    known = CausalLM.from_preset(golden / "keras_presets" / "bart_032")
    known.save_to_preset(tmp_path / "known", format="fuseq")
    known.backbone.model.save(tmp_path / "model")
    files = [tmp_path / name / "spec.json" for name in ("known", "model")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_generation_options_are_what_a_preset_does_by_itself(tmp_path: Path) -> None:
    task = bart()
    options = fuseq.GenerationOptions(num_beams=3, max_length=9, forced_bos_token_id=0)
    task.save_to_preset(tmp_path / "one", format="fuseq", generation_options=options)
    again = CausalLM.from_preset(tmp_path / "one")
    settings = again.generation_settings()
    assert settings is not None
    assert settings.to_json() == options.to_json()
    text = again.generate("the fox", sampler="preset")
    assert text == task.generate("the fox", sampler=fuseq.samplers.BeamSampler(3), max_length=9)
    again.save_to_preset(tmp_path / "two", format="fuseq")  # and stay with it
    assert (tmp_path / "two" / "generation.json").read_text() == options.to_json()
    again.save_to_preset(tmp_path / "three", format="transformers")
    hugging_face = CausalLM.from_preset(tmp_path / "three")
    assert hugging_face.generate("the fox", sampler="preset") == text
    for form in (None, "keras_hub"):
        with pytest.raises(ValueError, match=r'format must be "fuseq" or "transformers" with gen'):
            task.save_to_preset(tmp_path / "no", format=form, generation_options=options)
    wrong: Any = {"num_beams": 4}
    with pytest.raises(TypeError, match="must be None or a GenerationOptions, got dict"):
        task.save_to_preset(tmp_path / "no", format="fuseq", generation_options=wrong)
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    "fields",
    [
        {"num_beams": 4, "max_length": 9, "length_penalty": 0.5, "early_stopping": "never"},
        {"num_beams": 2, "num_return_sequences": 2, "max_new_tokens": 3, "min_new_tokens": 2},
        {"do_sample": True, "temperature": 0.5, "top_p": 0.75, "max_length": 12, "min_length": 3},
        {"do_sample": True, "top_k": 7, "min_p": 0.25, "max_length": 12},
        {"max_length": 8, "forced_eos_token_id": 2, "suppress_token_ids": [7, 9]},
        {"max_length": 8, "logit_bias": {5: 1.5, 6: -2.0}, "repetition_penalty": 1.5},
        {"max_length": 8, "stop_strings": ["x", "yz"], "stop_token_ids": [4, 6]},
        {"max_length": 8, "stop_token_ids": [4], "use_default_stop_ids": False},
    ],
)
def test_transformers_settings_say_the_same_when_they_are_read(fields: dict[str, Any]) -> None:
    options = fuseq.GenerationOptions(**fields)
    config = config_from_options(options, [2])
    read = options_from_config(config, is_seq2seq=True)
    ends = [] if fields.get("use_default_stop_ids") is False else [2]
    expected = {**fields, "use_default_stop_ids": False}
    expected["stop_token_ids"] = [*ends, *fields.get("stop_token_ids", [])]
    assert read == expected


@pytest.mark.parametrize("fields", [{"seed": 3}, {"penalty_alpha": 0.5, "top_k": 4}])
def test_settings_that_transformers_lacks_are_told(fields: dict[str, Any], tmp_path: Path) -> None:
    options = fuseq.GenerationOptions(**fields)
    with pytest.raises(ValueError, match=rf"every setting, got {next(iter(fields))}\. Use format="):
        bart().save_to_preset(tmp_path / "no", format="transformers", generation_options=options)
    assert not (tmp_path / "no").exists()
