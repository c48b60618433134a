# SPDX-License-Identifier: Apache-2.0
"""The rows of the comparison, and the ratios they aim at."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the comparison.

    Attributes:
        name: Its number; also the key of its target.
        model: One of `random_models.MODELS`.
        source: Tokens of the source (sequence-to-sequence) or prompt (causal).
        new_tokens: New tokens of each row; the most of them where rows end by themselves.
        batch: How many prompts there are.
        beams: 1 is greedy search.
        dtype: Of fuseq's weights; a rival runs in what it has of that kind.
        ragged: Sources have lengths from `shortest` to `source`, and rows end by themselves after
            as many or more new tokens: a long list, for what has a batching of its own.
        shortest: The fewest tokens of a ragged source or row.
    """

    name: str
    model: str
    source: int
    new_tokens: int
    batch: int
    beams: int = 1
    dtype: str = "int8"
    ragged: bool = False
    shortest: int = 8


def in_float32(row: Row, number: int) -> Row:
    """The same row, named 6.`number`."""
    return dataclasses.replace(row, name=f"6.{number}", dtype="float32")


INT8_ROWS = [
    Row("1", "bart-base", 128, 64, 1),
    Row("2", "bart-base", 128, 64, 8),
    Row("3", "bart-base", 512, 64, 1, beams=4),
    Row("4", "marian-base", 32, 32, 16, beams=4),
    Row("5", "bart-large", 512, 64, 1, beams=4),
]
ROW_SETS = {
    "targets": [
        *INT8_ROWS,
        *(in_float32(row, number) for number, row in enumerate(INT8_ROWS, 1)),
        Row("7.1", "gpt2", 64, 64, 1),
        Row("7.2", "gpt2", 64, 64, 8),
        Row("10", "bart-base-ends", 128, 128, 1000, ragged=True),
    ],
    "full": [
        Row("full.1", "bart-base", 128, 64, 1, dtype="float32"),
        Row("full.2", "bart-base", 128, 64, 8, dtype="float32"),
        Row("full.3", "gpt2", 64, 64, 1, dtype="float32"),
        Row("full.4", "gpt2", 64, 64, 8, dtype="float32"),
    ],
    "tiny": [
        Row("tiny.1", "bart-tiny", 16, 8, 2, dtype="float32"),
        Row("tiny.2", "gpt2-tiny", 8, 8, 2, dtype="float32"),
        Row("tiny.3", "marian-tiny", 16, 8, 2, beams=4, dtype="float32"),
        Row("tiny.4", "bart-tiny", 16, 8, 2),
        Row("tiny.5", "bart-tiny", 16, 8, 2, beams=4),
        Row("tiny.6", "bart-tiny-ends", 32, 32, 40, ragged=True, shortest=4),
    ],
}

# How many times faster than the strongest rival of its row fuseq wants to be.
TARGETS = {
    "1": 5.0,
    "2": 3.0,
    "3": 3.0,
    "4": 2.0,
    "5": 3.0,
    "6.1": 1.5,
    "6.2": 1.5,
    "6.3": 1.5,
    "6.4": 1.5,
    "6.5": 1.5,
    "7.1": 3.0,
    "7.2": 3.0,
    "10": 3.0,
}


def target_of(row: Row) -> float | None:
    """The target of a row that is run as it stands in a set; a changed row has none."""
    is_own = any(row in rows for rows in ROW_SETS.values())
    return TARGETS.get(row.name) if is_own else None
