# SPDX-License-Identifier: Apache-2.0
"""TransformerModule computes what the engine computes, for specs of every kind."""

import json
from typing import Any

import fuseq
import numpy as np
import pytest
import spec_kinds
from fuseq import _core

pytest.importorskip("torch")

import torch
from fuseq.models import BartBackbone, GPT2Backbone
from fuseq.training import TransformerModule, module_of
from fuseq.training.rows_of_tokens import Layout
from fuseq.training.weights import ModuleWeights

TOLERANCE = 2e-5  # of the largest logit
BFLOAT16_TOLERANCE = 8e-2
LENGTHS, SOURCE_LENGTHS = [34, 1, 17], [5, 31, 1]
RATES = {"dropout": 0.1, "attention_dropout": 0.2, "activation_dropout": 0.3}


@pytest.fixture(scope="module", params=spec_kinds.KINDS)
def kind(request: pytest.FixtureRequest) -> Any:
    """A model of the engine, and a module filled from it."""
    spec = spec_kinds.spec(request.param)
    model = spec_kinds.model(spec)
    module = TransformerModule(spec).eval()
    ModuleWeights(module, model)
    return model, module


def ragged(lengths: list[int], seed: int = 1) -> tuple[Any, Any]:
    """Ids and mask of rows of these lengths, random ids at padding too."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 101, (len(lengths), max(lengths)), generator=generator)
    return ids, torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


def batch(model: Any) -> dict[str, Any]:
    ids, mask = ragged(LENGTHS)
    if not model.is_seq2seq:
        return {"token_ids": ids, "padding_mask": mask}
    source, source_mask = ragged(SOURCE_LENGTHS, seed=2)
    return {
        "encoder_token_ids": source, "encoder_padding_mask": source_mask,
        "decoder_token_ids": ids, "decoder_padding_mask": mask,
    }  # fmt: skip


def real(inputs: dict[str, Any]) -> Any:
    return inputs["decoder_padding_mask" if "decoder_token_ids" in inputs else "padding_mask"]


def engine_logits(model: Any, inputs: dict[str, Any]) -> Any:
    """Of real positions [N, V], each row without its padding."""
    start = "decoder_" if model.is_seq2seq else ""
    prompts = []
    for row, mask in enumerate(real(inputs)):
        source: list[int] = []
        if model.is_seq2seq:
            source = inputs["encoder_token_ids"][row][inputs["encoder_padding_mask"][row]].tolist()
        prompts.append(fuseq.Prompt(source, inputs[f"{start}token_ids"][row][mask].tolist()))
    return torch.from_numpy(fuseq.Session(model, num_threads=1).forward(prompts).numpy())


def difference(got: Any, expected: Any) -> float:
    return float((got.float() - expected).abs().max() / expected.abs().max())


def gradients(module: Any, inputs: dict[str, Any], kept: Any) -> dict[str, Any]:
    """Of a sum over the logits of positions, each with a weight of its own."""
    module.zero_grad()
    logits = module(inputs)[kept].float()
    weights = torch.linspace(-1, 1, logits.numel()).view(logits.shape)
    (logits.log_softmax(-1) * weights).sum().backward()
    return {name: p.grad for name, p in module.named_parameters() if p.requires_grad}


def largest(got: dict[str, Any], expected: dict[str, Any]) -> float:
    """The largest difference of gradients; those of key biases are 0 but for rounding."""
    assert got.keys() == expected.keys()
    pairs = [(got[name], value) for name, value in expected.items() if not name.endswith("k.bias")]
    return max(float((a - b).norm() / b.norm().clamp(min=1e-6)) for a, b in pairs)


def test_parameters_are_called_as_in_the_weight_table(kind: Any) -> None:
    model, module = kind
    table = {name: shape for name, shape, _ in _core.weight_table(model.spec)}
    assert {name: tuple(p.shape) for name, p in module.named_parameters()} == table


def test_logits_of_a_ragged_batch_equal_the_engines(kind: Any) -> None:
    model, module = kind
    inputs = batch(model)
    with torch.no_grad():
        got = module(inputs)[real(inputs)]
    assert difference(got, engine_logits(model, inputs)) < TOLERANCE


def test_a_decoder_mask_that_only_marks_padding_at_the_end_changes_nothing(kind: Any) -> None:
    model, module = kind
    inputs = batch(model)
    name = "decoder_padding_mask" if model.is_seq2seq else "padding_mask"
    with torch.no_grad():
        masked, causal = module(inputs), module({**inputs, name: None})
    assert difference(causal[real(inputs)], masked[real(inputs)]) < TOLERANCE
    got = gradients(module, {**inputs, name: None}, real(inputs))
    assert largest(got, gradients(module, inputs, real(inputs))) < TOLERANCE


def test_ids_at_padding_do_not_matter(kind: Any) -> None:
    model, module = kind
    inputs = batch(model)
    others = {
        name: torch.where(inputs[name.replace("token_ids", "padding_mask")], ids, 7)
        for name, ids in inputs.items()
        if name.endswith("token_ids")
    }
    with torch.no_grad():
        assert torch.equal(module(inputs)[real(inputs)], module({**inputs, **others})[real(inputs)])


def test_a_source_without_tokens_gives_finite_gradients(kind: Any) -> None:
    model, module = kind
    if not model.is_seq2seq:
        pytest.skip("only with an encoder")
    inputs = batch(model)
    inputs["encoder_padding_mask"] = inputs["encoder_padding_mask"].clone()
    inputs["encoder_padding_mask"][1] = False
    found = gradients(module, inputs, real(inputs))
    assert all(bool(gradient.isfinite().all()) for gradient in found.values())


def test_activation_checkpointing_gives_the_same_gradients(kind: Any) -> None:
    model, module = kind
    inputs = batch(model)
    module.train()
    expected = gradients(module, inputs, real(inputs))
    module.set_activation_checkpointing(True)
    try:
        got = gradients(module, inputs, real(inputs))
    finally:
        module.set_activation_checkpointing(False)
        module.eval()
    assert largest(got, expected) < 1e-6


def test_bfloat16_is_near_and_has_gradients(kind: Any) -> None:
    model, module = kind
    inputs = batch(model)
    expected = gradients(module, inputs, real(inputs))
    with torch.autocast("cpu", torch.bfloat16):
        got = gradients(module, inputs, real(inputs))
        with torch.no_grad():
            logits = module(inputs)[real(inputs)]
    assert 0 < difference(logits, engine_logits(model, inputs)) < BFLOAT16_TOLERANCE
    assert all(gradient.dtype == torch.float32 for gradient in got.values())
    flat = [torch.cat([found[name].flatten() for name in expected]) for found in (got, expected)]
    assert float(torch.cosine_similarity(*flat, dim=0)) > 0.95


@pytest.mark.parametrize("name", ["bart", "gpt2", "gemma", "t5"])
def test_dropout_changes_training_alone(name: str) -> None:
    spec = spec_kinds.spec(name, **RATES)
    model = spec_kinds.model(spec)
    module = TransformerModule(spec)
    ModuleWeights(module, model)
    inputs = batch(model)
    with torch.no_grad():
        expected = engine_logits(model, inputs)
        assert difference(module.eval()(inputs)[real(inputs)], expected) < TOLERANCE
        module.train()
        assert difference(module(inputs)[real(inputs)], expected) > 1e-2
        assert not torch.equal(module(inputs), module(inputs))
        torch.manual_seed(4)
        first = module(inputs)
        torch.manual_seed(4)
        assert torch.equal(module(inputs), first)


def recorded_dropout(monkeypatch: pytest.MonkeyPatch, spec: Any, inputs: Any) -> list[Any]:
    """(rate, shape) of everything that is dropped out in training, in order, rates above 0."""
    calls: list[tuple[float, tuple[int, ...]]] = []
    functional = torch.nn.functional
    attend = functional.scaled_dot_product_attention

    def dropout(x: Any, p: float = 0.5, training: bool = True) -> Any:
        if training and p:
            calls.append((p, tuple(x.shape)))
        return x

    def attention(q: Any, k: Any, v: Any, mask: Any = None, p: float = 0.0, **more: Any) -> Any:
        if p:
            calls.append((p, (*q.shape[:3], k.shape[2])))
        return attend(q, k, v, mask, 0.0, **more)

    monkeypatch.setattr(functional, "dropout", dropout)
    monkeypatch.setattr(functional, "scaled_dot_product_attention", attention)
    module = TransformerModule(spec)
    ModuleWeights(module, spec_kinds.model(spec))
    module.train()(inputs)
    trained = list(calls)
    calls.clear()
    module.eval()(inputs)
    assert not calls
    return trained


def test_bart_drops_out_where_kerashub_does(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = BartBackbone(
        vocabulary_size=101, num_layers=2, num_heads=4, hidden_dim=48, intermediate_dim=80,
        dropout=0.1, max_sequence_length=40,
    )  # fmt: skip
    B, S, T = 3, max(SOURCE_LENGTHS), max(LENGTHS)
    rows, source = (0.1, (B * T, 48)), (0.1, (B * S, 48))
    encoder = [(0.1, (B, 4, S, S)), source, source]
    decoder = [(0.1, (B, 4, T, T)), rows, (0.1, (B, 4, T, S)), rows, rows]
    found = recorded_dropout(monkeypatch, backbone.spec, batch(backbone))
    assert found == [source, *encoder, *encoder, rows, *decoder, *decoder]


def test_gpt2_drops_out_where_kerashub_does(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = GPT2Backbone(
        vocabulary_size=101, num_layers=2, num_heads=4, hidden_dim=48, intermediate_dim=80,
        dropout=0.1, max_sequence_length=40,
    )  # fmt: skip
    B, T = 3, max(LENGTHS)
    rows = (0.1, (B * T, 48))
    layer = [(0.1, (B, 4, T, T)), rows, rows]
    assert recorded_dropout(monkeypatch, backbone.spec, batch(backbone)) == [rows, *layer, *layer]


@pytest.mark.parametrize("name", ["gpt2", "gemma"])
def test_each_rate_of_a_spec_has_its_place(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_kinds.spec(name, **RATES)
    B, T = 3, max(LENGTHS)
    rows = (spec["dropout"], (B * T, 48))
    scores = (spec["attention_dropout"], (B, 4, T, T))
    inner = (spec["activation_dropout"], (B * T, 80))
    inputs = batch(spec_kinds.model(spec))
    found = recorded_dropout(monkeypatch, spec, inputs)
    assert found == [rows, *[scores, rows, inner, rows] * 3]


def test_attention_that_drops_out_keeps_its_mean() -> None:
    spec = spec_kinds.spec("gemma", attention_dropout=0.5)
    module = TransformerModule(spec)
    ModuleWeights(module, spec_kinds.model(spec))
    attention = module.get_submodule("decoder.0.attn")
    x = torch.randn(1, 6, 48, generator=torch.Generator().manual_seed(1)).expand(4000, 6, 48)
    torch.manual_seed(2)
    with torch.no_grad():

        def attend(x: torch.Tensor) -> torch.Tensor:
            rows, layout = x.flatten(0, 1), Layout((x.shape[0], x.shape[1]))
            return attention(
                rows, rows, layout=layout, source_layout=layout, is_causal=True
            ).unflatten(0, layout.shape)

        attention.eval()
        kept = attend(x[:1])
        attention.train()
        dropped = attend(x)
    assert difference(dropped.mean(0, keepdim=True), kept) < 0.1
    assert float(dropped.std(0).min()) > 0


def test_an_output_bias_that_transformers_keeps_fixed_is_not_trained() -> None:
    for name, is_trained in (("bart", False), ("gpt2 untied", True), ("bert decoder", True)):
        assert TransformerModule(spec_kinds.spec(name)).head.bias.requires_grad == is_trained


def test_a_backbone_has_one_module_that_shares_its_weights() -> None:
    backbone = GPT2Backbone(
        vocabulary_size=101, num_layers=2, num_heads=4, hidden_dim=48, intermediate_dim=80,
        max_sequence_length=40, dropout=0.0, num_threads=1,
    )  # fmt: skip
    module = backbone.torch_module()
    assert module is module_of(backbone.engine) is backbone.torch_module()
    ids = np.arange(12).reshape(2, 6)
    before, _ = backbone.forward({"token_ids": ids})
    with torch.no_grad():
        module.decoder.positions.add_(torch.randn(40, 48))
        expected = module({"token_ids": torch.from_numpy(ids)})
    after, _ = backbone.forward({"token_ids": ids})
    assert difference(torch.from_numpy(after), expected) < TOLERANCE
    assert not np.allclose(before, after)


def test_a_module_keeps_its_own_copy_of_the_spec() -> None:
    spec = spec_kinds.spec("gpt2")
    module = TransformerModule(spec)
    expected = json.dumps(module.spec)
    spec["decoder"]["layers"] = 7
    assert json.dumps(module.spec) == expected
