# SPDX-License-Identifier: Apache-2.0
"""Tasks whose matrices are int8: policies, `quantize`, presets, and what refuses them."""

import json
import pickle
from pathlib import Path
from typing import Any

import fuseq
import numpy as np
import pytest

pytest.importorskip("h5py")

import h5py
import keras_presets
from fuseq import _core, cli
from fuseq.models import Backbone, BartBackbone, CausalLM, GPT2Backbone, GPT2CausalLM
from fuseq.models.dtypes import engine_dtype
from tiny_tasks import BART, GPT2, SHAPE, bart, gpt2, inputs_of

INT8 = keras_presets.FOLDER / keras_presets.INT8
_LAYER = "transformer_decoder/"
_ATTENTION = f"{_LAYER}_self_attention_layer/"
PLACES = {  # where Keras keeps a matrix, the number of its scale, its axes of inputs
    "embed.tokens": ("reversible_embedding", "1", 0),
    "decoder.0.attn.q.weight": (f"{_ATTENTION}query_dense", "2", 1),
    "decoder.0.attn.k.weight": (f"{_ATTENTION}key_dense", "2", 1),
    "decoder.0.attn.v.weight": (f"{_ATTENTION}value_dense", "2", 1),
    "decoder.0.attn.o.weight": (f"{_ATTENTION}output_dense", "2", 2),
    "decoder.0.ffn.up.weight": (f"{_LAYER}_feedforward_intermediate_dense", "2", 1),
    "decoder.0.ffn.down.weight": (f"{_LAYER}_feedforward_output_dense", "2", 1),
}


@pytest.fixture(params=[bart, gpt2], ids=["bart", "gpt2"])
def task(request: Any) -> CausalLM:
    made: CausalLM = request.param()
    made.compile(sampler="greedy")
    return made


def same(one: Any, other: Any) -> bool:
    """Whether two backbones have equal weights."""
    return all(
        np.array_equal(*(each.model.weight(name).float().numpy() for each in (one, other)))
        for name, _, _ in _core.weight_table(one.model.spec)
    )


def policy(mode: str, source: str | None) -> dict[str, Any]:
    config = {"mode": mode, "source_name": source}
    return {"module": "keras", "class_name": "QuantizedDTypePolicy", "config": config}


def policies(*found: object) -> dict[str, Any]:
    by_layer = {f"layer_{number}": one for number, one in enumerate(found)}
    config = {"default_policy": None, "policy_map": by_layer}
    return {"module": "keras", "class_name": "DTypePolicyMap", "config": config}


class Policy:
    """What an object of Keras looks like."""

    name = "int8_from_bfloat16"


# ---- dtypes ----


@pytest.mark.parametrize(
    "dtype",
    [
        "int8",
        np.int8,
        np.dtype("int8"),
        "int8_from_float32",
        "int8_from_bfloat16",
        "int8_from_mixed_bfloat16",
        Policy(),
        {"class_name": "DTypePolicy", "config": {"name": "int8_from_float32"}},
        policy("int8", None),
        policy("int8", "bfloat16"),
        policies("float32", policy("int8", "float32")),
    ],
)
def test_int8_has_many_names(dtype: object) -> None:
    assert engine_dtype(dtype) == "int8"
    assert GPT2Backbone(vocabulary_size=30, dtype=dtype, **SHAPE).dtype == "int8"


def test_a_map_of_policies_without_int8_is_a_float() -> None:
    assert engine_dtype(policies("bfloat16", "float32")) == "float32"
    assert engine_dtype(policies("bfloat16", None)) == "bfloat16"
    assert engine_dtype(policies()) is None


@pytest.mark.parametrize(
    ("dtype", "words"),
    [
        ("int4", r"got 'int4'\. Use \"int8\": kernels for int4"),
        ("int4_from_float32", r"got 'int4_from_float32'\. Use \"int8\""),
        ("int8_from_float16", r"got 'int8_from_float16'\. Use \"bfloat16\""),
        ("int8_from_int8", "got 'int8_from_int8'"),
        ("int8_from_", "got 'int8_from_'"),
        ("float32_from_int8", "got 'float32_from_int8'"),
        ("float16", r"got 'float16'\. Use \"bfloat16\""),
        ("uint8", "got 'uint8'"),
        (policy("float8", "float32"), "got 'float8_from_float32'"),
        (policies(policy("int4", None)), "got 'int4'"),
        ({"class_name": "DTypePolicyMap", "config": {}}, "must be an object with a policy_map"),
        ({"class_name": "DTypePolicyMap"}, "must be an object with a policy_map"),
    ],
)
def test_what_only_looks_like_int8_is_refused(dtype: object, words: str) -> None:
    with pytest.raises(ValueError, match=f"^dtype: .*{words}"):
        engine_dtype(dtype)


@pytest.mark.parametrize("folder", [BART, GPT2])
def test_presets_load_as_int8(folder: Path) -> None:
    exact = CausalLM.from_preset(folder)
    task = CausalLM.from_preset(folder, dtype="int8")
    assert task.backbone.dtype == task.backbone.model.dtype == "int8"
    assert Backbone.from_preset(folder, dtype="int8_from_float32").dtype == "int8"
    assert task.count_params() == exact.count_params()
    shown: list[list[str]] = [[], []]
    for each, lines in zip((task, exact), shown, strict=True):
        each.summary(print_fn=lines.append)
    assert shown[0] == shown[1]
    drawn = CausalLM.from_preset(folder, dtype="int8", load_weights=False)
    assert (drawn.backbone.dtype, drawn.backbone.model.dtype) == ("int8", "int8")


@pytest.mark.parametrize("kind", [BartBackbone, GPT2Backbone])
def test_a_config_of_an_int8_backbone_makes_another(kind: Any) -> None:
    backbone = kind(vocabulary_size=30, dtype="int8", seed=3, **SHAPE)
    other = kind.from_config({**backbone.get_config(), "seed": 3})
    assert other.dtype == "int8"
    assert same(backbone, other)
    exact = kind(vocabulary_size=30, seed=3, **SHAPE)
    assert not same(exact, backbone)
    exact.quantize("int8")
    assert same(exact, backbone)


# ---- quantize ----


def test_a_quantised_task_goes_on_in_int8(task: CausalLM) -> None:
    before = task.backbone.model
    logits = task.predict(inputs_of(task), verbose=0)
    assert task.quantize("int8") is None  # type: ignore[func-returns-value]
    assert task.backbone.dtype == task.backbone.model.dtype == "int8"
    assert before.dtype == "float32"
    found = task.predict(inputs_of(task), verbose=0)
    difference = np.abs(found - logits).max() / np.abs(logits).max()
    assert 0 < difference < 0.2
    other = type(task)(
        type(task.backbone).from_config(task.backbone.get_config()), task.preprocessor
    )
    other.backbone.engine.replace(before.to("int8"))
    other.compile(sampler="greedy")
    np.testing.assert_array_equal(other.predict(inputs_of(task), verbose=0), found)
    assert task.generate(inputs_of(task)) == other.generate(inputs_of(task))


def test_a_backbone_is_quantised_for_all_its_tasks(task: CausalLM) -> None:
    other = type(task)(task.backbone, task.preprocessor)
    task.backbone.quantize(mode="int8")
    assert other.backbone.dtype == "int8"
    with pytest.raises(ValueError, match=r"^quantize: .* already quantized to int8\. Load it with"):
        other.quantize("int8")


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({}, ValueError, 'quantize: mode must be "int8", got None'),
        ({"mode": "int7"}, ValueError, "mode must be \"int8\", got 'int7'"),
        ({"mode": ["int8"]}, ValueError, r"mode must be \"int8\", got \['int8'\]"),
        ({"mode": "int4"}, NotImplementedError, "got 'int4', which is not in fuseq yet"),
        ({"mode": "float8"}, NotImplementedError, "got 'float8'"),
        ({"mode": "gptq", "config": None}, NotImplementedError, "got 'gptq'"),
        ({"mode": "awq"}, NotImplementedError, "got 'awq'"),
        ({"config": {"a": 1}}, NotImplementedError, "config must be None, got {'a': 1}"),
        ({"mode": "int8", "filters": "dense"}, NotImplementedError, "filters must be None, got"),
    ],
)
def test_what_quantize_does_not_have_is_named(
    task: CausalLM, arguments: dict[str, Any], kind: type[Exception], words: str
) -> None:
    for each in (task, task.backbone):
        with pytest.raises(kind, match=words):
            each.quantize(**arguments)
    assert task.backbone.dtype == "float32"


# ---- KerasHub's int8 presets ----


def test_an_int8_preset_of_keras_hub_loads_as_int8() -> None:
    task = GPT2CausalLM.from_preset(INT8)
    assert task.backbone.dtype == "int8"
    assert fuseq.load_model(INT8).dtype == "int8"
    assert CausalLM.from_preset(INT8, load_weights=False).backbone.dtype == "int8"
    for dtype in ("float32", "bfloat16"):
        assert CausalLM.from_preset(INT8, dtype=dtype).backbone.dtype == dtype
        assert fuseq.load_model(INT8, dtype=dtype).dtype == dtype


def test_its_whole_numbers_and_scales_stay_what_they_are() -> None:
    model, exact = fuseq.load_model(INT8), fuseq.load_model(INT8, dtype="float32")
    stored = {}
    with h5py.File(INT8 / "model.weights.h5") as file:
        for name, (place, number, inputs) in PLACES.items():
            group = file[f"layers/{place}/vars"]
            whole = group["0"][()]
            if inputs:
                whole = whole.reshape(int(np.prod(whole.shape[:inputs])), -1).T
            stored[name] = whole, group[number][()].reshape(-1, 1)
    for name, shape, is_matrix in _core.weight_table(model.spec):
        found, wanted = (each.weight(name).numpy() for each in (model, exact))
        if not is_matrix:
            assert np.array_equal(found, wanted), name
            continue
        whole, scales = stored.pop(name)
        assert (whole.dtype, whole.shape) == (np.int8, shape)
        assert (np.abs(whole).max(axis=1) == 127).all()
        steps = np.abs(found).max(axis=1, keepdims=True) / 127
        assert np.array_equal(np.rint(found / steps), whole), name
        np.testing.assert_allclose(steps * scales, 1, rtol=5e-7)
        np.testing.assert_allclose(found, wanted, rtol=5e-7)
    assert stored == {}


def test_a_preset_of_which_a_part_is_int8_loads_as_floats(tmp_path: Path) -> None:
    folder = keras_presets.copy(keras_presets.INT8, tmp_path)
    with h5py.File(folder / "model.weights.h5", "r+") as file:
        group = file["layers/reversible_embedding/vars"]
        values = group["0"][()].astype(np.float32) / group["1"][()][:, None]
        del group["0"], group["1"]
        group.create_dataset("0", data=values)
    backbone = Backbone.from_preset(folder)
    assert backbone.dtype == fuseq.load_model(folder).dtype == "float32"
    assert same(backbone, Backbone.from_preset(INT8, dtype="float32"))
    assert Backbone.from_preset(folder, dtype="int8").dtype == "int8"


# ---- saving ----


def test_a_folder_of_ours_holds_int8(task: CausalLM, tmp_path: Path) -> None:
    task.quantize("int8")
    task.save_to_preset(tmp_path / "saved", format="fuseq")
    again = CausalLM.from_preset(tmp_path / "saved")
    again.compile(sampler="greedy")
    assert again.backbone.dtype == "int8"
    assert same(again.backbone, task.backbone)
    np.testing.assert_array_equal(
        again.predict(inputs_of(task), verbose=0), task.predict(inputs_of(task), verbose=0)
    )
    assert again.generate(inputs_of(task)) == task.generate(inputs_of(task))
    exact = CausalLM.from_preset(tmp_path / "saved", dtype="float32")
    assert exact.backbone.dtype == "float32"
    exact.save_to_preset(tmp_path / "floats")  # KerasHub's form
    for each in (exact, CausalLM.from_preset(tmp_path / "floats")):
        logits = each.predict(inputs_of(task), verbose=0)
        np.testing.assert_array_equal(logits, exact.predict(inputs_of(task), verbose=0))


def test_other_forms_name_int8_and_a_form_that_can(task: CausalLM, tmp_path: Path) -> None:
    task.quantize("int8")
    target = tmp_path / "saved"
    for save, words in (
        (lambda: task.save_to_preset(target), "KerasHub's form"),
        (lambda: task.backbone.save_to_preset(target), "KerasHub's form"),
        (lambda: task.save_to_preset(target, format="transformers"), "checkpoint"),
        (lambda: task.export_to_transformers(target), "checkpoint"),
        (lambda: task.save_weights(tmp_path / "a.weights.h5"), "KerasHub's form"),
        (lambda: task.save_weights(tmp_path / "a.safetensors"), "a .safetensors file"),
    ):
        with pytest.raises(ValueError, match=rf'{words} must get .* got int8\. .*format="fuseq"'):
            save()
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_loaded_later_become_int8(task: CausalLM, tmp_path: Path) -> None:
    task.save_weights(tmp_path / "floats.safetensors")
    wanted = task.backbone.model.to("int8")
    config = {**task.backbone.get_config(), "dtype": "int8"}
    backbone = type(task.backbone).from_config(config)
    backbone.load_weights(tmp_path / "floats.safetensors")
    assert backbone.dtype == "int8"
    assert keras_presets.same_weights(backbone.model, wanted)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("form", ["fuseq", "keras_hub"])
def test_drawn_weights_have_the_dtype_that_the_preset_is_stored_in(
    task: CausalLM, dtype: str, form: str, tmp_path: Path
) -> None:
    if (form, dtype) == ("keras_hub", "int8"):
        folder = INT8
    else:
        folder = tmp_path / "saved"
        task.save_to_preset(tmp_path / "floats", format="fuseq")
        stored = type(task).from_preset(tmp_path / "floats", dtype=dtype)
        stored.save_to_preset(folder, format=form)
    for load_weights in (True, False):
        backbone = Backbone.from_preset(folder, load_weights=load_weights)
        assert (backbone.dtype, backbone.model.dtype) == (dtype, dtype)
        backbone = Backbone.from_preset(folder, load_weights=load_weights, dtype="float32")
        assert backbone.dtype == "float32"
    if form == "fuseq":  # a spec without weights
        (folder / "model.safetensors").unlink()
        assert Backbone.from_preset(folder, load_weights=False).dtype == "float32"


# ---- pickling ----


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("folder", [BART, GPT2, INT8])
def test_an_int8_task_survives_pickling(folder: Path, dtype: str) -> None:
    task = CausalLM.from_preset(folder, dtype=dtype)
    if dtype != "int8":
        task.quantize("int8")
    for one, other in (
        (task.backbone, pickle.loads(pickle.dumps(task)).backbone),
        (task.backbone, pickle.loads(pickle.dumps(task.backbone))),
        (task.backbone, pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(task)))).backbone),
    ):
        assert other.dtype == "int8"
        assert same(one, other)


def test_a_quantised_task_is_pickled_after_its_folder_was_saved_over(tmp_path: Path) -> None:
    task = gpt2()
    task.save_to_preset(tmp_path / "mine", format="fuseq")
    task = CausalLM.from_preset(tmp_path / "mine")
    task.quantize("int8")
    task.save_to_preset(tmp_path / "mine", format="fuseq")
    again = pickle.loads(pickle.dumps(task))
    assert again.backbone.dtype == "int8"
    assert same(task.backbone, again.backbone)
    bart().save_weights(tmp_path / "mine" / "model.safetensors")
    with pytest.raises(ValueError, match="weights that no folder holds"):
        pickle.dumps(task)


# ---- training ----


def test_int8_is_not_trained_and_floats_of_it_are(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    texts = ["the quick fox", "a fox"]
    for task in (
        CausalLM.from_preset(INT8, sequence_length=8),
        CausalLM.from_preset(GPT2, dtype="int8", sequence_length=8),
        CausalLM.from_preset(GPT2, dtype="int8", load_weights=False, sequence_length=8),
    ):
        for call in (task.torch_module, lambda t=task: t.fit(texts, verbose=0)):
            with pytest.raises(ValueError, match=r'floats to be trained, got int8\. .*"float32"'):
                call()
    task = CausalLM.from_preset(INT8, dtype="float32", sequence_length=8)
    history = task.fit(texts, verbose=0)
    assert np.isfinite(history.history["loss"][0])
    task.save_to_preset(tmp_path / "trained")
    assert CausalLM.from_preset(tmp_path / "trained").backbone.dtype == "float32"


def test_a_trained_task_is_quantised_with_its_new_weights() -> None:
    pytest.importorskip("torch")
    task = CausalLM.from_preset(GPT2, sequence_length=8)
    old = task.backbone.model
    task.compile(optimizer={"class_name": "Adam", "config": {"learning_rate": 1e-2}})
    task.fit(["the quick fox", "a fox"] * 4, epochs=2, verbose=0, seed=1)
    module = task.torch_module()
    new = task.backbone.model
    assert not keras_presets.same_weights(old, new)
    task.quantize("int8")
    assert keras_presets.same_weights(task.backbone.model, new.to("int8"))
    with pytest.raises(ValueError, match="weights that no folder holds"):
        pickle.dumps(task)
    kept = task.backbone.model
    for parameter in module.parameters():  # what is left of it is the caller's alone
        parameter.data.zero_()
    module.zero_grad()
    assert task.backbone.model is kept
    for call in (
        lambda: task.fit(["a fox"], verbose=0),
        lambda: task.evaluate(["a fox"], verbose=0),
        lambda: task.get_weights(),
        lambda: task.backbone.enable_lora(rank=2),
    ):
        with pytest.raises(ValueError, match="floats to be trained, got int8"):
            call()
    assert task.training is None or task.training.running is None


def test_adapters_are_merged_before(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    task = CausalLM.from_preset(GPT2)
    task.backbone.enable_lora(rank=2)
    with torch.no_grad():
        for name, parameter in task.torch_module().named_parameters():
            if "lora_kernel_b" in name:
                parameter.add_(0.3)
    merged = task.backbone.model
    assert not keras_presets.same_weights(merged, CausalLM.from_preset(GPT2).backbone.model)
    task.quantize("int8")
    assert keras_presets.same_weights(task.backbone.model, merged.to("int8"))


@pytest.mark.parametrize("what", ["task", "backbone", "another task"])
@pytest.mark.parametrize("moment", ["on_train_begin", "on_train_batch_end", "on_epoch_end"])
def test_quantising_in_the_middle_of_fit_is_refused(what: str, moment: str) -> None:
    pytest.importorskip("torch")
    from fuseq.callbacks import LambdaCallback

    task = CausalLM.from_preset(GPT2, sequence_length=8)
    other = type(task)(task.backbone, task.preprocessor)
    asked = {"task": task, "backbone": task.backbone, "another task": other}[what]
    caught = []

    def quantize(*_: object) -> None:
        with pytest.raises(ValueError, match="quantize: fit must have ended, got a call") as error:
            asked.quantize("int8")
        caught.append(error)

    old = task.backbone.model
    task.fit(["a fox"], callbacks=[LambdaCallback(**{moment: quantize})], verbose=0)
    assert len(caught) == 1
    assert task.backbone.dtype == "float32"
    new = task.backbone.model
    assert not keras_presets.same_weights(old, new)
    asked.quantize("int8")
    assert keras_presets.same_weights(task.backbone.model, new.to("int8"))


def test_a_fit_that_failed_is_no_longer_running() -> None:
    pytest.importorskip("torch")
    from fuseq.callbacks import LambdaCallback

    task = CausalLM.from_preset(GPT2, sequence_length=8)
    early = LambdaCallback(on_epoch_end=lambda epoch, logs: task.backbone.quantize("int8"))
    with pytest.raises(ValueError, match="quantize: fit must have ended, got a call while"):
        task.fit(["a fox"], callbacks=[early], verbose=0)
    task.quantize("int8")
    assert task.backbone.dtype == "int8"


# ---- the command ----


def call(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


def test_the_command_converts_to_int8_and_tells_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("convert", GPT2, tmp_path / "small", "--dtype", "int8") == 0
    assert same(Backbone.from_preset(tmp_path / "small"), Backbone.from_preset(GPT2, dtype="int8"))
    capsys.readouterr()
    facts = []
    for folder, more in ((tmp_path / "small", ()), (INT8, ()), (GPT2, ("--dtype", "int8"))):
        assert call("info", folder, "--json", *more) == 0
        facts.append(json.loads(capsys.readouterr().out))
    exact = fuseq.load_model(GPT2)
    for each in facts:
        assert (each["dtype"], each["parameters"]) == ("int8", exact.num_parameters)
        assert each["bytes_in_memory"] < exact.num_bytes
    texts = []
    for folder, more in ((tmp_path / "small", ()), (GPT2, ("--dtype", "int8"))):
        words = ("generate", "--preset", folder, "the quick", "--max-length", 12, *more)
        assert call(*words) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != ""
    assert call("convert", INT8, tmp_path / "no", "--format", "keras_hub") == 1
    assert "got int8" in capsys.readouterr().err
    assert (
        call("convert", INT8, tmp_path / "no", "--format", "keras_hub", "--dtype", "float32") == 0
    )
    assert call("generate", "--preset", GPT2, "a", "--dtype", "int4") == 2
    assert "int4" in capsys.readouterr().err
