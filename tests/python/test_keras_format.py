# SPDX-License-Identifier: Apache-2.0
"""Presets of KerasHub, read and written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("h5py")

import keras_presets
from fuseq import _core, tokenizers
from fuseq.models.families import FAMILIES
from fuseq.presets import keras_format
from keras_presets import EXACT, FOLDER, INT8, family_of, load


@pytest.mark.parametrize("name", EXACT)
def test_a_recorded_preset_gives_the_logits_of_keras_hub(name: str) -> None:
    model = load(FOLDER / name, "float32")
    assert keras_presets.largest_difference(model, keras_presets.expected(name)) < 1e-4


def test_an_int8_preset_gives_the_logits_of_keras_hub() -> None:
    record = keras_presets.expected(INT8)
    model = load(FOLDER / INT8)
    assert model.dtype == "int8"
    # KerasHub keeps keys and values in float32.
    assert keras_presets.largest_difference(model, record, cache_dtype="float32") < 1e-4
    # With ours some inputs fall on the other side of a step; of 16 inputs each step is a large one.
    assert 1e-3 < keras_presets.largest_difference(model, record) < 0.1
    # Keras also rounds the inputs of every matrix to int8; of float32 only the matrices are.
    assert 1e-3 < keras_presets.largest_difference(load(FOLDER / INT8, "float32"), record) < 0.05


def test_an_int8_matrix_is_what_was_quantised_to_half_a_step() -> None:
    ours = load(FOLDER / INT8, "float32")
    original = load(FOLDER / "gpt2_032")  # drawn with the same weights
    for name, _, is_matrix in _core.weight_table(ours.spec):
        a, b = (model.weight(name).numpy() for model in (ours, original))
        if is_matrix or name == "embed.tokens":
            steps = np.abs(b).max(axis=-1, keepdims=True) / 127
            assert 0 < np.abs(a - b).max()
            assert (np.abs(a - b) <= 0.5001 * steps).all()
        else:
            assert np.array_equal(a, b)


@pytest.mark.parametrize("name", ["bart_017", "bart_032", "gpt2_017", "gpt2_032"])
def test_greedy_ids_are_those_of_keras_hub(name: str) -> None:
    model, greedy = load(FOLDER / name), keras_presets.expected(name)["greedy"]
    words = tokenizers.load(FOLDER / name)
    options = _core.GenerationOptions(max_length=greedy["max_length"])
    for text, theirs in zip(greedy["prompts"], greedy["ids"], strict=True):
        ids = [int(i) for i in words(text)]
        spec = json.loads(model.spec)
        if model.is_seq2seq:
            start = [spec["decoder_start_id"], spec["bos_id"]]
            prompt = _core.Prompt([spec["bos_id"], *ids, *spec["eos_ids"]], start)
        else:
            prompt = _core.Prompt([], [spec["bos_id"], *ids])
        (found,) = _core.generate(model, [prompt], options)
        assert found[0].ids == theirs


@pytest.mark.parametrize("name", [*EXACT, INT8])
def test_ids_of_texts_are_those_of_keras_hub(name: str) -> None:
    words = tokenizers.load(FOLDER / name)
    for text, ids in keras_presets.expected(name)["texts"].items():
        assert [int(i) for i in words(text)] == ids


@pytest.mark.parametrize("name", [*EXACT, INT8])
def test_a_preset_read_and_written_is_the_same(name: str, tmp_path: Path) -> None:
    model = load(FOLDER / name, "float32" if name == INT8 else None)
    tokenizer = tokenizers.load(FOLDER / name)
    keras_format.save(tmp_path / "one", model, family_of(model), tokenizer=tokenizer)
    assert keras_presets.same_weights(load(tmp_path / "one"), model)
    keras_format.save(
        tmp_path / "many", model, family_of(model), tokenizer=tokenizer, max_shard_size=2e-5
    )
    assert len(list((tmp_path / "many").glob("model_*.weights.h5"))) > 1
    assert keras_presets.same_weights(load(tmp_path / "many"), model)


def test_a_bfloat16_preset_stays_bfloat16(tmp_path: Path) -> None:
    model = load(FOLDER / "bart_032_bfloat16")
    assert model.dtype == "bfloat16"
    keras_format.save(tmp_path, model, family_of(model))
    assert load(tmp_path).dtype == keras_format.read_dtype(tmp_path) == "bfloat16"
    size = (tmp_path / "model.weights.h5").stat().st_size
    keras_format.save(tmp_path, load(tmp_path, "float32"), family_of(model))
    assert size < (tmp_path / "model.weights.h5").stat().st_size


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("bart_032", {"pad_id": 1, "bos_id": 0, "eos_ids": [2], "decoder_start_id": 2}),
        ("gpt2_017", {"pad_id": 0, "bos_id": 267, "eos_ids": [267], "decoder_start_id": -1}),
    ],
)
def test_special_ids_come_from_the_vocabulary(
    name: str, ids: dict[str, Any], tmp_path: Path
) -> None:
    spec = keras_format.read_spec(FOLDER / name, FAMILIES)
    assert {key: spec[key] for key in ids} == ids

    folder = keras_presets.copy(name, tmp_path)
    path = folder / "assets" / "tokenizer" / "vocabulary.json"
    vocabulary = json.loads(path.read_text("utf-8"))
    path.unlink()
    spec = keras_format.read_spec(folder, FAMILIES)
    assert spec["bos_id"] == spec["decoder_start_id"] == -1
    assert spec["eos_ids"] == []
    del vocabulary["</s>" if name.startswith("bart") else "<|endoftext|>"]
    path.write_text(json.dumps(vocabulary), "utf-8")
    with pytest.raises(ValueError, match=r'vocabulary\.json": "<.*>" must have an id, got None'):
        keras_format.read_spec(folder, FAMILIES)


def test_bart_gets_the_unused_rows_of_positions_that_transformers_wants() -> None:
    model = load(FOLDER / "bart_032")
    stack = json.loads(model.spec)["encoder"]
    assert (stack["max_positions"], stack["position_offset"]) == (32, 2)
    table = model.weight("encoder.positions").numpy()
    assert table.shape == (34, 16)
    assert not table[:2].any()
    assert table[2:].any(axis=1).all()


@pytest.mark.parametrize("offset", [0, 2, 5])
def test_positions_are_written_from_the_spec_s_offset_on(offset: int, tmp_path: Path) -> None:
    model = load(FOLDER / "bart_032")
    spec = json.loads(model.spec)
    weights = {name: model.weight(name) for name, _, _ in _core.weight_table(model.spec)}
    for stack in ("encoder", "decoder"):
        spec[stack]["position_offset"] = offset
        table = model.weight(f"{stack}.positions").numpy()[2:]
        unused = np.full((offset, 16), 7, np.float32)
        weights[f"{stack}.positions"] = _core.Tensor(np.concatenate([unused, table]))
    moved = _core.Model.build(json.dumps(spec), weights, num_threads=1)
    keras_format.save(tmp_path, moved, family_of(model))
    for stack in ("encoder", "decoder"):
        table = load(tmp_path).weight(f"{stack}.positions").numpy()
        assert np.array_equal(table, model.weight(f"{stack}.positions").numpy())


def test_the_old_library_s_name_is_known_and_other_classes_are_named(tmp_path: Path) -> None:
    folder = keras_presets.copy("gpt2_017", tmp_path)
    config = json.loads((folder / "config.json").read_text("utf-8"))

    def write(name: object) -> None:
        changed = {**config, "registered_name": name}
        (folder / "config.json").write_text(json.dumps(changed), "utf-8")

    write("keras_nlp>GPT2Backbone")
    assert load(folder).family == "gpt2"
    write("keras_hub>GemmaBackbone")
    with pytest.raises(ValueError, match='BartBackbone or GPT2Backbone, got "keras_hub>GemmaBackb'):
        load(folder)
    write(None)
    with pytest.raises(ValueError, match=r'config\.json": registered_name must be a string'):
        load(folder)


def test_a_preset_is_told_by_its_config(golden: Path, tmp_path: Path) -> None:
    assert keras_format.is_keras_preset(FOLDER / "bart_032")
    assert not keras_format.is_keras_preset(golden / "bart_tiny_hf")
    assert not keras_format.is_keras_preset(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text("[", "utf-8")
    with pytest.raises(ValueError, match=r'config\.json": must be JSON'):
        keras_format.is_keras_preset(tmp_path)


def _quantised(mode: str, source: str | None) -> dict[str, Any]:
    config = {"mode": mode, "source_name": source}
    one = {"module": "keras", "class_name": "QuantizedDTypePolicy", "config": config}
    fields = {"default_policy": None, "policy_map": {"token_embedding": one}}
    return {"module": "keras", "class_name": "DTypePolicyMap", "config": fields}


@pytest.mark.parametrize(
    ("policy", "wanted"),
    [
        (None, None),
        ("mixed_bfloat16", "bfloat16"),
        ("float16", "float32"),
        ({"class_name": "DTypePolicy", "config": {"name": "mixed_float16"}}, "float32"),
        ({"class_name": "DTypePolicy", "config": {"name": "int8_from_bfloat16"}}, "int8"),
        (_quantised("int8", None), "int8"),
        (_quantised("int8", "bfloat16"), "int8"),
    ],
)
def test_the_saved_policy_becomes_a_dtype_of_the_engine(
    policy: object, wanted: str | None, tmp_path: Path
) -> None:
    config = {"registered_name": "keras_hub>BartBackbone", "config": {"dtype": policy}}
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    assert keras_format.read_dtype(tmp_path) == wanted


@pytest.mark.parametrize(
    ("policy", "got"),
    [
        (_quantised("int4/128", None), "int4/128"),
        ({"config": {"name": "float8_from_float32"}}, "float8"),
        ("float64", "float64"),
        (3, "3"),
    ],
)
def test_a_policy_that_the_engine_lacks_is_refused(
    policy: object, got: str, tmp_path: Path
) -> None:
    folder = keras_presets.copy("gpt2_017", tmp_path)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["config"]["dtype"] = policy
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(
        ValueError, match=rf"dtype must be one of .* or quantised to int8, got '?{got}"
    ):
        load(folder)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("num_layers", None, "num_layers must be a whole number >= 0, got None"),
        ("hidden_dim", 2.5, "hidden_dim must be a whole number >= 1, got 2.5"),
        ("num_heads", 3, "num_heads must divide hidden_dim 16, got 3"),
        ("dropout", "no", "dropout must be from 0 up to 1, got 'no'"),
    ],
)
def test_a_wrong_field_of_the_config_is_named(
    field: str, value: object, words: str, tmp_path: Path
) -> None:
    folder = keras_presets.copy("gpt2_017", tmp_path)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["config"][field] = value
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(ValueError, match=words):
        keras_format.read_spec(folder, FAMILIES)


def test_the_files_are_those_that_keras_hub_writes(tmp_path: Path) -> None:
    model = load(FOLDER / "bart_032")
    lengths = {"encoder_sequence_length": 24, "decoder_sequence_length": 12}
    keras_format.save(
        tmp_path,
        model,
        family_of(model),
        tokenizer=tokenizers.load(FOLDER / "bart_032"),
        preprocessor=("BartSeq2SeqLMPreprocessor", lengths),
        task=("BartSeq2SeqLM", "bart_seq2_seq_lm"),
    )
    theirs = {path.relative_to(FOLDER / "bart_032") for path in (FOLDER / "bart_032").rglob("*")}
    ours = {path.relative_to(tmp_path) for path in tmp_path.rglob("*")}
    assert theirs - ours == {Path("expected.json")}
    assert ours <= theirs

    def read(folder: Path, name: str) -> dict[str, Any]:
        value: dict[str, Any] = json.loads((folder / name).read_text("utf-8"))
        for nested in (value, value.get("config", {}).get("preprocessor", {})):
            inner = nested.get("config", {}).get("tokenizer", nested).get("config", {})
            inner.get("unsplittable_tokens", []).sort()  # KerasHub writes a set
        return value

    for name in ("config.json", "tokenizer.json"):
        assert read(tmp_path, name) == read(FOLDER / "bart_032", name)
    wanted = read(FOLDER / "bart_032", "preprocessor.json")
    wanted["config"].update(lengths)
    assert read(tmp_path, "preprocessor.json") == wanted
    task = read(FOLDER / "bart_032", "task.json")
    task["config"]["preprocessor"]["config"].update(lengths)
    assert read(tmp_path, "task.json") == task
    assert keras_format.read_object(tmp_path, "task.json") == json.loads(
        (tmp_path / "task.json").read_text("utf-8")
    )
    ours_metadata = read(tmp_path, "metadata.json")
    theirs_metadata = read(FOLDER / "bart_032", "metadata.json")
    for name in ("keras_hub_version", "parameter_count", "tasks"):
        assert ours_metadata[name] == theirs_metadata[name]


def test_an_object_that_is_not_there_is_none_and_a_broken_one_is_named(tmp_path: Path) -> None:
    assert keras_format.read_object(tmp_path, "task.json") is None
    (tmp_path / "task.json").write_text('{"registered_name": "keras_hub>X"}', "utf-8")
    with pytest.raises(ValueError, match=r'task\.json": config must be an object, got None'):
        keras_format.read_object(tmp_path, "task.json")
    with pytest.raises(FileNotFoundError, match=r'config\.json": the file must exist, got none'):
        keras_format.read_spec(tmp_path, FAMILIES)


def _spec(change: Callable[[dict[str, Any]], None]) -> _core.Model:
    """BART's model with another spec, and weights of ones."""
    spec = json.loads(load(FOLDER / "bart_032").spec)
    change(spec)
    text = _core.validate_spec(json.dumps(spec))
    weights = {name: np.ones(shape, np.float32) for name, shape, _ in _core.weight_table(text)}
    return _core.Model.build(text, weights, num_threads=1)


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        (lambda spec: spec["head"].update(bias=True), "head.bias"),
        (lambda spec: spec["head"].update(tied=False), "head.tied"),
        (lambda spec: spec.update(embed_scale=4.0), "embed_scale"),
        (lambda spec: spec["encoder"].update(layers=1), "encoder.layers"),
        (lambda spec: spec["encoder"].update(heads=4, kv_heads=4, head_dim=4), "encoder.heads"),
        (lambda spec: spec["decoder"].update(ffn_dim=40), "encoder.ffn_dim"),
        (lambda spec: spec["decoder"].update(act="relu", norm_eps=1e-6), "decoder.norm_eps"),
        (lambda spec: spec["encoder"].update(place="pre"), "encoder.place"),
    ],
)
def test_what_the_form_cannot_hold_is_refused_by_name(
    change: Callable[[dict[str, Any]], None], fields: str, tmp_path: Path
) -> None:
    model = _spec(change)
    words = rf'must hold every field of the spec, got others in .*{fields}.*Use format="transf'
    with pytest.raises(ValueError, match=f"save_to_preset: KerasHub's form {words}"):
        keras_format.save(tmp_path / "new", model, family_of(model))
    with pytest.raises(ValueError, match=f"save_weights: KerasHub's form {words}"):
        keras_format.save_weights_h5(tmp_path / "x.weights.h5", model, family_of(model))
    assert not list(tmp_path.iterdir())


def test_training_only_fields_and_ids_do_not_keep_a_model_from_being_written(
    tmp_path: Path,
) -> None:
    def change(spec: dict[str, Any]) -> None:
        spec.update(attention_dropout=0.0, activation_dropout=0.3, eos_ids=[2, 5], bos_id=9)

    model = _spec(change)
    keras_format.save(tmp_path, model, family_of(model))
    assert load(tmp_path).num_parameters == model.num_parameters


def test_classes_of_another_family_are_refused(tmp_path: Path) -> None:
    model = load(FOLDER / "bart_032")
    gpt2 = tokenizers.load(FOLDER / "gpt2_032")
    for words, options in (
        ("task must be a BartSeq2SeqLM", {"task": ("GPT2CausalLM", "x")}),
        ("preprocessor must be a BartSeq2SeqLMPre", {"preprocessor": ("Mine", {})}),
        (
            "tokenizer must be a BartTokenizer",
            {"tokenizer": gpt2, "preprocessor": ("BartSeq2SeqLMPreprocessor", {})},
        ),
    ):
        with pytest.raises(ValueError, match=words):
            keras_format.save(tmp_path / "new", model, family_of(model), **options)
    assert not (tmp_path / "new").exists()


def test_writing_again_leaves_no_weights_of_the_other_form(tmp_path: Path) -> None:
    bart, gpt2 = load(FOLDER / "bart_032"), load(FOLDER / "gpt2_032")
    (tmp_path / "note.txt").write_text("kept", "utf-8")
    for model, size in ((bart, 10.0), (gpt2, 2e-5), (bart, 2e-5), (gpt2, 10.0)):
        keras_format.save(tmp_path, model, family_of(model), max_shard_size=size)
        assert load(tmp_path).num_parameters == model.num_parameters
    weights = {path.name for path in tmp_path.glob("*weights*")}
    assert weights == {"model.weights.h5"}
    assert (tmp_path / "note.txt").read_text("utf-8") == "kept"
