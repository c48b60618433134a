# SPDX-License-Identifier: Apache-2.0
"""Writes transformers folders of real shapes with random weights: nothing to download."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from pathlib import Path
from typing import Any

import torch
import transformers

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
MARIAN_BASE = {
    "d_model": 512,
    "encoder_layers": 6,
    "decoder_layers": 6,
    "encoder_attention_heads": 8,
    "decoder_attention_heads": 8,
    "encoder_ffn_dim": 2048,
    "decoder_ffn_dim": 2048,
    "max_position_embeddings": 512,
    "activation_function": "swish",
    "scale_embedding": True,
}
MARIAN_TINY = MARIAN_BASE | {
    "vocab_size": 500,
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
    "pad_token_id": 499,
    "decoder_start_token_id": 499,
}
# name -> (class, configuration); the fields that are not given are those of the class.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "bart-base": ("bart", BART_BASE),
    "bart-base-ends": ("bart", BART_BASE),
    "bart-large": ("bart", {}),
    "bart-tiny": ("bart", BART_TINY),
    "bart-tiny-ends": ("bart", BART_TINY),
    "marian-base": ("marian", MARIAN_BASE),
    "marian-tiny": ("marian", MARIAN_TINY),
    "gpt2": ("gpt2", {}),
    "gpt2-medium": ("gpt2", {"n_embd": 1024, "n_layer": 24, "n_head": 16}),
    "gpt2-tiny": ("gpt2", GPT2_TINY),
}
# The end id's bias, so that greedy rows end by themselves after 8 to 128 tokens.
END_BIAS = {"bart-base-ends": 1.5, "bart-tiny-ends": 0.34}
# One more whenever `write_model` or `vary` make other weights of the same fields.
RECIPE_VERSION = 1
NEVER = -1e4  # the bias of an id that must not come


def vary(model: transformers.PreTrainedModel, name: str) -> None:
    """Make the ids vary: with its usual starting weights a BART repeats one for ever.

    A product of rows of size 1 gets the size `gain`; a small gain lets the positions, which are
    made larger than the tokens, reach the last layer.
    """
    gain, positions = (1.2, 2.0) if "tiny" in name else (0.7, 8.0)
    with torch.no_grad():
        for weight_name, weight in model.named_parameters():
            if ".layers." in weight_name and weight.dim() == 2:
                weight.mul_(gain / (model.config.init_std * math.sqrt(weight.shape[1])))
            elif ".embed_positions." in weight_name and weight.requires_grad:
                weight.mul_(positions)


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
        if name in END_BIAS:
            model.final_logits_bias[0, model.config.eos_token_id] = END_BIAS[name]
    elif kind == "marian":
        model = transformers.MarianMTModel(transformers.MarianConfig(**fields))
        # CTranslate2 takes it that rows start from zeros and that the padding id never comes.
        with torch.no_grad():
            model.model.shared.weight[model.config.pad_token_id] = 0
        model.final_logits_bias[0, model.config.pad_token_id] = NEVER
        # The tables of positions, which transformers makes anew at each load: fuseq reads them.
        model._keys_to_ignore_on_save = None
    else:
        model = transformers.GPT2LMHeadModel(
            transformers.GPT2Config(**fields, initializer_range=0.05)
        )
    if kind != "gpt2":
        vary(model, name)
    model.save_pretrained(folder)
    if kind == "bart":
        # As in older files; KerasHub asks for it.
        path = folder / "config.json"
        config = json.loads(path.read_text())
        config["num_hidden_layers"] = config["encoder_layers"]
        path.write_text(json.dumps(config, indent=2) + "\n")


def recipe(name: str) -> str:
    """A hash of all that the weights of a model come from."""
    parts = [RECIPE_VERSION, *MODELS[name], END_BIAS.get(name)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def model_folder(name: str, parent: Path) -> Path:
    """The folder of model `name` under `parent`, written unless it is there as it would be now.

    The recipe stands beside the folder; a folder that was made by another one, or not to its end,
    is written anew, with what was made of it.

    Raises:
        FileExistsError: There is a folder of this name that was not written here.
    """
    folder, stamp = parent / name, parent / f"{name}.recipe"
    if not stamp.exists() and folder.exists():
        raise FileExistsError(
            f"models: {folder} must have {stamp.name} beside it, got none. Delete the folder to "
            "have it written, or name another place"
        )
    if not stamp.exists() or stamp.read_text() != recipe(name):
        folder.parent.mkdir(parents=True, exist_ok=True)
        stamp.write_text("not finished")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        write_model(name, folder)
        stamp.write_text(recipe(name))
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
