# SPDX-License-Identifier: Apache-2.0
"""Compares logits of random BART and GPT-2 models with transformers', float32, ragged batches.

Run in full:  python tests/python/oracle_logits.py [--json tests/python/oracle_logits.json]
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import fuseq
import numpy as np
import oracle_models
import torch

TOLERANCE = 2e-4  # of the largest logit
BFLOAT16_TOLERANCE = 5e-2

SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "bart tiny": ("bart", {}),
    "bart tiny scaled": ("bart", {"scale_embedding": True, "activation_function": "relu"}),
    "bart odd": (
        "bart",
        {
            "d_model": 75,
            "encoder_ffn_dim": 131,
            "decoder_ffn_dim": 67,
            "encoder_attention_heads": 5,
            "decoder_attention_heads": 1,
            "vocab_size": 613,
            "activation_function": "gelu_new",
        },
    ),
    "bart medium": (
        "bart",
        {
            "d_model": 256,
            "encoder_ffn_dim": 1024,
            "decoder_ffn_dim": 512,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 8,
            "encoder_layers": 3,
            "decoder_layers": 1,
            "vocab_size": 5000,
        },
    ),
    "gpt2 tiny": ("gpt2", {}),
    "gpt2 unscaled": ("gpt2", {"scale_attn_weights": False, "n_inner": None}),
    "gpt2 untied": ("gpt2", {"tie_word_embeddings": False, "activation_function": "silu"}),
    "gpt2 medium": ("gpt2", {"n_embd": 256, "n_head": 8, "n_inner": None, "vocab_size": 5001}),
}
FULL_SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "bart-base": ("bart", {"vocab_size": 50265, "d_model": 768, "encoder_layers": 6,
                           "decoder_layers": 6, "encoder_attention_heads": 12,
                           "decoder_attention_heads": 12, "encoder_ffn_dim": 3072,
                           "decoder_ffn_dim": 3072, "max_position_embeddings": 1024}),
    "bart-large": ("bart", {"vocab_size": 50265, "d_model": 1024, "encoder_layers": 12,
                            "decoder_layers": 12, "encoder_attention_heads": 16,
                            "decoder_attention_heads": 16, "encoder_ffn_dim": 4096,
                            "decoder_ffn_dim": 4096, "max_position_embeddings": 1024}),
    "gpt2": ("gpt2", {"vocab_size": 50257, "n_embd": 768, "n_layer": 12, "n_head": 12,
                      "n_inner": None, "n_positions": 1024}),
    "gpt2-medium": ("gpt2", {"vocab_size": 50257, "n_embd": 1024, "n_layer": 24, "n_head": 16,
                             "n_inner": None, "n_positions": 1024}),
}  # fmt: skip

Rows = list[tuple[list[int], list[int]]]  # encoder ids, decoder ids


def make_model(shape: str, seed: int = 1) -> Any:
    """The random model of one of the shapes above."""
    kind, fields = {**SHAPES, **FULL_SHAPES}[shape]
    return getattr(oracle_models, kind)(seed, **fields)


def make_rows(model: Any, count: int, longest: int, seed: int = 2) -> Rows:
    """Ragged prompts; the first is as long as can be, the second has one id."""
    generator = torch.Generator().manual_seed(seed)
    vocab = model.config.vocab_size
    is_bart = model.config.is_encoder_decoder
    rows: Rows = []
    for index in range(count):
        low = {0: longest, 1: 1}.get(index, 1)
        high = {0: longest, 1: 1}.get(index, longest)
        source = oracle_models.random_ids(generator, vocab, low, high) if is_bart else []
        rows.append((source, oracle_models.random_ids(generator, vocab, low, high)))
    return rows


def oracle(model: Any, row: tuple[list[int], list[int]]) -> np.ndarray:
    """transformers' logits [T, V] of one row alone."""
    source, ids = row
    with torch.no_grad():
        if source:
            output = model(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([ids]))
        else:
            output = model(input_ids=torch.tensor([ids]))
    return output.logits[0].numpy()


def forward(model: fuseq.Model, rows: Rows, **options: Any) -> list[np.ndarray]:
    """Our logits of all rows in one ragged batch, split again."""
    session = fuseq.Session(model, **options)
    prompts = [fuseq.Prompt(source, ids) for source, ids in rows]
    logits = session.forward(prompts).numpy()
    ends = np.cumsum([len(ids) for _, ids in rows])
    return np.split(logits, ends[:-1])


def largest_difference(model: Any, ours: fuseq.Model, rows: Rows) -> float:
    """The largest difference of logits, as a part of the largest logit."""
    expected = [oracle(model, row) for row in rows]
    scale = max(float(np.abs(logits).max()) for logits in expected)
    pairs = zip(expected, forward(ours, rows), strict=True)
    return max(float(np.abs(a - b).max()) for a, b in pairs) / scale


def main() -> int:
    """Compares every shape; returns 1 if one is off."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="where to write the results")
    parser.add_argument("--shapes", nargs="*", default=[*SHAPES, *FULL_SHAPES])
    options = parser.parse_args()
    results = {}
    for shape in options.shapes:
        model = make_model(shape)
        rows = make_rows(model, 5 if shape in SHAPES else 3, 60 if shape in SHAPES else 40)
        with tempfile.TemporaryDirectory() as folder:
            ours = fuseq.load_model(oracle_models.save(model, Path(folder)))
            results[shape] = largest_difference(model, ours, rows)
        print(f"{shape}: {results[shape]:.2e} of the largest logit", flush=True)
    if options.json:
        text = json.dumps({"tolerance": TOLERANCE, "differences": results}, indent=2)
        options.json.write_text(text + "\n")
    return int(max(results.values()) > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
