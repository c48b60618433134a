# SPDX-License-Identifier: Apache-2.0
"""Private memory over many short generations of mixed options, and the threads they leave.

Run in full:  python tests/python/measure_flat_memory.py [--json FILE]
"""

import argparse
import gc
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import fuseq
import numpy as np

LIMIT_MB = 5


def resident_mb() -> float:
    """Private memory that is resident, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("/proc/self/status must have a line RssAnon, got none")


def num_threads() -> int:
    """Threads of this process."""
    return sum(1 for _ in Path("/proc/self/task").iterdir())


class _Stop(Exception):
    """Thrown by a callback."""


def mixed_options(chance: random.Random, table: fuseq.TokenBytes) -> fuseq.GenerationOptions:
    """One of many kinds."""
    fields: dict[str, Any] = {
        "max_new_tokens": chance.randint(1, 20),
        "return_scores": chance.random() < 0.3,
        "no_repeat_ngram_size": chance.choice((0, 0, 2)),
        "repetition_penalty": chance.choice((1.0, 1.2)),
    }
    kind = chance.randrange(6)
    if kind == 0:
        fields |= {"num_beams": chance.randint(2, 5), "num_return_sequences": 2}
    elif kind == 1:
        fields |= {"do_sample": True, "top_k": 9, "num_return_sequences": chance.randint(1, 6)}
    elif kind == 2:
        fields |= {"do_sample": True, "top_p": 0.9, "temperature": 1.5}
    elif kind == 3:
        fields |= {"penalty_alpha": 0.5, "top_k": chance.randint(2, 5)}
    elif kind == 4:
        fields |= {"sampler": lambda p: np.argmax(p, -1)}  # numpy has a thread of its own
    if chance.random() < 0.3:
        fields |= {"stop_strings": ["7>", "no such"], "token_bytes": table}
    return fuseq.GenerationOptions(**fields)


def generate_some(model: fuseq.Model, chance: random.Random, table: fuseq.TokenBytes) -> int:
    """One call on a few prompts; some are streamed, some are broken off. Returns generations."""
    prompts = [
        [chance.randrange(3, 120) for _ in range(chance.randint(1, 10))]
        for _ in range(chance.randint(1, 12))
    ]
    options = mixed_options(chance, table)
    on_token = None
    if options.num_beams == 1 and chance.random() < 0.3:
        left = chance.choice((3, 10**9))

        def on_token(row: int, token: int, text: str) -> bool:
            nonlocal left
            left -= 1
            if left == 0:
                raise _Stop
            return token % 13 == 0

    try:
        fuseq.generate(
            model, prompts, options, max_batch_size=chance.choice((None, 1, 3, 20)),
            on_token=on_token,
        )  # fmt: skip
    except _Stop:
        pass
    return len(prompts)


def run(golden: Path, generations: int, warm_up: int) -> dict[str, Any]:
    """Memory after the warm-up and at the end."""
    chance = random.Random(1)
    table = fuseq.TokenBytes([f"<{i}>".encode() for i in range(120)])
    threads = num_threads()
    models = [fuseq.load_model(golden / name, num_threads=2) for name in ("bart_tiny", "gpt2_tiny")]
    done = 0
    at_first = 0.0
    highest = 0.0
    while done < generations:
        done += generate_some(chance.choice(models), chance, table)
        if at_first == 0 and done >= warm_up:
            gc.collect()
            at_first = resident_mb()
        if at_first:
            highest = max(highest, resident_mb())
    gc.collect()
    at_last = resident_mb()
    models.clear()
    gc.collect()
    return {
        "generations": done,
        "after_warm_up_mb": round(at_first, 2),
        "highest_mb": round(highest, 2),
        "at_the_end_mb": round(at_last, 2),
        "grown_mb": round(highest - at_first, 2),
        "threads_left": num_threads() - threads,
    }


def main() -> int:
    """Runs 100,000 generations; returns 1 if memory grew or a thread is left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="where to write the results")
    parser.add_argument("--generations", type=int, default=100_000)
    options = parser.parse_args()
    started = time.monotonic()
    golden = Path(__file__).resolve().parents[1] / "golden"
    result = run(golden, options.generations, warm_up=1000)
    result["seconds"] = round(time.monotonic() - started)
    text = json.dumps(result, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")
    return int(result["grown_mb"] >= LIMIT_MB or result["threads_left"] != 0)


if __name__ == "__main__":
    sys.exit(main())
