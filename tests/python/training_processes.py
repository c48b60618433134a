# SPDX-License-Identifier: Apache-2.0
"""Runs `training_script.py`: here, in a process of its own, or in several of torchrun."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import training_script


def run_here(*runs: dict[str, Any]) -> list[Any]:
    """Trains in this process, in one thread as the script does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [training_script.train(run) for run in runs]
    finally:
        torch.set_num_threads(threads)


def run_script(folder: Path, *runs: dict[str, Any], processes: int = 1) -> Any:
    """Trains.

    Returns:
        What each run has found, in the main process; None where the script was killed.
    """
    folder.mkdir(exist_ok=True)
    (folder / "runs.json").write_text(json.dumps(runs))
    out = folder / "out.json"
    out.unlink(missing_ok=True)
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone"]
        start += ["--nproc-per-node", str(processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*start, training_script.__file__, str(folder / "runs.json"), str(out)],
        capture_output=True, text=True, env=environment,
    )  # fmt: skip
    if any("die" in run for run in runs):
        assert done.returncode != 0 and not out.exists(), done.stderr
        return None
    assert done.returncode == 0, done.stderr
    (folder / "shown.txt").write_text(done.stdout + done.stderr)
    return json.loads(out.read_text())
