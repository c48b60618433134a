# SPDX-License-Identifier: Apache-2.0
"""Specs of every kind that the engine runs, small, and models of them with lively weights."""

import json
import math
from typing import Any

import numpy as np
from fuseq import _core

_STACK = {
    "layers": 3,
    "dim": 48,
    "heads": 4,
    "kv_heads": 4,
    "head_dim": 12,
    "ffn_dim": 80,
    "max_positions": 70,
}
_POST = {"place": "post", "embed_norm": True, "final_norm": False}
_WITHOUT_BIAS = {"qkv_bias": False, "out_bias": False, "ffn_bias": False}
_ROPE = {
    "positions": "rope",
    "max_positions": 0,
    "rope": [[10000 ** (-i / 6) for i in range(6)], [500 ** (-i / 6) for i in range(6)]],
}


def _t5(bidirectional: bool) -> dict[str, Any]:
    """Distances of the tests go beyond the last bucket."""
    relative = {"buckets": 8, "max_distance": 20, "bidirectional": bidirectional}
    positions = {"positions": "relative", "max_positions": 0, "relative": relative}
    others = {"norm": "rms", "gated_ffn": True, "act": "gelu_tanh", "score_scale": 1.0}
    return {**positions, **others, **_WITHOUT_BIAS}


_LLAMA = {
    "kv_heads": 2,
    "norm": "rms",
    "norm_eps": 1e-6,
    "act": "silu",
    "gated_ffn": True,
    "windows": [9, 0],
    **_ROPE,
    **_WITHOUT_BIAS,
}
_GEMMA = {
    **_LLAMA,
    "norm": "rms_plus_one",
    "place": "both",
    "qk_norm": True,
    "kv_heads": 1,
    "score_cap": 3.0,
    "act": "gelu_tanh",
}
_BART = {**_POST, "position_offset": 2}

# name: (fields of the encoder or None, of the decoder, of the whole)
_KINDS: dict[str, tuple[dict[str, Any] | None, dict[str, Any], dict[str, Any]]] = {
    "bart": (_BART, _BART, {"head": {"bias": True}}),
    "bart scaled": ({**_BART, "act": "relu"}, _BART, {"embed_scale": math.sqrt(48)}),
    "mbart": (
        {"embed_norm": True, "position_offset": 2},
        {"embed_norm": True, "position_offset": 2},
        {"head": {"bias": True}, "embed_scale": math.sqrt(48)},
    ),
    "marian": (
        {"place": "post", "final_norm": False, "act": "silu"},
        {"place": "post", "final_norm": False, "act": "silu"},
        {"head": {"bias": True}},
    ),
    "gpt2": (None, {"act": "gelu_tanh"}, {}),
    "gpt2 unscaled": (None, {"act": "gelu_tanh", "score_scale": 1.0}, {}),
    "gpt2 untied": (None, {"act": "tanh"}, {"head": {"tied": False, "bias": True}}),
    "gpt2 windows": (None, {"windows": [0, 5, 1]}, {}),
    "opt": (None, {"act": "relu", "position_offset": 2}, {}),
    "t5": (_t5(True), _t5(False), {"head": {"scale": 48**-0.5}}),
    "t5 untied": (_t5(True), {**_t5(False), "gated_ffn": False}, {"head": {"tied": False}}),
    "t5 capped": (_t5(True), {**_t5(False), "score_cap": 4.0, "windows": [7]}, {}),
    "llama": (None, _LLAMA, {"head": {"tied": False}}),
    "gemma": (None, _GEMMA, {"embed_scale": 6.9, "head": {"cap": 5.0}}),
    "qwen": (None, {**_LLAMA, "qkv_bias": True, "qk_norm": True, "windows": [0]}, {}),
    "without positions": (None, {"positions": "none", "max_positions": 0}, {}),
    "bert decoder": (
        _POST,
        _POST,
        {"token_types": 2, "head": {"bias": True, "transform": True}},
    ),
}
KINDS = tuple(_KINDS)


def spec(kind: str, **fields: Any) -> dict[str, Any]:
    """A kind's spec, every field given.

    Args:
        kind: One of `KINDS`.
        **fields: More fields of the whole.
    """
    encoder, decoder, others = _KINDS[kind]
    stacks = {"decoder": {**_STACK, **decoder}}
    if encoder is not None:
        stacks["encoder"] = {**_STACK, "layers": 2, **encoder}
    text = json.dumps({"family": "none", "vocab": 101, **stacks, **others, **fields})
    found: dict[str, Any] = json.loads(_core.validate_spec(text))
    return found


def model(spec: dict[str, Any], seed: int = 3) -> _core.Model:
    """A model whose weights are spread so widely that every part matters to the logits."""
    draw = np.random.default_rng(seed)
    text = json.dumps(spec)
    weights = {}
    for name, shape, is_matrix in _core.weight_table(text):
        values = draw.standard_normal(shape, np.float32)
        if name != "embed.tokens":
            values *= np.float32(1.2 / math.sqrt(shape[-1]) if is_matrix else 0.3)
        weights[name] = values + name.endswith("norm.weight")
    return _core.Model.build(text, weights, dtype="float32", num_threads=1)
