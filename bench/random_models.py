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
