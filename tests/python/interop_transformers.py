# SPDX-License-Identifier: Apache-2.0
"""Folders that tasks export are opened by transformers: logits, tokens and generated ids agree.

Run by hand:  python tests/python/interop_transformers.py
The result lies beside it as JSON; CI runs a sample (test_interop_transformers.py).
"""

import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import fuseq
import numpy as np
from fuseq import models

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "keras_presets"
TEXTS = ["the quick brown fox", " the fox  quick", "", "brown"]
TOLERANCE = 1e-4
LENGTH = 26  # of generated rows, in tokens


def compare(preset: Path, folder: Path, dtype: str) -> dict[str, Any]:
    """Exports a preset, opens it on both sides and compares."""
    import torch
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSeq2SeqLM,
        AutoTokenizer,
        GenerationConfig,
    )

    task = models.CausalLM.from_preset(preset, dtype=dtype)
    task.export_to_transformers(folder)
    again = models.CausalLM.from_preset(folder, dtype="float32")  # as transformers computes
    kind = AutoModelForSeq2SeqLM if task.backbone.is_seq2seq else AutoModelForCausalLM
    theirs = kind.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert task.preprocessor is not None
    ids = task.preprocessor.tokenizer.tokenize_texts(TEXTS)
    plain = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    rows = np.array([[2, 0, 5, 17, 9], [2, 0, 33, 8, 8]])
    if task.backbone.is_seq2seq:
        inputs = {"encoder_token_ids": rows[:, 1:], "decoder_token_ids": rows}
        with torch.no_grad():
            expected = theirs(
                input_ids=torch.tensor(rows[:, 1:]), decoder_input_ids=torch.tensor(rows)
            ).logits
    else:
        inputs = {"token_ids": rows}
        with torch.no_grad():
            expected = theirs(input_ids=torch.tensor(rows)).logits
    difference = float(np.abs(again(inputs) - expected.float().numpy()).max())
    again.compile(sampler="greedy")
    equal = 0
    for text in TEXTS:
        if not text and not task.backbone.is_seq2seq:
            equal += 1  # transformers generates nothing from nothing
            continue
        made = again.generate(text, max_length=LENGTH, return_scores=True)
        encoded = tokenizer(text, return_tensors="pt")
        config = GenerationConfig.from_pretrained(folder)
        config.update(max_length=LENGTH, max_new_tokens=None, do_sample=False, num_beams=1)
        with torch.no_grad():
            (row,) = theirs.generate(
                input_ids=encoded["input_ids"], generation_config=config
            ).tolist()
        equal += row == made.token_ids
    return {
        "preset": preset.name,
        "dtype": dtype,
        "largest logits difference": difference,
        "texts with equal tokens": sum(a == b for a, b in zip(ids, plain, strict=True)),
        "texts generated equally": equal,
        "texts": len(TEXTS),
    }


def run() -> list[dict[str, Any]]:
    """Both families, in float32 and bfloat16 weights."""
    rows = []
    for name in ("bart_032", "gpt2_032"):
        for dtype in ("float32", "bfloat16"):
            with tempfile.TemporaryDirectory() as folder:
                rows.append(compare(GOLDEN / name, Path(folder) / "exported", dtype))
    return rows


def main() -> None:
    """Writes the result beside the script."""
    result = {
        "versions": {"fuseq": fuseq.__version__, "transformers": version("transformers")},
        "rows": run(),
    }
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
