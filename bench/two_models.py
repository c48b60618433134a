# SPDX-License-Identifier: Apache-2.0
"""Two models at once on the cores of one: how much slower than one after the other?

    python bench/two_models.py --models /tmp/models

Both have a team of as many threads as the machine has cores, so the teams share the cores. The
rounds alternate; the figure is the median of the ratios.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import fuseq
from random_models import model_folder


def seconds(work: Callable[[], object]) -> float:
    """Seconds that one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Prints the ratio of each round and their median."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, help="where random models are kept between runs")
    parser.add_argument("--model", default="bart-base")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as temporary:
        folder = model_folder(arguments.model, arguments.models or Path(temporary))
        models = [fuseq.load_model(folder, num_threads=arguments.threads) for _ in range(2)]
    options = fuseq.GenerationOptions(max_new_tokens=64, min_new_tokens=64)

    def generate(model: fuseq.Model) -> None:
        fuseq.generate(model, [list(range(10, 138))], options)

    def in_turn() -> None:
        for model in models:
            generate(model)

    def at_once() -> None:
        threads = [threading.Thread(target=generate, args=(model,)) for model in models]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    in_turn()
    ratios = []
    for _ in range(arguments.rounds):
        one_by_one, together = seconds(in_turn), seconds(at_once)
        ratios.append(together / one_by_one)
        print(f"in turn {one_by_one:.3f} s, at once {together:.3f} s, ratio {ratios[-1]:.3f}")
    print(f"median ratio {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
