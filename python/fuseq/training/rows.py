# SPDX-License-Identifier: Apache-2.0
"""Rows to train on: what the forms of data have in common."""

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fuseq.models.trainable_task import TrainableTask
from fuseq.training.batches import TrainingBatch

ROWS_AT_A_TIME = 4096  # so that what is made in between stays small

Array = npt.NDArray[Any]


class Rows(Protocol):
    """Rows that are read and checked, and padded when a batch of them is asked for."""

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """How long each row is, in anything that grows with its tokens [N]."""

    def __len__(self) -> int:
        """The number of rows N."""

    def batch(self, indices: npt.NDArray[np.int64]) -> TrainingBatch:
        """Pads rows [B] to the longest of them."""


def quoted(names: Iterable[object]) -> str:
    """Names as errors list them."""
    return ", ".join(repr(name) for name in names)


def max_lengths(task: TrainableTask) -> list[int]:
    """Rows of the position tables in the order of the task's ids, 0 where there is no table."""
    backbone = task.backbone
    lengths = [backbone.max_encoder_length] if backbone.is_seq2seq else []
    return [*lengths, backbone.max_sequence_length]


def check_lengths(lengths: Array, longest: int, what: str, remedy: str) -> None:
    """Checks rows against a position table.

    Args:
        lengths: Tokens of each row [N].
        longest: Rows of the table; 0: there is none.
        what: Names the rows in errors.
        remedy: What to do, if they are longer.

    Raises:
        ValueError: A row is longer.
    """
    if longest and int(lengths.max()) > longest:
        row = int(np.argmax(lengths > longest))
        raise ValueError(
            f"{what} must have at most {longest} tokens, as many as the model has positions, got "
            f"{int(lengths[row])} in row {row}. {remedy}"
        )


def check_ids(ids: Array, counted: Array, size: int, what: str, remedy: str) -> None:
    """Checks ids against the vocabulary.

    Args:
        ids: Whole numbers [N, T].
        counted: Which of them count, not 0 there [N, T].
        size: Of the vocabulary V.
        what: Names the ids in errors.
        remedy: What to do, if one is outside.

    Raises:
        ValueError: An id that counts is outside of 0 ... V - 1.
    """
    for start in range(0, len(ids), ROWS_AT_A_TIME):
        part = ids[start : start + ROWS_AT_A_TIME]
        outside = (part < 0) | (part >= size)
        outside &= counted[start : start + ROWS_AT_A_TIME] != 0
        if outside.any():
            row, column = np.argwhere(outside)[0]
            raise ValueError(
                f"{what} must be in 0 ... {size - 1}, got {part[row, column]} in row "
                f"{start + row}, column {column}. {remedy}"
            )
