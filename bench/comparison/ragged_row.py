# SPDX-License-Identifier: Apache-2.0
"""Runs the row of a long ragged list: each system batches it as it does best."""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

from comparison.checks import Ids, count_ids, count_rows
from comparison.measure import prompts_of, table_of, time_rounds
from comparison.rivals import JUDGE, SUBJECT, PeerError, PeerProcess, start_peers
from comparison.rows import Row

REFERENCE = "ctranslate2"
# What a system may take of the list at once: fuseq slots, CTranslate2 source tokens.
GROUPS = {SUBJECT: (8, 16, 32, 64)}
TOKEN_GROUPS = (512, 1024, 2048, 4096)
TUNING_INPUTS = 200


def batch_of(row: Row, prompts: Ids, group: int) -> dict[str, Any]:
    """The fields of a peer's batch; rows end by themselves."""
    lengths = {"new_tokens": row.new_tokens, "min_new_tokens": row.shortest}
    return {"ids": prompts, "beams": row.beams, "group": group, **lengths}


def check_float32(
    row: Row, folder: Path, prompts: Ids, threads: int
) -> tuple[Ids, dict[str, dict[str, int]]]:
    """Both fuseq and CTranslate2 must give the same ids in float32, or part at a near tie.

    Returns:
        The ids of CTranslate2, and the counts of fuseq and of CTranslate2 against itself.
    """
    field = start_peers([JUDGE, SUBJECT, REFERENCE], folder, "float32", threads)
    try:
        by_name = {peer.name: peer for peer in field.peers}
        if REFERENCE not in by_name:
            raise PeerError(f"{REFERENCE}: {field.absent[REFERENCE]}")
        expected, _ = by_name[REFERENCE].generate(**batch_of(row, prompts, TOKEN_GROUPS[1]))
        ids, _ = by_name[SUBJECT].generate(**batch_of(row, prompts, GROUPS[SUBJECT][1]))
        counts = count_rows(ids, expected, prompts, by_name[JUDGE])
    finally:
        field.close()
    return expected, {
        SUBJECT: {f"float32_{name}": count for name, count in counts.items()},
        REFERENCE: {"float32_equal_rows": len(prompts), "float32_tied_rows": 0},
    }


def tune(row: Row, peer: PeerProcess, prompts: Ids) -> dict[int, float]:
    """Tokens per second on the list's beginning for each size of a group."""
    rates = {}
    for group in GROUPS.get(peer.name, TOKEN_GROUPS):
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


def run_ragged_row(
    row: Row,
    names: list[str],
    folder: Path,
    vocab: int,
    options: argparse.Namespace,
) -> tuple[dict[str, Any], dict[str, str]]:
    """The row of a ragged list, and the versions of what ran."""
    prompts = prompts_of(row, vocab)
    expected, counts = check_float32(row, folder, prompts, options.threads)
    field = start_peers(names, folder, row.dtype, options.threads)
    try:
        tuning: dict[str, dict[int, float]] = {}
        checks: dict[str, dict[str, int]] = {}
        batches: dict[str, dict[str, Any]] = {}
        failures: dict[str, str] = {}
        for peer in field.peers:
            try:
                tuning[peer.name] = tune(row, peer, prompts)
                group = max(tuning[peer.name], key=tuning[peer.name].__getitem__)
                batch = batch_of(row, prompts, group)
                ids, _ = peer.generate(**batch)
                checks[peer.name] = {
                    "group": group,
                    **count_ids(ids, expected),
                    **counts.get(peer.name, {}),
                }
                batches[peer.name] = batch
            except PeerError as error:
                failures[peer.name] = str(error)
        rounds = dict.fromkeys(batches, options.ragged_rounds)
        timings = time_rounds(field.peers, batches, rounds, options.pause)
        table = table_of(row, timings, checks, failures)
    finally:
        field.close()
    extra = {"tuning": tuning, "float32_new_tokens": spread(expected), "absent": field.absent}
    return {**table, **extra}, field.versions
