# SPDX-License-Identifier: Apache-2.0
"""What the KerasHub tables of the families share: the backbone's config and a layer's weights."""

from collections.abc import Mapping
from typing import Any

from fuseq.presets.family import Config, KerasSource, Spec

_FIELDS = {
    "vocabulary_size": 1,
    "num_layers": 0,
    "num_heads": 1,
    "hidden_dim": 1,
    "intermediate_dim": 1,
    "max_sequence_length": 1,
}
_DEFAULTS = {"max_sequence_length": 1024}  # as the constructors have it
_DROPOUT = 0.1
_MAX_INT = 2**31 - 1


def read_backbone(config: Config) -> tuple[Spec, Spec]:
    """Reads the fields that the backbones of BART and GPT-2 have.

    Args:
        config: The `config` object of `config.json`.

    Returns:
        The spec's fields outside the stacks, and those of a stack.

    Raises:
        ValueError: A field is not there, or not what it should be.
    """
    sizes = {name: _whole(config, name, least) for name, least in _FIELDS.items()}
    dim, heads = sizes["hidden_dim"], sizes["num_heads"]
    if dim % heads != 0:
        raise ValueError(f"config.json: num_heads must divide hidden_dim {dim}, got {heads}")
    dropout = config.get("dropout", _DROPOUT)
    if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise ValueError(f"config.json: dropout must be from 0 up to 1, got {dropout!r}")
    outside = {
        "vocab": sizes["vocabulary_size"],
        "head": {"tied": True},
        "dropout": float(dropout),
        "attention_dropout": float(dropout),
        "activation_dropout": 0.0,
    }
    stack = {
        "layers": sizes["num_layers"],
        "dim": dim,
        "heads": heads,
        "kv_heads": heads,
        "head_dim": dim // heads,
        "ffn_dim": sizes["intermediate_dim"],
        "norm": "layer",
        "norm_eps": 1e-5,
        "positions": "table",
        "max_positions": sizes["max_sequence_length"],
    }
    return outside, stack


def write_backbone(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Writes a spec as the `config` object of `config.json`, the reverse of `read_backbone`."""
    decoder = spec["decoder"]
    return {
        "vocabulary_size": spec["vocab"],
        "num_layers": decoder["layers"],
        "num_heads": decoder["heads"],
        "hidden_dim": decoder["dim"],
        "intermediate_dim": decoder["ffn_dim"],
        "dropout": spec["dropout"],
        "max_sequence_length": decoder["max_positions"],
    }


def layer_sources(stack: str, layer: str, name: str, *, cross: bool) -> dict[str, KerasSource]:
    """The weights of one transformer layer of Keras.

    Args:
        stack: "encoder" or "decoder".
        layer: The layer's group, with `{_i}`.
        name: The layer's name, with `{i}`.
        cross: Whether the layer attends to an encoder.

    Returns:
        Our names, with `{i}`, to their sources.
    """
    table: dict[str, KerasSource] = {}

    def add(ours: str, part: str, matrix: str, bias: str, inputs: int) -> None:
        key = f"{stack}.{{i}}.{ours}"
        table[f"{key}.weight"] = KerasSource(layer, name, part, 0, matrix, inputs)
        table[f"{key}.bias"] = KerasSource(layer, name, part, 1, bias)

    for ours, theirs in (("attn", "_self"), ("cross_attn", "_cross"))[: 2 if cross else 1]:
        group = f"{theirs}_attention_layer"
        for letter, word in (("q", "query"), ("k", "key"), ("v", "value")):
            add(f"{ours}.{letter}", f"{group}/{word}_dense", "DHE", "HE", 1)
        add(f"{ours}.o", f"{group}/output_dense", "HED", "D", 2)
        add(f"{ours}_norm", f"{group}_norm", "D", "D", 0)
    add("ffn.up", "_feedforward_intermediate_dense", "DF", "F", 1)
    add("ffn.down", "_feedforward_output_dense", "FD", "D", 1)
    add("ffn_norm", "_feedforward_layer_norm", "D", "D", 0)
    return table


def norm_sources(ours: str, layer: str, name: str) -> dict[str, KerasSource]:
    """The two weights of a layer norm outside the layers."""
    return {
        f"{ours}.weight": KerasSource(layer, name, variable=0),
        f"{ours}.bias": KerasSource(layer, name, variable=1),
    }


def _whole(config: Config, name: str, least: int) -> int:
    value = config.get(name, _DEFAULTS.get(name))
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _MAX_INT:
        raise ValueError(f"config.json: {name} must be a whole number >= {least}, got {value!r}")
    return value
