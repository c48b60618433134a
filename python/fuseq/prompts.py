# SPDX-License-Identifier: Apache-2.0
"""Padded arrays of ids in and out: the form in which KerasHub and transformers hold batches."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from fuseq._core import Prompt

__all__ = ["Row", "Rows", "prompts_from_arrays", "rows_to_arrays"]


class Rows(NamedTuple):
    """Generated rows as arrays.

    Attributes:
        token_ids: [N, T] int32, padded on the right.
        padding_mask: [N, T] bool, True for ids of the row.
        scores: [N] float32.
        token_log_probs: [N, T] float32, 0 where there is none: at the prompt and the padding.
    """

    token_ids: npt.NDArray[np.int32]
    padding_mask: npt.NDArray[np.bool_]
    scores: npt.NDArray[np.float32]
    token_log_probs: npt.NDArray[np.float32]


def prompts_from_arrays(
    encoder_ids: npt.ArrayLike | None = None,
    encoder_mask: npt.ArrayLike | None = None,
    decoder_ids: npt.ArrayLike | None = None,
    decoder_mask: npt.ArrayLike | None = None,
    *,
    encoder_states: Sequence[npt.ArrayLike] | npt.ArrayLike | None = None,
) -> list[Prompt]:
    """Takes the padding off a batch.

    Args:
        encoder_ids: Sources [B, S], padded on either side; None for a model without an encoder.
        encoder_mask: [B, S], true for real ids: one run in every row, which may be shorter than S.
            None: all are real.
        decoder_ids: Prompts [B, T]; None: the model's start id.
        decoder_mask: As encoder_mask. Columns that it lacks are padding.
        encoder_states: [B, S, D] float32 instead of encoder_ids; encoder_mask cuts them alike.

    Returns:
        B prompts.

    Raises:
        ValueError: Shapes do not fit, or a row's real ids are not one run.
        TypeError: Ids are not whole numbers.

    Example:
        >>> [prompt.decoder_ids for prompt in prompts_from_arrays(
        ...     decoder_ids=[[1, 5, 6], [1, 7, 0]], decoder_mask=[[1, 1, 1], [1, 1, 0]])]
        [[1, 5, 6], [1, 7]]
    """
    sources = _unpad(encoder_ids, encoder_mask, "encoder")
    starts = _unpad(decoder_ids, decoder_mask, "decoder")
    states = None
    if encoder_states is not None:
        if encoder_ids is not None:
            raise ValueError("encoder_states: must come without encoder_ids, got both")
        states = _unpad_states(encoder_states, encoder_mask)
    given = [rows for rows in (sources, starts, states) if rows is not None]
    if not given:
        raise ValueError("prompts_from_arrays: encoder_ids or decoder_ids must be given, got none")
    count = len(given[0])
    if any(len(rows) != count for rows in given):
        lengths = ", ".join(str(len(rows)) for rows in given)
        raise ValueError(f"prompts_from_arrays: all arrays must have as many rows, got {lengths}")
    return [
        Prompt(
            sources[row] if sources is not None else (),
            starts[row] if starts is not None else (),
            encoder_states=states[row] if states is not None else None,
        )
        for row in range(count)
    ]


class Row(Protocol):
    """What a `Hypothesis` has; rows made elsewhere may have it too."""

    @property
    def ids(self) -> list[int]:
        """The whole row."""

    @property
    def prompt_length(self) -> int:
        """How much of it was given."""

    @property
    def stop_reason(self) -> str:
        """Why it ended."""

    @property
    def score(self) -> float:
        """Of the row."""

    @property
    def token_log_probs(self) -> list[float]:
        """Of the new ids."""


def rows_to_arrays(
    results: Sequence[Sequence[Row]],
    pad_id: int,
    length: int | None = None,
    *,
    strip_prompt: bool = False,
) -> Rows:
    """Puts the results of `generate` into arrays, all hypotheses of a prompt one after the other.

    Args:
        results: What `generate` returned.
        pad_id: Fills rows on the right.
        length: Columns; None: those of the longest row.
        strip_prompt: Whether rows begin after their prompts.

    Returns:
        N rows, N the number of all hypotheses.

    Raises:
        ValueError: A row is longer than `length`.
    """
    rows = [row for hypotheses in results for row in hypotheses]
    starts = [row.prompt_length if strip_prompt else 0 for row in rows]
    lengths = [len(row.ids) - start for row, start in zip(rows, starts, strict=True)]
    longest = max(lengths, default=0)
    columns = longest if length is None else length
    if columns < longest:
        raise ValueError(f"length: must be at least the longest row, {longest}, got {columns}")
    token_ids = np.full((len(rows), columns), pad_id, np.int32)
    mask = np.zeros(token_ids.shape, np.bool_)
    log_probs = np.zeros(token_ids.shape, np.float32)
    for index, (row, start, end) in enumerate(zip(rows, starts, lengths, strict=True)):
        token_ids[index, :end] = row.ids[start:]
        mask[index, :end] = True
        if row.token_log_probs:
            log_probs[index, row.prompt_length - start : end] = row.token_log_probs
    scores = np.array([row.score for row in rows], np.float32)
    return Rows(token_ids, mask, scores, log_probs)


def _runs(mask: npt.ArrayLike | None, rows: int, columns: int, what: str) -> list[slice]:
    """The run of real columns of every row."""
    if mask is None:
        return [slice(0, columns)] * rows
    array = np.asarray(mask)
    if array.ndim != 2 or array.shape[0] != rows or array.shape[1] > columns:
        raise ValueError(
            f"{what}_mask: must have shape [{rows}, {columns}] or fewer columns, got "
            f"{list(array.shape)}"
        )
    runs = []
    for index, row in enumerate(array.astype(np.bool_)):
        (real,) = np.nonzero(row)
        if len(real) == 0 or real[-1] - real[0] + 1 != len(real):
            raise ValueError(
                f"{what}_mask: row {index} must be true in one run of columns, got "
                f"{row.astype(int).tolist()}"
            )
        runs.append(slice(int(real[0]), int(real[-1]) + 1))
    return runs


def _unpad(
    ids: npt.ArrayLike | None, mask: npt.ArrayLike | None, what: str
) -> list[npt.NDArray[np.int32]] | None:
    if ids is None:
        return None
    array = np.asarray(ids)
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"{what}_ids: must be whole numbers, got {array.dtype}")
    if array.ndim != 2:
        raise ValueError(f"{what}_ids: must have shape [B, T], got {list(array.shape)}")
    runs = _runs(mask, array.shape[0], array.shape[1], what)
    return [row[run] for row, run in zip(array, runs, strict=True)]


def _unpad_states(
    states: Sequence[npt.ArrayLike] | npt.ArrayLike, mask: npt.ArrayLike | None
) -> list[npt.NDArray[np.float32]]:
    array = np.asarray(states, np.float32)
    if array.ndim != 3:
        raise ValueError(f"encoder_states: must have shape [B, S, D], got {list(array.shape)}")
    runs = _runs(mask, array.shape[0], array.shape[1], "encoder")
    return [np.ascontiguousarray(row[run]) for row, run in zip(array, runs, strict=True)]
