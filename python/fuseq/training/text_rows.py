# SPDX-License-Identifier: Apache-2.0
"""Rows that come as texts: tokenised once, padded batch by batch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fuseq.models.causal_lm_preprocessor import CausalLMPreprocessor
from fuseq.models.inputs import Texts, read_texts
from fuseq.models.overriding import is_overridden
from fuseq.models.packing import pad
from fuseq.models.seq2seq_lm_preprocessor import Seq2SeqLMPreprocessor
from fuseq.models.trainable_task import TrainableTask
from fuseq.training.array_rows import read_array_rows
from fuseq.training.batches import TrainingBatch
from fuseq.training.rows import ROWS_AT_A_TIME, Array, Rows, check_lengths, max_lengths, quoted

Lengths = npt.NDArray[np.int64]
_Packer = Seq2SeqLMPreprocessor | CausalLMPreprocessor


@dataclass(frozen=True)
class _Ragged:
    """Rows of several lengths in one array: 4 bytes a token, whatever the longest row.

    Attributes:
        ids: Of all rows, one after the other.
        offsets: Where rows begin, and the last one ends [N + 1].
    """

    ids: npt.NDArray[np.int32]
    offsets: Lengths

    @property
    def lengths(self) -> Lengths:
        """Ids of each row [N]."""
        return np.diff(self.offsets)

    def take(self, indices: npt.NDArray[np.int64]) -> list[Any]:
        """Rows by their numbers."""
        return [self.ids[self.offsets[row] : self.offsets[row + 1]] for row in indices]


@dataclass(frozen=True)
class TextRows:
    """Rows of texts.

    Attributes:
        names: Of ids and masks, of the encoder, if there is one, and the decoder.
        stacks: Packed rows; those of the decoder may have an id more than `length`, the last label.
        length: The longest row that the decoder reads.
        pad_id: Fills rows.
        keep_columns: Whether the decoder's rows are padded to `length`, however short they are.
        ignored_id: A label that is no position of the batch; None: there is none.
    """

    names: tuple[tuple[str, str], ...]
    stacks: tuple[_Ragged, ...]
    length: int
    pad_id: int
    keep_columns: bool = False
    ignored_id: int | None = None

    @property
    def lengths(self) -> Lengths:
        """Tokens of sources and targets."""
        return np.sum([stack.lengths for stack in self.stacks], axis=0, dtype=np.int64)

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.stacks[0].offsets) - 1

    def batch(self, indices: npt.NDArray[np.int64]) -> TrainingBatch:
        """Pads rows; the decoder's labels are its ids, one to the left."""
        inputs: dict[str, Array] = {}
        for names, stack in zip(self.names[:-1], self.stacks[:-1], strict=True):
            inputs.update(zip(names, self._pad(stack.take(indices)), strict=True))
        ids, mask = self._pad(self.stacks[-1].take(indices), self.length, 1)
        inputs.update(zip(self.names[-1], (ids[:, :-1], mask[:, :-1]), strict=True))
        weights = mask[:, 1:]
        targets = ids[:, 1:]
        num_positions = len(indices) * self.length
        if self.ignored_id is not None:
            counted = targets != self.ignored_id
            weights = weights & counted
            cut_off = len(indices) * (self.length - targets.shape[1])  # all of them padding
            num_positions = int(counted.sum()) + cut_off * (self.pad_id != self.ignored_id)
        return TrainingBatch(
            inputs, targets, weights.astype(np.float32), len(indices), num_positions
        )

    def _pad(self, rows: list[Any], longest: int | None = None, extra: int = 0) -> list[Array]:
        """Ids and mask of as many columns as the longest row that is read, and some more."""
        width = max(1, max(map(len, rows)))
        if longest is not None:
            width = longest if self.keep_columns else min(width, longest)
        columns = width + extra
        ids, mask = pad(rows, columns, self.pad_id)
        return [ids.astype(np.int64), mask]


@dataclass(frozen=True)
class CalledRows:
    """Rows of texts for a preprocessor that users have written, called for every batch.

    Attributes:
        task: Whose preprocessor it is.
        texts: Lists of one length by their keys.
        where: The call, for errors.
        keep_columns: Whether batches keep the columns that no row needs.
        ignored_id: A label that is no position of the batch; None: there is none.
    """

    task: TrainableTask
    texts: Texts
    where: str
    keep_columns: bool = False
    ignored_id: int | None = None

    @property
    def lengths(self) -> Lengths:
        """Letters of each row, since tokens are not known yet."""
        columns = [[len(text) for text in column] for column in self.texts.values()]
        return np.sum(columns, axis=0, dtype=np.int64)

    def __len__(self) -> int:
        """The number of rows."""
        return len(next(iter(self.texts.values())))

    def batch(self, indices: npt.NDArray[np.int64]) -> TrainingBatch:
        """Calls the preprocessor, and cuts off the columns that no row needs."""
        texts = {key: [column[row] for row in indices] for key, column in self.texts.items()}
        preprocessor: Any = self.task.preprocessor
        where = f"{self.where}: {type(preprocessor).__name__}.__call__"
        made = preprocessor(texts if len(texts) > 1 else next(iter(texts.values())))
        if not isinstance(made, tuple) or len(made) != 3 or not isinstance(made[0], Mapping):
            raise TypeError(
                f"{where}: must return (x, y, sample_weight) with a dict x, got "
                f"{type(made).__name__}"
            )
        rows = read_array_rows(self.task, *made, where, self.keep_columns, self.ignored_id)
        return rows.batch(np.arange(len(rows)))


def read_text_rows(
    task: TrainableTask,
    x: object,
    where: str,
    keep_columns: bool = False,
    ignored_id: int | None = None,
) -> Rows:
    """Reads, checks and tokenises texts.

    Args:
        task: Whose preprocessor makes ids of them.
        x: A dict of lists of texts, or a list of texts where the task has one key of texts.
        where: The call, and the batch if there are many, for errors.
        keep_columns: Whether batches keep the columns that no row needs.
        ignored_id: Labels of this id have weight 0, and are no positions of the batch.

    Returns:
        The rows.

    Raises:
        ValueError: A key is missing, lists have several lengths, or a row is longer than the model.
        TypeError: Something is no text.
    """
    preprocessor = task.preprocessor
    if preprocessor is None:
        raise ValueError(
            f"{where}: x must be a dict with {quoted(task.keys.ids)} where the task "
            f"has no preprocessor, got {_describe(x)}. Give the task a preprocessor, or ids and "
            "masks"
        )
    keys = task.keys.texts
    texts, _ = read_texts(_columns(x, f"{where}: x"), keys, keys, what=f"{where}: x")
    texts = {key: list(texts[key]) for key in keys}
    if not next(iter(texts.values())):
        raise ValueError(f"{where}: x must have one text or more, got none")
    if is_overridden(preprocessor, "__call__"):
        return CalledRows(task, texts, where, keep_columns, ignored_id)
    if not isinstance(preprocessor, _Packer):
        raise TypeError(
            f"{where}: the preprocessor must be a Seq2SeqLMPreprocessor or a CausalLMPreprocessor, "
            f"or have __call__, got {type(preprocessor).__name__}"
        )
    _check_room(preprocessor, texts, where)
    stacks = _pack(preprocessor, texts)
    _check_stacks(task, preprocessor, stacks, where)
    names = tuple(zip(task.keys.ids, task.keys.masks, strict=True))
    length, pad_id = preprocessor.sequence_length, preprocessor.pad_id
    return TextRows(names, stacks, length, pad_id, keep_columns, ignored_id)


def _columns(x: object, what: str) -> object:
    """Whatever numpy reads as numpy's, such as columns of pandas."""
    if isinstance(x, Mapping):
        return {key: _columns(column, f"{what}[{key!r}]") for key, column in x.items()}
    column = np.asarray(x) if hasattr(x, "__array__") else x
    if isinstance(column, str | bytes) or getattr(column, "ndim", None) == 0:
        raise ValueError(
            f"{what} must have a batch dimension, got one {type(x).__name__}. Give a list of texts"
        )
    return column


def _check_room(preprocessor: _Packer, texts: Texts, where: str) -> None:
    """Lengths that cut every text to nothing are mistakes."""
    smallest = preprocessor.smallest_lengths()
    for (name, least), (key, column) in zip(smallest.items(), texts.items(), strict=True):
        length = getattr(preprocessor, name)
        if length < least and any(column):
            raise ValueError(
                f"{where}: preprocessor.{name} must leave room for tokens of {key!r}, got "
                f"{length}, which the special tokens fill. Set it to {least} or more"
            )


def _pack(preprocessor: _Packer, texts: Texts) -> tuple[_Ragged, ...]:
    ids: list[list[npt.NDArray[np.int32]]] = [[] for _ in texts]
    sizes: list[list[int]] = [[] for _ in texts]
    count = len(next(iter(texts.values())))
    for start in range(0, count, ROWS_AT_A_TIME):
        part = {key: column[start : start + ROWS_AT_A_TIME] for key, column in texts.items()}
        for stack, rows in enumerate(preprocessor.training_rows(part)):
            sizes[stack] += map(len, rows)
            ids[stack].append(np.array([id for row in rows for id in row], np.int32))
    return tuple(
        _Ragged(np.concatenate(parts), np.cumsum([0, *lengths], dtype=np.int64))
        for parts, lengths in zip(ids, sizes, strict=True)
    )


def _check_stacks(
    task: TrainableTask, preprocessor: _Packer, stacks: tuple[_Ragged, ...], where: str
) -> None:
    size = task.backbone.vocabulary_size
    length_names = preprocessor.smallest_lengths()
    for key, name, stack, longest in zip(
        task.keys.texts, length_names, stacks, max_lengths(task), strict=True
    ):
        read = np.minimum(stack.lengths, getattr(preprocessor, name))
        remedy = f"Set preprocessor.{name} = {longest}"
        check_lengths(read, longest, f"{where}: rows of x[{key!r}]", remedy)
        outside = (stack.ids < 0) | (stack.ids >= size)
        if outside.any():
            position = int(np.argmax(outside))
            row = int(np.searchsorted(stack.offsets, position, side="right")) - 1
            raise ValueError(
                f"{where}: ids of x[{key!r}] must be in 0 ... {size - 1}, got "
                f"{stack.ids[position]} in row {row}, column {position - stack.offsets[row]}. The "
                "tokenizer must be that of the model"
            )


def _describe(x: object) -> str:
    if isinstance(x, Mapping):
        return quoted(x) or "an empty dict"
    return type(x).__name__
