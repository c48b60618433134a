# SPDX-License-Identifier: Apache-2.0
"""Measures a bart-large-sized float32 model: private memory, load time, import time.

Writes random folders in both formats under a temporary folder (3.3 GB), then loads and generates in
processes of their own whose RssAnon is sampled all the while.

Run:  python tests/python/measure_memory.py [--json tests/python/measure_memory.json]
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

LIMIT = 1.15  # peak private memory over weights plus caches
LOAD_SECONDS = 1.5
IMPORT_SECONDS = 0.3
NUM_PROMPTS = 8
PROMPT_LENGTH = 200
NEW_TOKENS = 40


def rss_anon() -> int:
    """Bytes of private memory of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this system has no RssAnon in /proc/self/status")


class Sampler(threading.Thread):
    """Keeps the largest RssAnon seen, looking every 2 ms."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.002):
            self.peak = max(self.peak, rss_anon())


def write_native(folder: Path) -> None:
    """A random folder of our own with the defaults of BartConfig, which are bart-large."""
    from fuseq import Tensor
    from fuseq._core import save_safetensors, validate_spec, weight_table
    from fuseq.models.families import bart

    random = np.random.default_rng(0)
    spec = validate_spec(json.dumps(bart.spec({})))

    def make(shape: tuple[int, ...], is_norm: bool) -> Any:
        values = random.standard_normal(shape, dtype=np.float32) / math.sqrt(shape[-1])
        return Tensor(1 + values if is_norm else values)

    entries = [
        (name, "float32", shape, lambda n=name, s=shape: make(s, n.endswith("norm.weight")))
        for name, shape, _ in weight_table(spec)
    ]
    folder.mkdir()
    (folder / "spec.json").write_text(spec)
    save_safetensors(folder / "model.safetensors", entries)


def measure(folder: str) -> dict[str, float]:
    """Loads and generates in this process."""
    start = time.perf_counter()
    import fuseq
    import fuseq._core

    imported = time.perf_counter()
    before = rss_anon()
    sampler = Sampler()
    sampler.start()
    load_start = time.perf_counter()
    model = fuseq.load_model(folder)
    load_end = time.perf_counter()
    after_load = sampler.peak
    session = fuseq.Session(model)
    options = fuseq.GenerationOptions(max_new_tokens=NEW_TOKENS, num_beams=4)
    random = np.random.default_rng(1)
    for _ in range(NUM_PROMPTS):
        session.submit(random.integers(3, 50000, PROMPT_LENGTH), options)
    caches = 0
    while session.step():
        caches = max(caches, session.cache_bytes)
    sampler.done.set()
    sampler.join()
    return {
        "import_seconds": imported - start,
        "load_seconds": load_end - load_start,
        "private_bytes_before": before,
        "weight_bytes": model.num_bytes,
        "cache_bytes": caches,
        "peak_while_loading": after_load,
        "peak_private_bytes": sampler.peak,
        "peak_over_weights_and_caches": sampler.peak / (model.num_bytes + caches),
    }


def child(*arguments: str) -> dict[str, float]:
    """Runs `measure` in a fresh process."""
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return dict(json.loads(done.stdout))


def main() -> int:
    """Measures both formats; returns 1 if a limit is passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="where to write the results")
    parser.add_argument("--measure", metavar="FOLDER", help="measure in this process, print JSON")
    parser.add_argument("--write", metavar="FOLDER", help="write the random folder of our own")
    parser.add_argument("--export", nargs=2, metavar="FOLDER", help="convert to transformers")
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return 0
    if options.write:
        write_native(Path(options.write))
        return 0
    if options.export:
        import fuseq

        fuseq.export_transformers(fuseq.load_model(options.export[0]), options.export[1])
        return 0

    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = f"{folder}/ours", f"{folder}/theirs"
        subprocess.run([sys.executable, __file__, "--write", ours], check=True)
        subprocess.run([sys.executable, __file__, "--export", ours, theirs], check=True)
        for name, path in (("fuseq folder", ours), ("transformers folder", theirs)):
            child("--measure", path)  # brings the file into the page cache
            results[name] = child("--measure", path)
            print(name, json.dumps(results[name], indent=2), flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")
    failed = [
        name
        for name, result in results.items()
        if result["peak_over_weights_and_caches"] >= LIMIT
        or result["import_seconds"] >= IMPORT_SECONDS
        or (name == "fuseq folder" and result["load_seconds"] >= LOAD_SECONDS)
    ]
    print(f"over a limit: {', '.join(failed) or 'nothing'}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
