# SPDX-License-Identifier: Apache-2.0
"""Chi-square tests of every sampler through `generate`, and seeds in every composition of a batch.

A model whose logits never change draws one known distribution again and again: over prompts, draws
of one prompt and steps. The filters' distributions are computed plainly, in float64.

Run in full:  python tests/python/oracle_sampling.py [--json tests/python/oracle_sampling.json]
"""

import argparse
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import fuseq
import numpy as np
import numpy.typing as npt

Probabilities = npt.NDArray[np.float64]

LEAST_P = 1e-4
LEAST_EXPECTED = 10.0  # draws per cell; ids that expect fewer share a cell
VOCABULARIES = (11, 50265)
THREADS = (1, 3)
STEPS = 100
DRAWS_PER_PROMPT = 4

SAMPLERS: dict[str, dict[str, Any]] = {
    "random": {},
    "temperature": {"temperature": 0.7},
    "top_k": {"top_k": 5},
    "top_k_large": {"top_k": 400, "temperature": 1.5},
    "top_p": {"top_p": 0.8},
    "min_p": {"min_p": 0.05},
    "top_k_then_top_p": {"top_k": 6, "top_p": 0.75},
    "top_p_of_all_and_top_k": {"top_k": 6, "top_p": 0.75, "top_p_of_all": True},
    "all": {"temperature": 1.2, "top_k": 300, "top_p": 0.9, "min_p": 0.02},
}


def scores_of(vocab: int) -> npt.NDArray[np.float32]:
    """Scores with a few likely ids and a long tail."""
    scores = np.random.default_rng(vocab).standard_normal(vocab) * 2
    scores[: min(vocab, 300)] += np.linspace(8.0 if vocab > 1000 else 1.0, 0.0, min(vocab, 300))
    return scores.astype(np.float32)


def constant_model(vocab: int, num_threads: int) -> fuseq.Model:
    """A causal model without an end whose logits are `scores_of(vocab)` at every position."""
    dim = 8
    spec = {
        "vocab": vocab,
        "decoder": {
            "layers": 1, "dim": dim, "heads": 1, "kv_heads": 1, "head_dim": dim, "ffn_dim": dim,
            "max_positions": STEPS + 8,
        },
        "head": {"tied": False, "bias": True},
    }  # fmt: skip
    text = json.dumps(spec)
    weights = {
        name: np.zeros(shape, np.float32)
        for name, shape, _ in fuseq._core.weight_table(text)  # type: ignore[attr-defined]
    }
    weights["head.bias"] = scores_of(vocab)
    return fuseq.Model.build(text, weights, num_threads=num_threads)


def expected(scores: npt.NDArray[np.float32], fields: dict[str, Any]) -> Probabilities:
    """The distribution that the filters leave."""
    x = scores.astype(np.float64) / fields.get("temperature", 1.0)
    p = np.exp(x - x.max())
    p /= p.sum()
    order = np.argsort(-p, kind="stable")
    ranked = p[order]
    if 0 < fields.get("top_k", 0) < len(p):
        ranked = ranked[: fields["top_k"]]
        if not fields.get("top_p_of_all", False):
            ranked = ranked / ranked.sum()
    if fields.get("top_p", 1.0) < 1:
        before = np.cumsum(ranked) - ranked
        of_all = fields.get("top_p_of_all", False)
        ranked = ranked[before <= fields["top_p"] if of_all else before < fields["top_p"]]
    ranked = ranked[ranked >= fields.get("min_p", 0.0) * ranked[0]]
    result = np.zeros_like(p)
    result[order[: len(ranked)]] = ranked / ranked.sum()
    return result


def p_value(counts: npt.NDArray[np.int64], p: Probabilities) -> float:
    """Pearson's chi-square; small cells are joined."""
    import torch

    total = counts.sum()
    if counts[p == 0].any():
        return 0.0
    order = np.argsort(p)
    order = order[p[order] > 0]
    cells: list[tuple[float, int]] = []
    want, got = 0.0, 0
    for index in order:
        want += float(p[index] * total)
        got += int(counts[index])
        if want >= LEAST_EXPECTED:
            cells.append((want, got))
            want, got = 0.0, 0
    if want > 0:
        last = cells.pop()
        cells.append((last[0] + want, last[1] + got))
    statistic = sum((got - want) ** 2 / want for want, got in cells)
    freedom = torch.tensor((len(cells) - 1) / 2, dtype=torch.float64)
    return float(torch.special.gammaincc(freedom, torch.tensor(statistic / 2, dtype=torch.float64)))


def draw(model: fuseq.Model, fields: dict[str, Any], draws: int, seed: int) -> list[int]:
    """So many new ids, from `generate`."""
    options = fuseq.GenerationOptions(
        do_sample=True, seed=seed, max_new_tokens=STEPS, num_return_sequences=DRAWS_PER_PROMPT,
        **fields,
    )  # fmt: skip
    prompts = [[1 + i % 7] for i in range(-(-draws // (STEPS * DRAWS_PER_PROMPT)))]
    rows = [row for rows in fuseq.generate(model, prompts, options) for row in rows]
    return [token for row in rows for token in row.ids[1:]]


def test_distribution(name: str, vocab: int, threads: int, draws: int, seed: int) -> dict[str, Any]:
    """One row of the result."""
    fields = SAMPLERS[name]
    ids = draw(constant_model(vocab, threads), fields, draws, seed)
    counts = np.bincount(ids, minlength=vocab)
    p = p_value(counts, expected(scores_of(vocab), fields))
    return {"sampler": name, "vocabulary": vocab, "threads": threads, "draws": len(ids), "p": p}


test_distribution.__test__ = False  # type: ignore[attr-defined]


def compare_compositions(folder: Path, count: int, seed: int) -> int:
    """Rows compared: seeded rows in random lists, slots and threads equal those drawn at first."""
    chance = random.Random(seed)
    vocab = 120
    rows = [[chance.randrange(3, vocab) for _ in range(chance.randint(1, 9))] for _ in range(24)]
    options = fuseq.GenerationOptions(
        do_sample=True, temperature=1.5, top_k=30, top_p=0.95, seed=17, max_new_tokens=16,
        num_return_sequences=2,
    )  # fmt: skip
    models = [fuseq.load_model(folder, num_threads=threads) for threads in (1, 2, 3)]

    def prompt(index: int) -> fuseq.Prompt:
        sides = (rows[index], ()) if models[0].is_seq2seq else ((), rows[index])
        return fuseq.Prompt(*sides, sequence=index)

    first = fuseq.generate(models[0], [prompt(i) for i in range(len(rows))], options)
    want = [[row.ids for row in hypotheses] for hypotheses in first]
    compared = 0
    for _ in range(count):
        chosen = chance.choices(range(len(rows)), k=chance.randint(1, 12))
        got = fuseq.generate(
            chance.choice(models), [prompt(i) for i in chosen], options,
            max_batch_size=chance.randint(1, 14),
        )  # fmt: skip
        for index, hypotheses in zip(chosen, got, strict=True):
            if [row.ids for row in hypotheses] != want[index]:
                raise AssertionError(f"row {index} of {chosen} differs")
            compared += 1
    for index in range(len(rows)):
        (alone,) = fuseq.generate(models[0], [prompt(index)], options)
        if [row.ids for row in alone] != want[index]:
            raise AssertionError(f"row {index} alone differs")
        compared += 1
    return compared


def main() -> int:
    """Runs everything; returns 1 if a p-value is too small."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="where to write the results")
    parser.add_argument("--draws", type=int, default=200_000)
    parser.add_argument("--compositions", type=int, default=250)
    options = parser.parse_args()
    started = time.monotonic()
    results = []
    for vocab in VOCABULARIES:
        for threads in THREADS:
            for index, name in enumerate(SAMPLERS):
                seed = 1000 * threads + index
                results.append(test_distribution(name, vocab, threads, options.draws, seed))
                print(json.dumps(results[-1]), flush=True)
    golden = Path(__file__).resolve().parents[1] / "golden"
    compositions = {
        name: compare_compositions(golden / name, options.compositions, 5)
        for name in ("bart_tiny", "gpt2_tiny")
    }
    passed = all(result["p"] > LEAST_P for result in results)
    summary = {
        "smallest_p": min(result["p"] for result in results),
        "compositions": options.compositions,
        "rows_compared": compositions,
        "seconds": round(time.monotonic() - started),
        "passed": passed,
    }
    print(json.dumps(summary, indent=2))
    if options.json:
        lines = ",\n  ".join(json.dumps(result) for result in results)
        head = json.dumps(summary, indent=2)[:-2]
        options.json.write_text(f'{head},\n  "distributions": [\n  {lines}\n  ]\n}}\n')
    return int(not passed)


if __name__ == "__main__":
    sys.exit(main())
