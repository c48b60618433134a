# SPDX-License-Identifier: Apache-2.0
"""A long ragged list with natural ends against the same tokens in perfect batches.

    python bench/ragged.py --model bart-base --slots 8,32 --output bench/results/cpu-ragged.json

Sources have random lengths and rows end where the model draws its end id, so slots empty one by one
and new inputs enter while others run. The perfect batches have the same number of slots, of source
tokens and of new tokens, but all rows of a batch begin and end together: nothing is ever waited
for. Both run in turn, round after round; the ratio is taken within a round.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import fuseq
import numpy as np
from random_models import random_spec, random_weights

MAX_NEW_TOKENS = 96
# The end id's bias, so that drawn rows end by themselves after 30 tokens or so.
END_BIAS = {"bart-tiny": 7.3, "bart-base": 11.9, "marian-base": 12.0}
# Rows of random weights end when they are drawn; greedy ones repeat themselves for ever.
DRAWS = {"do_sample": True, "seed": 1}


def build(name: str, threads: int | None) -> fuseq.Model:
    """A model of a real shape whose rows end by themselves."""
    spec = random_spec(name)
    weights = random_weights(spec, END_BIAS[name])
    return fuseq.Model.build(json.dumps(spec), weights, num_threads=threads)


def shares(total: int, parts: int) -> list[int]:
    """`total` split into `parts` as evenly as whole numbers go."""
    return [total * (i + 1) // parts - total * i // parts for i in range(parts)]


def ragged_sources(count: int, vocab: int, longest: int, seed: int) -> list[list[int]]:
    """Sources of random lengths."""
    chance = random.Random(seed)
    return [
        [chance.randrange(3, vocab) for _ in range(chance.randint(longest // 8, longest))]
        for _ in range(count)
    ]


def perfect_batches(
    sources: list[list[int]], new_tokens: int, slots: int
) -> list[tuple[list[list[int]], int]]:
    """The same tokens as (sources of one length, new tokens of every row)."""
    batches = []
    count = len(sources)
    groups = [sources[i : i + slots] for i in range(0, count, slots)]
    tokens = [token for source in sources for token in source]
    # Even shares by row, so that a last batch that is not full takes less.
    source_lengths = shares(len(tokens), count)
    row_lengths = shares(new_tokens, count)
    at = row = 0
    for group in groups:
        rows = slice(row, row + len(group))
        length = round(statistics.mean(source_lengths[rows]))
        batch = []
        for _ in group:
            batch.append((tokens + tokens)[at : at + length])
            at = (at + length) % len(tokens)
        batches.append((batch, round(statistics.mean(row_lengths[rows]))))
        row += len(group)
    return batches


def timed(work: Callable[[], int]) -> tuple[float, int]:
    """Seconds, and the number of new tokens."""
    started = time.perf_counter()
    tokens = work()
    return time.perf_counter() - started, tokens


def measure(model: fuseq.Model, slots: int, options: argparse.Namespace) -> dict[str, object]:
    """One row of the result."""
    vocab = json.loads(model.spec)["vocab"]
    sources = ragged_sources(options.inputs, vocab, options.longest, seed=1)
    natural = fuseq.GenerationOptions(max_new_tokens=MAX_NEW_TOKENS, **DRAWS)

    def run_ragged() -> int:
        rows = fuseq.generate(model, sources, natural, max_batch_size=slots)
        return sum(len(row.ids) - row.prompt_length for (row,) in rows)

    _, new_tokens = timed(run_ragged)
    batches = perfect_batches(sources, new_tokens, slots)

    def run_perfect() -> int:
        tokens = 0
        for batch, length in batches:
            fixed = fuseq.GenerationOptions(max_new_tokens=length, min_new_tokens=length, **DRAWS)
            rows = fuseq.generate(model, batch, fixed, max_batch_size=slots)
            tokens += sum(len(row.ids) - row.prompt_length for (row,) in rows)
        return tokens

    rounds = []
    for _ in range(options.rounds):
        ragged, tokens = timed(run_ragged)
        perfect, perfect_tokens = timed(run_perfect)
        # Per token: whole numbers leave the two a little apart.
        rounds.append((ragged / tokens) / (perfect / perfect_tokens))
    lengths = np.array([len(source) for source in sources])
    return {
        "model": options.model,
        "slots": slots,
        "inputs": options.inputs,
        "source tokens": int(lengths.sum()),
        "new tokens": tokens,
        "new tokens of the perfect batches": perfect_tokens,
        "ragged tokens/s": round(tokens / ragged, 1),
        "perfect tokens/s": round(perfect_tokens / perfect, 1),
        "ratio": round(statistics.median(rounds), 3),
        "lowest": round(min(rounds), 3),
        "highest": round(max(rounds), 3),
    }


def main() -> None:
    """Measures and prints one line per number of slots."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=tuple(END_BIAS), default="bart-base")
    parser.add_argument("--slots", default="8,32")
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--longest", type=int, default=64, help="tokens of the longest source")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    model = build(options.model, options.threads)
    rows = []
    for slots in map(int, options.slots.split(",")):
        rows.append(measure(model, slots, options))
        print(json.dumps(rows[-1]), flush=True)
    if options.output:
        result = {"machine": platform.processor() or platform.machine(), "rows": rows}
        options.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
