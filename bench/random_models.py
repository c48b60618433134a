# SPDX-License-Identifier: Apache-2.0
"""Writes transformers folders of real shapes with random weights: nothing to download."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

# name -> (class, configuration); the fields that are not given are those of the class.
BART_BASE = {
    "d_model": 768,
    "encoder_layers": 6,
    "decoder_layers": 6,
    "encoder_attention_heads": 12,
    "decoder_attention_heads": 12,
    "encoder_ffn_dim": 3072,
    "decoder_ffn_dim": 3072,
}
BART_TINY = {
    "vocab_size": 500,
    "max_position_embeddings": 256,
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
}
GPT2_TINY = {"vocab_size": 500, "n_positions": 256, "n_embd": 64, "n_layer": 2, "n_head": 4}
GPT2_TINY |= {"bos_token_id": 0, "eos_token_id": 0}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "bart-base": ("bart", BART_BASE),
    "bart-large": ("bart", {}),
    "bart-tiny": ("bart", BART_TINY),
    "gpt2": ("gpt2", {}),
    "gpt2-medium": ("gpt2", {"n_embd": 1024, "n_layer": 24, "n_head": 16}),
    "gpt2-tiny": ("gpt2", GPT2_TINY),
}


def write_model(name: str, folder: Path) -> None:
    """Write the model `name` of `MODELS` into `folder`; weights are the same every time."""
    kind, fields = MODELS[name]
    torch.manual_seed(0)
    if kind == "bart":
        # As in the configuration of facebook/bart-base; converters ask for the two norms.
        fields = {"normalize_before": False, "normalize_embedding": True, **fields}
        model = transformers.BartForConditionalGeneration(
            transformers.BartConfig(**fields, forced_eos_token_id=None)
        )
        vary = {"embed_positions": 20.0, "layers": 8.0}
    else:
        model = transformers.GPT2LMHeadModel(
            transformers.GPT2Config(**fields, initializer_range=0.05)
        )
        vary = {}
    # With its usual starting weights a BART repeats one id for ever; larger ones make the ids vary.
    with torch.no_grad():
        for weight_name, weight in model.named_parameters():
            for part, factor in vary.items():
                if f".{part}." in weight_name and weight.dim() == 2:
                    weight.mul_(factor)
    model.save_pretrained(folder)


def model_folder(name: str, parent: Path) -> Path:
    """The folder of model `name` under `parent`, written if it is not there yet."""
    folder = parent / name
    if not (folder / "model.safetensors").exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_model(name, folder)
    return folder


# The shapes of shapes.h that need no other library: fuseq's own specs and weights.
SPECS: dict[str, dict[str, int]] = {
    "bart-tiny": {"vocab": 500, "layers": 2, "dim": 64, "heads": 4, "ffn_dim": 128},
    "bart-base": {"vocab": 50265, "layers": 6, "dim": 768, "heads": 12, "ffn_dim": 3072},
    "marian-base": {"vocab": 58101, "layers": 6, "dim": 512, "heads": 8, "ffn_dim": 2048},
}


def random_spec(name: str) -> dict[str, Any]:
    """A BART-like spec of real shape: post-norm stacks, learned positions, tied head, bias."""
    shape = SPECS[name]
    stack = {
        "layers": shape["layers"],
        "dim": shape["dim"],
        "heads": shape["heads"],
        "kv_heads": shape["heads"],
        "head_dim": shape["dim"] // shape["heads"],
        "ffn_dim": shape["ffn_dim"],
        "place": "post",
        "embed_norm": True,
        "final_norm": False,
        "max_positions": 1024,
    }
    return {
        "family": "bart",
        "vocab": shape["vocab"],
        "encoder": stack,
        "decoder": stack,
        "head": {"bias": True},
        "pad_id": 1,
        "bos_id": 0,
        "decoder_start_id": 2,
        "eos_ids": [2],
    }


def random_weights(spec: dict[str, Any], end_bias: float) -> dict[str, Any]:
    """Weights under fuseq's names, spread enough for ids to vary; the end id has its own bias."""
    import json

    import numpy as np
    from fuseq import _core

    chance = np.random.default_rng(0)
    weights = {}
    for name, shape, is_matrix in _core.weight_table(json.dumps(spec)):
        noise = chance.standard_normal(shape, np.float32)
        if "positions" in name or name.startswith("embed"):
            noise *= np.float32(3 / np.sqrt(shape[-1]))
        elif is_matrix:
            noise *= np.float32(1.6 / np.sqrt(shape[-1]))
        elif name.endswith("norm.weight"):
            noise = 1 + np.float32(0.1) * noise
        else:
            noise *= np.float32(0.1)
        weights[name] = noise
    weights["head.bias"] *= 3
    weights["head.bias"][spec["eos_ids"]] = end_bias
    return weights
