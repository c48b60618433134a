# SPDX-License-Identifier: Apache-2.0
"""What all peers share: a batch, and a loop that answers requests, one JSON object per line.

Each peer runs in a process of its own, so that the threads of one do not slow another down.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from pathlib import Path
from typing import Protocol


@dataclasses.dataclass(frozen=True)
class Batch:
    """Prompts (or sources) of one length, and the number of new tokens to make."""

    ids: list[list[int]]
    new_tokens: int


class Peer(Protocol):
    """The interface of every rival."""

    def prepare(self, folder: Path, threads: int, dtype: str) -> dict[str, str]:
        """Load a transformers folder; return the versions of what runs."""

    def run(self, batch: Batch) -> list[list[int]]:
        """Return exactly `batch.new_tokens` new ids per prompt: greedy search, end ids banned."""


def serve(peer: Peer) -> None:
    """Answer `prepare`, `run` and whatever else the peer has until standard input ends."""
    # What libraries print must not mix with the answers: those go to the old standard output.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        name, arguments = request["call"], request["arguments"]
        if name == "prepare":
            arguments["folder"] = Path(arguments["folder"])
        if name == "run":
            arguments = {"batch": Batch(**arguments)}
        try:
            start = time.perf_counter()
            result = getattr(peer, name)(**arguments)
            answer = {"result": result, "seconds": time.perf_counter() - start}
        except Exception as error:  # the caller decides what a failure means
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)
