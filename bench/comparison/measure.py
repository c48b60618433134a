# SPDX-License-Identifier: Apache-2.0
"""Runs one row: ids first, then times in interleaved rounds."""

from __future__ import annotations

import argparse
import dataclasses
import random
import statistics
import time
from typing import Any

from comparison.checks import Ids, check_lengths, count_ids, count_rows
from comparison.rivals import JUDGE, RIVALS, SUBJECT, PeerError, PeerProcess
from comparison.rows import TARGETS, Row

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
    row: Row, peers: list[PeerProcess], prompts: Ids, budget: float
) -> tuple[dict[str, dict[str, int]], dict[str, float], dict[str, str]]:
    """Warms every peer up and compares its ids with the judge's, which comes first.

    Returns:
        For each peer that passed the counts of ids and the seconds of its last run; for each that
        did not, why.
    """
    batch = batch_of(row, prompts)
    expected: Ids = []
    checks: dict[str, dict[str, int]] = {}
    warm: dict[str, float] = {}
    failures: dict[str, str] = {}
    for peer in peers:
        try:
            ids, seconds = peer.generate(**batch)
            check_lengths(ids, row.new_tokens)
            expected = expected or ids
            counts = count_ids(ids, expected)
            if row.beams == 1 and RIVALS[peer.name].dtypes[row.dtype] == "float32":
                counts |= count_rows(ids, expected, prompts, peers[0])
            if seconds < budget:  # once more: what is made at first use is there now
                _, seconds = peer.generate(**batch)
            warm[peer.name] = seconds
            checks[peer.name] = counts
        except PeerError as error:
            failures[peer.name] = str(error)
    return checks, warm, failures


def time_rounds(
    peers: list[PeerProcess],
    batches: dict[str, dict[str, Any]],
    rounds: dict[str, int],
    pause: float,
) -> dict[str, Timing]:
    """All peers in turn, round after round; a slow one in the first rounds only.

    Args:
        peers: Those with a batch run.
        batches: The fields of each peer's batch.
        rounds: How many rounds each peer takes part in.
        pause: Seconds before each run.
    """
    timings = {name: Timing() for name in batches}
    for number in range(max(rounds.values(), default=0)):
        for peer in peers:
            if peer.name in batches and number < rounds[peer.name]:
                time.sleep(pause)
                timings[peer.name].add(*peer.generate(**batches[peer.name]))
    return timings


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
            "best_ratio": max(subject.rates) / max(own.rates),
        }
    if judge is not None:
        result["times_transformers"] = statistics.median(ratios(own.rates, judge.rates))
    return result


def table_of(
    row: Row,
    timings: dict[str, Timing],
    checks: dict[str, dict[str, int]],
    failures: dict[str, str],
) -> dict[str, Any]:
    """What the report keeps of a row: every peer, and fuseq against the strongest of them."""
    results = {
        name: {
            "dtype": RIVALS[name].dtypes[row.dtype],
            **checks[name],
            **summary(timing, timings.get(SUBJECT), timings.get(JUDGE)),
        }
        for name, timing in timings.items()
    }
    table: dict[str, Any] = {**dataclasses.asdict(row), "target": TARGETS.get(row.name)}
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
    checks, warm, failures = check_row(row, peers, prompts, options.budget)
    batch = batch_of(row, prompts)
    timings = time_rounds(
        peers, dict.fromkeys(checks, batch), rounds_within(warm, options), options.pause
    )
    return table_of(row, timings, checks, failures)
