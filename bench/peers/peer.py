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
from typing import Any, Protocol, TypeVar

Inputs = TypeVar("Inputs")
Output = TypeVar("Output")


@dataclasses.dataclass(frozen=True)
class Batch:
    """Prompts (or sources), and how many tokens to make of each.

    Attributes:
        ids: The prompts.
        new_tokens: The most new tokens of a row.
        min_new_tokens: The fewest; end ids are banned before. As many as `new_tokens`: all rows
            are equally long.
        beams: 1 is greedy search; the length penalty is 1.
        group: How much of the list a system takes at once, in the unit of the peer; None: all.
    """

    ids: list[list[int]]
    new_tokens: int
    min_new_tokens: int
    beams: int = 1
    group: int | None = None


class Peer(Protocol[Inputs, Output]):
    """The interface of every rival. Of a batch only `run` is timed."""

    def prepare(self, folder: Path, threads: int, dtype: str) -> dict[str, str]:
        """Load a transformers folder; return the versions of what runs."""

    def inputs(self, batch: Batch) -> Inputs:
        """The prompts as the system takes them."""

    def run(self, batch: Batch, inputs: Inputs) -> Output:
        """Generate, and return the results as the system gives them."""

    def new_ids(self, batch: Batch, output: Output) -> list[list[int]]:
        """The new ids of each prompt's best row, with the end id if it ended."""


def generate(peer: Peer[Inputs, Output], fields: dict[str, Any]) -> tuple[list[list[int]], float]:
    """The new ids, and the seconds of generation alone."""
    batch = Batch(**fields)
    inputs = peer.inputs(batch)
    start = time.perf_counter()
    output = peer.run(batch, inputs)
    seconds = time.perf_counter() - start
    return peer.new_ids(batch, output), seconds


def serve(peer: Peer[Any, Any]) -> None:
    """Answer `prepare`, `generate` and what else the peer has until standard input ends."""
    # What libraries print must not mix with the answers: those go to the old standard output.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        name, arguments = request["call"], request["arguments"]
        if name == "prepare":
            arguments["folder"] = Path(arguments["folder"])
        try:
            if name == "generate":
                result, seconds = generate(peer, arguments)
                answer = {"result": result, "seconds": seconds}
            else:
                answer = {"result": getattr(peer, name)(**arguments)}
        except Exception as error:  # the caller decides what a failure means
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)
