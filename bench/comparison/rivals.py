# SPDX-License-Identifier: Apache-2.0
"""The rivals, and a process of its own for each."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from comparison.rows import Row

PEERS = Path(__file__).resolve().parent.parent / "peers"
ALL_DTYPES = {name: name for name in ("float32", "bfloat16", "int8")}


@dataclasses.dataclass(frozen=True)
class Rival:
    """How a rival is started, and what it can take part in.

    Attributes:
        file: In `peers/`.
        dtypes: For each dtype of a row, the one that the rival has for it.
        arguments: Of the command.
        environment: More environment variables.
        only_greedy: It has no beam search that is worth the wait.
        only_batches: It differs from another rival in batches only.
        only_models: It runs no other models; empty: it runs all.
        ragged: It takes a ragged list and batches it by itself.
    """

    file: str
    dtypes: dict[str, str]
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    only_greedy: bool = False
    only_batches: bool = False
    only_models: tuple[str, ...] = ()
    ragged: bool = False

    def takes(self, row: Row) -> bool:
        """Whether it takes part in a row."""
        return (
            row.dtype in self.dtypes
            and not (self.only_greedy and row.beams > 1)
            and not (self.only_batches and row.batch == 1)
            and not (self.only_models and row.model not in self.only_models)
            and (self.ragged or not row.ragged)
        )


JUDGE = "transformers"  # in float32 always: the others' ids are compared with its own
SUBJECT = "fuseq"
RIVALS = {
    JUDGE: Rival("transformers_peer.py", dict.fromkeys(ALL_DTYPES, "float32")),
    SUBJECT: Rival("fuseq_peer.py", ALL_DTYPES, ragged=True),
    "transformers-bfloat16": Rival(
        "transformers_peer.py", dict.fromkeys(("bfloat16", "int8"), "bfloat16")
    ),
    "transformers-compiled": Rival(
        "transformers_peer.py",
        {"float32": "float32"},
        arguments=("--compiled",),
        only_greedy=True,
    ),
    "ctranslate2": Rival("ctranslate2_peer.py", ALL_DTYPES, ragged=True),
    "ctranslate2-avx512": Rival(
        "ctranslate2_peer.py",
        ALL_DTYPES,
        environment={"CT2_FORCE_CPU_ISA": "AVX512"},
        ragged=True,
    ),
    "ctranslate2-workers": Rival(
        "ctranslate2_peer.py",
        ALL_DTYPES,
        arguments=("--workers",),
        only_batches=True,
        ragged=True,
    ),
    "keras-hub": Rival(
        "keras_hub_peer.py",
        {"float32": "float32"},
        environment={"KERAS_BACKEND": "torch"},
        only_greedy=True,
        only_models=("bart-base", "bart-tiny"),
    ),
}


class PeerError(RuntimeError):
    """A peer could not do what it was asked."""


class PeerProcess:
    """A peer in a process of its own."""

    def __init__(self, name: str, threads: int) -> None:
        """Start the peer `name` of `RIVALS`."""
        rival = RIVALS[name]
        self.name = name
        self._words = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        self._process = subprocess.Popen(
            [sys.executable, str(PEERS / rival.file), *rival.arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads), **rival.environment},
        )

    def call(self, function: str, **arguments: object) -> dict[str, Any]:
        """The peer's whole answer, with its `result`."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"call": function, "arguments": arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        if not line:
            raise PeerError(f"the process ended with {self._process.wait()}: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer

    def generate(self, **fields: object) -> tuple[list[list[int]], float]:
        """The new ids of a batch, and the seconds that they took."""
        answer = self.call("generate", **fields)
        return answer["result"], answer["seconds"]

    def _last_words(self) -> str:
        self._words.seek(0)
        lines = [line.strip() for line in self._words if line.strip()]
        return lines[-1] if lines else "no message"

    def close(self) -> None:
        """End the process, which may have ended by itself."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait()
        self._words.close()


@dataclasses.dataclass
class Field:
    """The peers that run, what does, and why the others do not."""

    peers: list[PeerProcess] = dataclasses.field(default_factory=list)
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    absent: dict[str, str] = dataclasses.field(default_factory=dict)

    def close(self) -> None:
        """End all processes."""
        for peer in self.peers:
            peer.close()


def start_peers(names: list[str], folder: Path, dtype: str, threads: int) -> Field:
    """Starts peers, in the order of `RIVALS`, with the model loaded.

    Args:
        names: Which of `RIVALS`.
        folder: A transformers folder.
        dtype: The rows' dtype.
        threads: Of each peer.

    Returns:
        What runs. A rival that cannot (its package is not there, the CPU lacks its instruction
        set) is told with its reason, and is no failure.

    Raises:
        PeerError: fuseq or the judge cannot.
    """
    field = Field()
    for name in sorted(names, key=list(RIVALS).index):
        peer = PeerProcess(name, threads)
        try:
            answer = peer.call(
                "prepare", folder=str(folder), threads=threads, dtype=RIVALS[name].dtypes[dtype]
            )
            field.versions |= answer["result"]
            field.peers.append(peer)
        except PeerError as error:
            peer.close()
            field.absent[name] = str(error)
            if name in (JUDGE, SUBJECT):
                field.close()
                raise PeerError(f"{name}: {error}") from error
    return field
