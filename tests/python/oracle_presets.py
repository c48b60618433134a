# SPDX-License-Identifier: Apache-2.0
"""Folders with generation settings, against transformers' `generate` on the same folder.

Beams and greedy search must give equal ids, sampling the same distribution: that of transformers'
own processors, for the first new id and for the second one after each likely first.

Run in full:  python tests/python/oracle_presets.py [--json tests/python/oracle_presets.json]
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import fuseq
import numpy as np
import oracle_models
import torch
from oracle_sampling import LEAST_P, p_value
from transformers import GenerationConfig

# What facebook/bart-large-cnn asks for.
CNN = {
    "num_beams": 4,
    "length_penalty": 2.0,
    "min_length": 56,
    "max_length": 142,
    "no_repeat_ngram_size": 3,
    "early_stopping": True,
    "forced_bos_token_id": oracle_models.BOS,
    "forced_eos_token_id": oracle_models.EOS,
}
GPT2_GREEDY = {"max_new_tokens": 40, "repetition_penalty": 1.2, "no_repeat_ngram_size": 4}
GPT2_SAMPLING: dict[str, dict[str, Any]] = {
    "top_k_50": {"do_sample": True, "max_length": 50},  # gpt2's own task settings
    "top_p": {"do_sample": True, "max_new_tokens": 2, "top_p": 0.92, "top_k": 0},
    "all": {
        "do_sample": True, "max_new_tokens": 2, "temperature": 0.7, "top_k": 40, "top_p": 0.9,
        "min_p": 0.01, "repetition_penalty": 1.3,
    },
}  # fmt: skip

BASE_BART = {
    "vocab_size": 50265, "d_model": 768, "encoder_layers": 6, "decoder_layers": 6,
    "encoder_attention_heads": 12, "decoder_attention_heads": 12, "encoder_ffn_dim": 3072,
    "decoder_ffn_dim": 3072, "max_position_embeddings": 1024,
}  # fmt: skip
BASE_GPT2 = {
    "vocab_size": 50257, "n_embd": 768, "n_layer": 12, "n_head": 12, "n_inner": None,
    "n_positions": 1024,
}  # fmt: skip
SMALL_BART = {"max_position_embeddings": 160}
SMALL_GPT2 = {"n_positions": 160}


def folder_of(model: Any, settings: dict[str, Any], folder: Path) -> Path:
    """A transformers folder with these settings."""
    ids = {
        name: getattr(model.config, name, None)
        for name in ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
    }
    model.generation_config = GenerationConfig(**{**ids, **settings})
    return oracle_models.save(model, folder)


def theirs(model: Any, prompt: list[int]) -> list[int]:
    """What `generate` gives without arguments, cut after the end id."""
    ids = torch.tensor([prompt])
    row = model.generate(ids, attention_mask=torch.ones_like(ids))[0].tolist()
    start = 1 if model.config.is_encoder_decoder else len(prompt)
    if oracle_models.EOS in row[start:]:
        row = row[: row.index(oracle_models.EOS, start) + 1]
    return [int(token) for token in row]


def compare_ids(model: Any, settings: dict[str, Any], count: int, seed: int) -> dict[str, Any]:
    """Prompts of which all ids are equal, of `count`."""
    generator = torch.Generator().manual_seed(seed)
    vocab = model.config.vocab_size
    prompts = [oracle_models.random_ids(generator, vocab, 4, 40) for _ in range(count)]
    with tempfile.TemporaryDirectory() as name:
        folder = folder_of(model, settings, Path(name))
        ours = fuseq.load_model(folder)
        options = fuseq.load_generation_options(folder)
    results = fuseq.generate(ours, prompts, options)
    want = [theirs(model, prompt) for prompt in prompts]
    equal = sum(rows[0].ids == ids for rows, ids in zip(results, want, strict=True))
    lengths = [len(ids) for ids in want]
    return {"prompts": count, "equal": equal, "shortest": min(lengths), "longest": max(lengths)}


def their_distribution(model: Any, prompt: list[int]) -> np.ndarray[Any, Any]:
    """The next id's probabilities after all of transformers' processors."""
    ids = torch.tensor([prompt])
    output = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=1, max_length=None,
        return_dict_in_generate=True, output_scores=True,
    )  # fmt: skip
    p = torch.softmax(output.scores[0][0].double(), -1).numpy()
    return p / p.sum()


def compare_distribution(
    model: Any,
    settings: dict[str, Any],
    draws: int,
    seed: int,
) -> dict[str, Any]:
    """p-values of the first id, and of the second after the most drawn first."""
    generator = torch.Generator().manual_seed(seed)
    prompt = oracle_models.random_ids(generator, model.config.vocab_size, 6, 6)
    with tempfile.TemporaryDirectory() as name:
        folder = folder_of(model, settings, Path(name))
        ours = fuseq.load_model(folder)
        options = fuseq.load_generation_options(folder)
    assert options is not None
    options.max_length = None  # type: ignore[assignment]
    options.max_new_tokens = 2
    options.num_return_sequences = 500
    options.seed = seed
    results = fuseq.generate(ours, [prompt] * (draws // 500), options)
    new = [row.ids[len(prompt) :] for rows in results for row in rows]
    vocab = model.config.vocab_size
    first = np.bincount([ids[0] for ids in new], minlength=vocab)
    likely = int(np.where(np.arange(vocab) == oracle_models.EOS, 0, first).argmax())
    second = np.bincount([ids[1] for ids in new if ids[0] == likely], minlength=vocab)
    return {
        "draws": len(new),
        "ids that came": int((first > 0).sum()),
        "p of the first": p_value(first, their_distribution(model, prompt)),
        "draws of the second": int(second.sum()),
        "p of the second": p_value(second, their_distribution(model, [*prompt, likely])),
    }


def run(*, is_base: bool, prompts: int, draws: int) -> dict[str, Any]:
    """Everything, on base-sized or small models."""
    bart = oracle_models.bart(
        31, gain=1.6, eos_bias=9.0 if is_base else 6.0, **(BASE_BART if is_base else SMALL_BART)
    )
    result: dict[str, Any] = {"bart-large-cnn's": compare_ids(bart, CNN, prompts, 1)}
    del bart
    gpt2 = oracle_models.gpt2(32, gain=2.0, eos_bias=1.0, **(BASE_GPT2 if is_base else SMALL_GPT2))
    result["gpt2 greedy"] = compare_ids(gpt2, GPT2_GREEDY, prompts, 2)
    with torch.no_grad():  # flatter, so that many ids are drawn
        gpt2.transformer.wte.weight *= 0.6
    for name, settings in GPT2_SAMPLING.items():
        result[f"gpt2 {name}"] = compare_distribution(gpt2, settings, draws, 3)
    return result


def passed(result: dict[str, Any]) -> bool:
    """Whether ids are equal and no distribution is off."""
    return all(
        row["equal"] == row["prompts"]
        if "equal" in row
        else row["p of the first"] > LEAST_P and row["p of the second"] > LEAST_P
        for row in result.values()
    )


def main() -> int:
    """Runs on base-sized models; returns 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="where to write the results")
    parser.add_argument("--prompts", type=int, default=12)
    parser.add_argument("--draws", type=int, default=20_000)
    parser.add_argument("--small", action="store_true", help="small models")
    options = parser.parse_args()
    started = time.monotonic()
    result = run(is_base=not options.small, prompts=options.prompts, draws=options.draws)
    ok = passed(result)
    text = json.dumps(
        {**result, "passed": ok, "seconds": round(time.monotonic() - started)}, indent=2
    )
    print(text)
    if options.json:
        options.json.write_text(text + "\n")
    return int(not ok)


if __name__ == "__main__":
    sys.exit(main())
