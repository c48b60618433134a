# SPDX-License-Identifier: Apache-2.0
"""Runs one row: ids first, then times in interleaved rounds."""

from __future__ import annotations

import argparse
import dataclasses
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

from comparison.checks import Exam, Ids, slack_of
from comparison.rivals import JUDGE, RIVALS, SUBJECT, PeerError, PeerProcess
from comparison.rows import Row, target_of

SLOW_ROUNDS = 2  # of a rival that is far behind another one


@dataclasses.dataclass
class Timing:
    """What one peer did in the rounds."""

    rates: list[float] = dataclasses.field(default_factory=list)  # new tokens per second
    seconds: list[float] = dataclasses.field(default_factory=list)
    new_tokens: int = 0  # of the last round

    def add(self, ids: Ids, seconds: float) -> None:
        """One round."""
        self.new_tokens = sum(map(len, ids))
        self.seconds.append(seconds)
        self.rates.append(self.new_tokens / seconds)


@dataclasses.dataclass(frozen=True)
class Checked:
    """What one peer did before the rounds.

    Attributes:
        batch: The fields of its batch.
        ids: That it made of them.
        counts: Of equal ids and rows, and what else the report keeps of it.
        seconds: Of its last run.
    """

    batch: dict[str, Any]
    ids: Ids
    counts: dict[str, int]
    seconds: float


def prompts_of(row: Row, vocab: int) -> Ids:
    """Random prompts, the same each time, without the special ids at both ends."""
    chance = random.Random(row.batch)
    lengths = [row.source] * row.batch
    if row.ragged:
        lengths = [chance.randint(row.shortest, row.source) for _ in lengths]
    return [[chance.randrange(10, vocab - 10) for _ in range(length)] for length in lengths]


def batch_of(row: Row, prompts: Ids) -> dict[str, Any]:
    """The fields of a peer's batch, all rows of equal length."""
    lengths = {"new_tokens": row.new_tokens, "min_new_tokens": row.new_tokens}
    return {"ids": prompts, "beams": row.beams, **lengths}


def check_row(
    row: Row, peers: list[PeerProcess], prompts: Ids
) -> tuple[Exam, dict[str, Checked], dict[str, str]]:
    """Compares every peer's ids with the judge's, which comes first, and warms it up.

    Returns:
        What ids must be; for each peer that passed what it did; for each that did not, why. If
        the judge fails, nobody passes.
    """
    judge = next(peer for peer in peers if peer.name == JUDGE)
    batch = batch_of(row, prompts)
    exam = Exam(
        judge,
        prompts,
        row.beams,
        row.new_tokens,
        row.new_tokens,
        expected=[],
        slack=slack_of(row.model),
    )
    passed: dict[str, Checked] = {}
    failures: dict[str, str] = {}
    for peer in [judge, *(peer for peer in peers if peer is not judge)]:
        try:
            ids, _ = peer.generate(**batch)
            if peer is judge:
                exam.check_lengths(ids)
                exam.expected = ids
            counts = exam.check(ids, RIVALS[peer.name].dtypes[row.dtype])
            # Once more: what is made at first use is there now.
            again, seconds = peer.generate(**batch)
            passed[peer.name] = Checked(batch, ids, counts, seconds)
            if again != ids:
                exam.check(again, RIVALS[peer.name].dtypes[row.dtype])
        except PeerError as error:
            passed.pop(peer.name, None)
            failures[peer.name] = str(error)
            if peer is judge:
                break
    return exam, passed, failures


def time_rounds(
    peers: list[PeerProcess],
    passed: dict[str, Checked],
    rounds: dict[str, int],
    pause: float,
    check: Callable[[str, Ids], object],
) -> tuple[dict[str, Timing], dict[str, str]]:
    """All peers in turn, round after round; a slow one in the first rounds only.

    Each round begins with another peer: what comes behind a heavy run must not be the same always.

    Args:
        peers: Those that passed, and others that are left out.
        passed: What each peer did when it was checked.
        rounds: How many rounds each peer takes part in.
        pause: Seconds before each run.
        check: Raises a PeerError if a peer's ids, which are not those that were checked, are wrong.

    Returns:
        The times of each peer, and for each that failed in a round, why: it has no times.
    """
    timings = {peer.name: Timing() for peer in peers if peer.name in passed}
    failures: dict[str, str] = {}
    for number in range(max(rounds.values(), default=0)):
        running = [peer for peer in peers if peer.name in timings and number < rounds[peer.name]]
        first = number % max(1, len(running))
        for peer in running[first:] + running[:first]:
            time.sleep(pause)
            try:
                ids, seconds = peer.generate(**passed[peer.name].batch)
                if ids != passed[peer.name].ids:
                    check(peer.name, ids)
                timings[peer.name].add(ids, seconds)
            except PeerError as error:
                del timings[peer.name]
                failures[peer.name] = f"round {number + 1}: {error}"
    return timings, failures


def rounds_within(seconds: dict[str, float], options: argparse.Namespace) -> dict[str, int]:
    """As many rounds as are asked for, fewer where runs take too long.

    A rival that takes over twice as long as another one is not the strongest, whatever the moment:
    it takes part in the first rounds only.
    """
    fastest = min((t for name, t in seconds.items() if name != SUBJECT), default=0.0)
    rounds = {}
    for name, taken in seconds.items():
        wanted = options.rounds if taken <= 2 * fastest else min(options.rounds, SLOW_ROUNDS)
        rounds[name] = max(1, min(wanted, int(options.budget / taken)))
    return rounds


def ratios(faster: list[float], slower: list[float]) -> list[float]:
    """Of the rounds that both took part in: both runs of a round saw the same moment."""
    return [a / b for a, b in zip(faster, slower, strict=False)]


def summary(own: Timing, subject: Timing | None, judge: Timing | None) -> dict[str, Any]:
    """The figures of one peer."""
    result: dict[str, Any] = {
        "tokens_per_second": statistics.median(own.rates),
        "lowest": min(own.rates),
        "highest": max(own.rates),
        "rounds": len(own.rates),
        "new_tokens": own.new_tokens,
        "seconds": own.seconds,
    }
    if subject is not None:
        found = ratios(subject.rates, own.rates)
        result |= {
            "ratio": statistics.median(found),
            "ratio_lowest": min(found),
            "ratio_highest": max(found),
            # Of the rounds that both took part in: more rounds have a better best.
            "best_ratio": max(subject.rates[: len(found)]) / max(own.rates[: len(found)]),
        }
    if judge is not None:
        result["times_transformers"] = statistics.median(ratios(own.rates, judge.rates))
    return result


def table_of(
    row: Row,
    timings: dict[str, Timing],
    passed: dict[str, Checked],
    failures: dict[str, str],
) -> dict[str, Any]:
    """What the report keeps of a row: every peer, and fuseq against the strongest of them."""
    results = {
        name: {
            "dtype": RIVALS[name].dtypes[row.dtype],
            **passed[name].counts,
            **summary(timing, timings.get(SUBJECT), timings.get(JUDGE)),
        }
        for name, timing in timings.items()
    }
    table: dict[str, Any] = {**dataclasses.asdict(row), "target": target_of(row)}
    rivals = [name for name in results if name != SUBJECT]
    if SUBJECT in results and rivals:
        strongest = min(rivals, key=lambda name: results[name]["ratio"])
        kept = ("ratio", "ratio_lowest", "ratio_highest", "best_ratio")
        table |= {"strongest": strongest, **{key: results[strongest][key] for key in kept}}
    return {**table, "peers": results, "failures": failures}


def run_row(
    row: Row, peers: list[PeerProcess], vocab: int, options: argparse.Namespace
) -> dict[str, Any]:
    """One row of equal lengths: compare the ids, then time."""
    prompts = prompts_of(row, vocab)
    exam, passed, failures = check_row(row, peers, prompts)
    timings, failed = time_rounds(
        peers,
        passed,
        rounds_within({name: checked.seconds for name, checked in passed.items()}, options),
        options.pause,
        lambda name, ids: exam.check(ids, RIVALS[name].dtypes[row.dtype]),
    )
    return table_of(row, timings, passed, failures | failed)
