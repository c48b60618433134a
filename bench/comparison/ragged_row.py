# SPDX-License-Identifier: Apache-2.0
"""Runs the row of a long ragged list: each system batches it as it does best."""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
from pathlib import Path
from typing import Any

from comparison.checks import Exam, Ids, slack_of
from comparison.measure import Checked, prompts_of, table_of, time_rounds
from comparison.rivals import JUDGE, RIVALS, SUBJECT, PeerError, PeerProcess, start_peers
from comparison.rows import Row

REFERENCE = "ctranslate2"
# What a system may take of the list at once: fuseq slots, CTranslate2 source tokens.
GROUPS = {SUBJECT: (8, 16, 32, 64)}
TOKEN_GROUPS = (1024, 2048, 4096, 8192)
TUNING_INPUTS = 200
JUDGED_ROWS = 32  # of a list; a judgement takes as long as some tokens


def batch_of(row: Row, prompts: Ids, group: int) -> dict[str, Any]:
    """The fields of a peer's batch; rows end by themselves."""
    lengths = {"new_tokens": row.new_tokens, "min_new_tokens": row.shortest}
    return {"ids": prompts, "beams": row.beams, "group": group, **lengths}


def check_float32(
    exam: Exam, row: Row, folder: Path, threads: int
) -> tuple[Ids, dict[str, dict[str, int]]]:
    """Both fuseq and CTranslate2 must give the same ids in float32, or part at a near tie.

    Returns:
        The ids of CTranslate2, some rows of which are judged, and the counts of fuseq and of
        CTranslate2 against itself.
    """
    field = start_peers([SUBJECT, REFERENCE], folder, "float32", threads)
    try:
        by_name = {peer.name: peer for peer in field.peers}
        if REFERENCE not in by_name:
            raise PeerError(f"{REFERENCE}: {field.absent[REFERENCE]}")
        reference = by_name[REFERENCE]
        expected, _ = reference.generate(**batch_of(row, exam.prompts, TOKEN_GROUPS[1]))
        exam.check_lengths(expected)
        for number in range(0, len(expected), max(1, len(expected) // JUDGED_ROWS)):
            exam.judge_row(number, expected[number], "float32")
        ids, _ = by_name[SUBJECT].generate(**batch_of(row, exam.prompts, GROUPS[SUBJECT][1]))
        counts = dataclasses.replace(exam, expected=expected).check(ids, "float32")
    finally:
        field.close()
    return expected, {
        SUBJECT: {f"float32_{name}": counts[name] for name in ("equal_rows", "tied_rows")},
        REFERENCE: {"float32_equal_rows": len(expected), "float32_tied_rows": 0},
    }


def tune(row: Row, peer: PeerProcess, prompts: Ids) -> dict[int, float]:
    """Tokens per second on the list's beginning for each size of a group."""
    rates = {}
    groups = GROUPS.get(peer.name, TOKEN_GROUPS)
    # Once before: what is made at first use must not count against the first size.
    for group in (groups[0], *groups):
        batch = batch_of(row, prompts[:TUNING_INPUTS], group)
        ids, seconds = peer.generate(**batch)
        rates[group] = sum(map(len, ids)) / seconds
    return rates


def spread(ids: Ids) -> dict[str, float]:
    """How long the rows became."""
    lengths = sorted(map(len, ids))
    return {
        "shortest": lengths[0],
        "median": statistics.median(lengths),
        "mean": statistics.mean(lengths),
        "longest": lengths[-1],
        "at_longest": lengths.count(lengths[-1]),
    }


def run_list(
    row: Row,
    peers: list[PeerProcess],
    exam: Exam,
    counts: dict[str, dict[str, int]],
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Tunes, checks and times every peer on the whole list.

    Args:
        row: The row.
        peers: Those that run.
        exam: What ids must be.
        counts: What the report keeps of a peer beside its own counts.
        options: Of the command line.
    """

    def check(name: str, ids: Ids) -> dict[str, int]:
        found = exam.check(ids, RIVALS[name].dtypes[row.dtype])
        return {key: found[key] for key in ("equal_ids", "ids")}

    tuning: dict[str, dict[int, float]] = {}
    passed: dict[str, Checked] = {}
    failures: dict[str, str] = {}
    for peer in peers:
        try:
            tuning[peer.name] = tune(row, peer, exam.prompts)
            group = max(tuning[peer.name], key=tuning[peer.name].__getitem__)
            batch = batch_of(row, exam.prompts, group)
            ids, seconds = peer.generate(**batch)
            found = {"group": group, **check(peer.name, ids), **counts.get(peer.name, {})}
            passed[peer.name] = Checked(batch, ids, found, seconds)
        except PeerError as error:
            failures[peer.name] = str(error)
    rounds = dict.fromkeys(passed, options.ragged_rounds)
    timings, failed = time_rounds(peers, passed, rounds, options.pause, check)
    return {**table_of(row, timings, passed, failures | failed), "tuning": tuning}


def run_ragged_row(
    row: Row,
    names: list[str],
    folder: Path,
    vocab: int,
    options: argparse.Namespace,
) -> tuple[dict[str, Any], dict[str, str]]:
    """The row of a ragged list, and the versions of what ran."""
    prompts = prompts_of(row, vocab)
    judges = start_peers([JUDGE], folder, "float32", options.threads)
    try:
        exam = Exam(
            judges.peers[0],
            prompts,
            row.beams,
            row.new_tokens,
            row.shortest,
            expected=[],
            end_id=json.loads((folder / "config.json").read_text())["eos_token_id"],
            slack=slack_of(row.model),
        )
        exam.expected, counts = check_float32(exam, row, folder, options.threads)
        exam.most = JUDGED_ROWS  # int8 parts from float32 in nearly all rows
        field = start_peers(names, folder, row.dtype, options.threads)
        try:
            table = run_list(row, field.peers, exam, counts, options)
        finally:
            field.close()
    finally:
        judges.close()
    extra = {"float32_new_tokens": spread(exam.expected), "absent": field.absent}
    return {**table, **extra}, field.versions
