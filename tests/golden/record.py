# SPDX-License-Identifier: Apache-2.0
"""Records the tiny models of this folder and what transformers generates with them.

Needs torch, transformers and an installed fuseq:  python tests/golden/record.py
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "python"))

import fuseq  # noqa: E402
import oracle_models  # noqa: E402

OPTIONS: list[dict[str, Any]] = [
    {"max_length": 16},
    {"max_length": 16, "num_beams": 4, "num_return_sequences": 3},
    {"max_length": 20, "num_beams": 3, "early_stopping": True, "no_repeat_ngram_size": 2},
    {"max_length": 14, "num_beams": 2, "length_penalty": 2.0, "repetition_penalty": 1.3},
]
NUM_PROMPTS = 4
LOGITS_SHOWN = 8


def models() -> dict[str, Any]:
    """The tiny models, each under 300 KB in float32."""
    return {
        "bart_tiny": oracle_models.bart(
            11, gain=2.0, eos_bias=7.5, vocab_size=120, d_model=24, encoder_layers=2,
            decoder_layers=3, encoder_attention_heads=3, decoder_attention_heads=2,
            encoder_ffn_dim=48, decoder_ffn_dim=40, max_position_embeddings=32,
        ),
        "gpt2_tiny": oracle_models.gpt2(
            12, gain=2.5, eos_bias=2.5, vocab_size=120, n_embd=24, n_layer=2, n_head=3,
            n_inner=56, n_positions=32,
        ),
    }  # fmt: skip


def generate(model: Any, prompt: list[int], options: dict[str, Any]) -> list[dict[str, Any]]:
    """transformers' hypotheses for one prompt, what follows the end id cut off."""
    ids = torch.tensor([prompt])
    output = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
        **options,
    )
    start = 1 if model.config.is_encoder_decoder else len(prompt)
    rows = []
    for index, row in enumerate(output.sequences.tolist()):
        end = row.index(oracle_models.EOS, start) + 1 if oracle_models.EOS in row[start:] else None
        scores = output.get("sequences_scores")
        score = 0.0 if scores is None else float(scores[index])
        rows.append({"ids": row[:end], "score": round(score, 6)})
    return rows


def record(model: Any, seed: int) -> dict[str, Any]:
    """Inputs and what comes out of them."""
    generator = torch.Generator().manual_seed(seed)
    vocab = model.config.vocab_size
    prompts = [oracle_models.random_ids(generator, vocab, 3, 10) for _ in range(NUM_PROMPTS)]
    cases = [
        {"prompt": prompt, "options": options, "hypotheses": generate(model, prompt, options)}
        for options in OPTIONS
        for prompt in prompts
    ]
    prompt, ids = prompts[0], oracle_models.random_ids(generator, vocab, 6, 6)
    is_bart = model.config.is_encoder_decoder
    inputs = {"decoder_input_ids": torch.tensor([ids])} if is_bart else {}
    with torch.no_grad():
        output = model(input_ids=torch.tensor([prompt if is_bart else ids]), **inputs)
    shown = [[round(x, 5) for x in row[:LOGITS_SHOWN]] for row in output.logits[0].tolist()]
    return {
        "recorded_with": f"transformers {transformers.__version__}, torch {torch.__version__}",
        "seq2seq": is_bart,
        "cases": cases,
        "logits": {
            "encoder_ids": prompt if is_bart else [],
            "decoder_ids": ids,
            "first_columns": shown,
        },
    }


def main() -> None:
    """Writes every model in both formats, and expected.json beside our own."""
    for seed, (name, model) in enumerate(models().items()):
        theirs = oracle_models.save(model, HERE / f"{name}_hf")
        fuseq.save_model(fuseq.load_model(theirs), HERE / name)
        text = json.dumps(record(model, seed), separators=(",", ":"))
        (HERE / name / "expected.json").write_text(text.replace('{"prompt"', '\n{"prompt"') + "\n")


if __name__ == "__main__":
    main()
