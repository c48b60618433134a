# SPDX-License-Identifier: Apache-2.0
"""Adapters in the form of the peft library; `record_peft.py` recorded what peft computes."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fuseq._core import SafeTensorsFile
from fuseq.models import Backbone
from fuseq.training import adapters as training_adapters

CASES = ("bart", "bart_all", "gpt2", "gpt2_all")


@pytest.fixture(scope="module")
def expected(golden: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((golden / "peft" / "logits.json").read_text("utf-8"))
    return found


def load(golden: Path, family: str) -> Backbone:
    return Backbone.from_preset(golden / f"{family}_tiny_hf", num_threads=1)


def with_adapter(golden: Path, case: str) -> Backbone:
    backbone = load(golden, case.split("_")[0])
    backbone.load_peft(golden / "peft" / case)
    return backbone


def inputs_of(backbone: Backbone, expected: dict[str, Any]) -> dict[str, Any]:
    if not backbone.is_seq2seq:
        return {"token_ids": expected["ids"]}
    return {"encoder_token_ids": expected["ids"], "decoder_token_ids": expected["decoder_ids"]}


def logits_of(backbone: Backbone, expected: dict[str, Any]) -> Any:
    return backbone.forward(inputs_of(backbone, expected))[0]


def trained_logits_of(backbone: Backbone, expected: dict[str, Any]) -> Any:
    inputs = {k: torch.tensor(v) for k, v in inputs_of(backbone, expected).items()}
    with torch.no_grad():
        return backbone.torch_module().eval()(inputs).numpy()


def arrays(folder: Path) -> dict[str, Any]:
    file = SafeTensorsFile(folder / "adapter_model.safetensors")
    return {name: tensor.numpy() for name, tensor in file.tensors().items()}


def changed(golden: Path, folder: Path, case: str = "gpt2", **fields: Any) -> Path:
    """A copy of an adapter whose config has other fields."""
    shutil.copytree(golden / "peft" / case, folder)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **fields}), "utf-8")
    return folder


@pytest.mark.parametrize("case", CASES)
def test_logits_are_those_of_peft_in_the_engine_and_in_torch(
    golden: Path, expected: dict[str, Any], case: str
) -> None:
    backbone = with_adapter(golden, case)
    wanted = np.array(expected["logits"][case])
    plain = logits_of(load(golden, case.split("_")[0]), expected)
    assert np.abs(plain - wanted).max() > 0.1
    np.testing.assert_allclose(logits_of(backbone, expected), wanted, atol=1e-4)
    # Recorded with six digits; how sums are cut over threads shows in the fifth.
    np.testing.assert_allclose(trained_logits_of(backbone, expected), wanted, atol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_a_loaded_adapter_is_written_as_it_was(golden: Path, tmp_path: Path, case: str) -> None:
    with_adapter(golden, case).save_peft(tmp_path / "saved", base_model_name_or_path="mine")
    theirs, ours = arrays(golden / "peft" / case), arrays(tmp_path / "saved")
    assert list(theirs) == list(ours)
    for name, array in theirs.items():
        np.testing.assert_array_equal(array, ours[name])
    configs = [
        json.loads((folder / "adapter_config.json").read_text("utf-8"))
        for folder in (golden / "peft" / case, tmp_path / "saved")
    ]
    for key in ("r", "lora_alpha", "lora_dropout", "use_rslora", "fan_in_fan_out", "task_type"):
        assert configs[0][key] == configs[1][key], key
    assert sorted(configs[0]["target_modules"]) == configs[1]["target_modules"]
    assert configs[1]["base_model_name_or_path"] == "mine"


def test_patterns_of_ranks_and_alphas_are_written_by_whole_names(
    golden: Path, tmp_path: Path, expected: dict[str, Any]
) -> None:
    with_adapter(golden, "bart_all").save_peft(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text("utf-8"))
    assert config["rank_pattern"] == {
        "model.encoder.layers.0.fc1": 3,
        **{f"model.decoder.layers.{i}.encoder_attn.k_proj": 1 for i in range(3)},
    }
    assert set(config["alpha_pattern"].values()) == {5}
    again = load(golden, "bart")
    again.load_peft(tmp_path)
    wanted = expected["logits"]["bart_all"]
    np.testing.assert_allclose(logits_of(again, expected), wanted, atol=1e-4)


@pytest.mark.parametrize("case", ["bart_all", "gpt2_all"])
def test_peft_loads_what_was_trained_here(
    golden: Path, tmp_path: Path, expected: dict[str, Any], case: str
) -> None:
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    backbone = with_adapter(golden, case)
    with torch.no_grad():
        for parameter in backbone.torch_module().parameters():
            if parameter.requires_grad:
                parameter *= 1.5
    backbone.save_peft(tmp_path)
    family = case.split("_")[0]
    kind = "AutoModelForSeq2SeqLM" if family == "bart" else "AutoModelForCausalLM"
    model = getattr(transformers, kind).from_pretrained(golden / f"{family}_tiny_hf")
    model = peft.PeftModel.from_pretrained(model, tmp_path).eval()
    ids = {"input_ids": torch.tensor(expected["ids"])}
    if family == "bart":
        ids["decoder_input_ids"] = torch.tensor(expected["decoder_ids"])
    with torch.no_grad():
        wanted = model(**ids).logits.numpy()
    assert np.abs(wanted - expected["logits"][case]).max() > 0.1
    np.testing.assert_allclose(logits_of(backbone, expected), wanted, atol=2e-4)


def test_only_factors_are_trained(golden: Path) -> None:
    module = with_adapter(golden, "gpt2_all").torch_module()
    trained = [name for name, p in module.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * 2 * 4  # factors, layers, modules: c_attn has one A and one B
    assert all(".adapter.lora_kernel_" in name for name in trained)


def test_a_fresh_adapter_changes_nothing_until_it_is_trained(
    golden: Path, expected: dict[str, Any]
) -> None:
    backbone = load(golden, "gpt2")
    plain = logits_of(backbone, expected)
    torch.manual_seed(3)
    backbone.enable_peft(2, ["attn.c_attn", "mlp.c_proj"], alpha=4)
    np.testing.assert_array_equal(logits_of(backbone, expected), plain)
    module = backbone.torch_module()
    module({"token_ids": torch.tensor(expected["ids"])}).square().sum().backward()
    gradients = [p.grad for n, p in module.named_parameters() if n.endswith("lora_kernel_b")]
    assert len(gradients) == 4
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in gradients)
    assert module.decoder.get_submodule("0").attn.q.weight.grad is None


def test_the_rows_of_the_joint_factor_belong_to_query_key_and_value(golden: Path) -> None:
    attention = with_adapter(golden, "gpt2").torch_module().decoder.get_submodule("0").attn
    a, b = attention.q.adapter.lora_kernel_a, attention.q.adapter.lora_kernel_b
    assert attention.k.adapter.lora_kernel_a is a and attention.v.adapter.lora_kernel_b is b
    whole = 6 / 3**0.5 * b @ a
    parts = torch.cat([layer.adapter.delta() for layer in (attention.q, attention.k, attention.v)])
    torch.testing.assert_close(parts, whole)


def test_the_names_of_a_fresh_adapter_are_written_as_ends_where_they_say_all(
    golden: Path, tmp_path: Path
) -> None:
    backbone = load(golden, "bart")
    backbone.enable_peft(2, ["encoder_attn.k_proj"])
    backbone.save_peft(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text("utf-8"))
    assert config["target_modules"] == [
        f"model.decoder.layers.{i}.encoder_attn.k_proj" for i in range(3)
    ]
    assert config["lora_alpha"] == 8


def test_a_seed_repeats_the_factors_and_they_are_as_peft_draws_them(golden: Path) -> None:
    factors = []
    for seed in (1, 1, 2):
        backbone = load(golden, "gpt2")
        torch.manual_seed(seed)
        backbone.enable_peft(4)
        adapter = backbone.torch_module().decoder.get_submodule("0").attn.q.adapter
        factors.append(adapter.lora_kernel_a.detach())
    assert torch.equal(factors[0], factors[1]) and not torch.equal(factors[0], factors[2])
    limit = 1 / 24**0.5  # kaiming_uniform(a=sqrt(5)) of 24 inputs
    assert 0.8 * limit < factors[0].abs().max() <= limit


def test_dropout_is_only_in_training(golden: Path, expected: dict[str, Any]) -> None:
    backbone = with_adapter(golden, "bart_all")
    adapter = backbone.torch_module().encoder.get_submodule("0").attn.q.adapter
    x = torch.ones(3, 24)
    assert torch.equal(adapter.eval()(x), adapter(x))
    torch.manual_seed(0)
    assert not torch.equal(adapter.train()(x), adapter(x))


def test_the_adapter_of_a_bare_backbone_is_read(
    golden: Path, tmp_path: Path, expected: dict[str, Any]
) -> None:
    from fuseq import _core

    folder = changed(golden, tmp_path / "bare")
    tensors = SafeTensorsFile(golden / "peft" / "gpt2" / "adapter_model.safetensors").tensors()
    entries = [
        (name.replace("model.transformer.h", "model.h"), "float32", t.shape, lambda t=t: t)
        for name, t in tensors.items()
    ]
    _core.save_safetensors(folder / "adapter_model.safetensors", entries, {})
    backbone = load(golden, "gpt2")
    backbone.load_peft(folder)
    wanted = expected["logits"]["gpt2"]
    np.testing.assert_allclose(logits_of(backbone, expected), wanted, atol=1e-4)


def test_an_adapter_is_merged_for_good(golden: Path, expected: dict[str, Any]) -> None:
    backbone = with_adapter(golden, "gpt2_all")
    before = logits_of(backbone, expected)
    backbone.merge_lora()
    np.testing.assert_array_equal(logits_of(backbone, expected), before)
    module = backbone.torch_module()
    assert all(p.requires_grad for p in module.parameters())
    assert not any("adapter" in name for name, _ in module.named_parameters())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"peft_type": "IA3"}, "peft_type must be \"LORA\", got 'IA3'"),
        ({"bias": "all"}, "bias must be \"none\", got 'all'"),
        ({"use_dora": True}, "use_dora must be null or false, got True"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save must be null or false"),
        ({"lora_bias": True}, "lora_bias must be null or false"),
        ({"lora_alpha": "8"}, "lora_alpha must be a number, got '8'"),
        ({"lora_dropout": 1.5}, "lora_dropout must be from 0 up to 1, got 1.5"),
        ({"use_rslora": 3}, "use_rslora must be true or false, got 3"),
        ({"r": 0}, "rank must be a whole number above 0, got 0"),
        ({"rank_pattern": {"(a+)+": 3}}, "rank_pattern must be an object of plain names"),
        ({"velora_config": {"num_groups": 4}}, "velora_config must be null or false"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights must be among true, false, null"),
        ({"init_lora_weights": "pissa_niter_16"}, "got 'pissa_niter_16'. Merge the adapter"),
        ({"init_lora_weights": "olora"}, "init_lora_weights must be among"),
        ({"init_lora_weights": "loftq"}, "init_lora_weights must be among"),
        ({"init_lora_weights": 1}, "init_lora_weights must be among"),
        ({"alpha_pattern": [1]}, "alpha_pattern must be an object of plain names"),
    ],
)
def test_what_is_not_computed_is_refused_by_the_fields_name(
    golden: Path, tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    folder = changed(golden, tmp_path / "other", **fields)
    backbone = load(golden, "gpt2")
    with pytest.raises(ValueError, match="load_peft") as error:
        backbone.load_peft(folder)
    assert message in str(error.value)
    assert all(p.requires_grad for p in backbone.torch_module().parameters())


@pytest.mark.parametrize("init", [False, None, "gaussian", "orthogonal", "eva"])
def test_factors_may_be_drawn_in_ways_that_leave_the_weights_alone(
    golden: Path, tmp_path: Path, expected: dict[str, Any], init: Any
) -> None:
    folder = changed(
        golden, tmp_path / "other", init_lora_weights=init, alpha_pattern=[], velora_config=None
    )
    backbone = load(golden, "gpt2")
    backbone.load_peft(folder)
    wanted = expected["logits"]["gpt2"]
    np.testing.assert_allclose(logits_of(backbone, expected), wanted, atol=1e-4)


def test_modules_that_the_config_names_must_be_in_the_file(golden: Path, tmp_path: Path) -> None:
    folder = changed(golden, tmp_path / "other", target_modules=["c_attn", "c_fc"])
    with pytest.raises(ValueError, match=r"all factors must be there.*got\n  missing: .*c_fc"):
        load(golden, "gpt2").load_peft(folder)


@pytest.mark.parametrize("family", ["bart", "gpt2"])
def test_all_linear_names_every_module(golden: Path, tmp_path: Path, family: str) -> None:
    backbone = load(golden, family)
    rank: Any = np.int64(2)
    backbone.enable_peft(rank, "all-linear", alpha=np.float32(4))
    linears = training_adapters.linears(backbone.torch_module())
    assert all(layer.adapter is not None for layer in linears.values())
    backbone.save_peft(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text("utf-8"))
    assert (config["r"], config["lora_alpha"]) == (2, 4)
    ends = {
        "bart": ["fc1", "fc2", "k_proj", "out_proj", "q_proj", "v_proj"],
        "gpt2": ["c_attn", "c_fc", "c_proj"],
    }
    assert config["target_modules"] == ends[family]


def test_a_handle_is_looked_for_as_that_of_a_preset(
    golden: Path, tmp_path: Path, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(golden / "peft" / "gpt2", tmp_path / "someone" / "adapter")
    monkeypatch.setenv("FUSEQ_PRESETS", str(tmp_path))
    backbone = load(golden, "gpt2")
    backbone.load_peft("hf://someone/adapter")
    wanted = expected["logits"]["gpt2"]
    np.testing.assert_allclose(logits_of(backbone, expected), wanted, atol=1e-4)


def test_all_that_does_not_fit_is_in_one_message(golden: Path, tmp_path: Path) -> None:
    folder = changed(golden, tmp_path / "other", r=4, target_modules=["c_attn", "c_fc"])
    with pytest.raises(ValueError, match="all factors must be there") as error:
        load(golden, "gpt2").load_peft(folder)
    text = str(error.value)
    name = "base_model.model.transformer.h.1"
    assert f'misshapen: "{name}.attn.c_attn.lora_A.weight" must be [4, 24], got [3, 24]' in text
    assert f'missing: "{name}.mlp.c_fc.lora_B.weight" [56, 4]' in text
    with pytest.raises(ValueError, match="unexpected") as error:
        load(golden, "gpt2").load_peft(golden / "peft" / "bart")
    assert 'layers.0.self_attn.q_proj.lora_A.weight"' in str(error.value)


def test_folders_without_the_files_are_refused(golden: Path, tmp_path: Path) -> None:
    backbone = load(golden, "gpt2")
    missing = r"none\": must be a folder with adapter_config.json and adapter_model.safetensors"
    with pytest.raises(FileNotFoundError, match=missing):
        backbone.load_peft(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"adapter_config.json.*must exist"):
        backbone.load_peft(tmp_path)
    folder = changed(golden, tmp_path / "pickle")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(FileNotFoundError, match=r"Convert adapter_model.bin to safetensors"):
        backbone.load_peft(folder)


def test_arguments_out_of_their_range_are_refused(golden: Path, tmp_path: Path) -> None:
    backbone = load(golden, "bart")
    with pytest.raises(ValueError, match="rank must be a whole number above 0, got 0"):
        backbone.enable_peft(0)
    with pytest.raises(ValueError, match="among fc1, fc2, k_proj, out_proj, q_proj, v_proj"):
        backbone.enable_peft(2, ["q_proj", "lm_head"])
    with pytest.raises(ValueError, match="target_modules must be a list of names, got 'q_proj'"):
        backbone.enable_peft(2, "q_proj")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="alpha must be a number, got nan"):
        backbone.enable_peft(2, alpha=float("nan"))
    with pytest.raises(ValueError, match="dropout must be from 0 up to 1, got 1"):
        backbone.enable_peft(2, dropout=1)
    with pytest.raises(ValueError, match="save_peft: the model must have PEFT adapters, got none"):
        backbone.save_peft(tmp_path)
    backbone.enable_peft(2)
    with pytest.raises(ValueError, match="load_peft: the model must have no adapters yet"):
        backbone.load_peft(golden / "peft" / "bart")
    with pytest.raises(ValueError, match="form, got PEFT's"):
        backbone.save_lora_weights(tmp_path / "x.lora.h5")
