# SPDX-License-Identifier: Apache-2.0
"""Rows that come as padded arrays of ids, masks, labels and weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fuseq.models.trainable_task import TrainableTask
from fuseq.training.batches import TrainingBatch
from fuseq.training.rows import (
    ROWS_AT_A_TIME,
    Array,
    check_ids,
    check_lengths,
    max_lengths,
    quoted,
)

Widths = npt.NDArray[np.int64]

_IGNORED = -100  # the label of transformers that does not count


@dataclass(frozen=True)
class _Stack:
    """What the encoder or the decoder reads.

    Attributes:
        names: Of ids and mask.
        ids: [N, T].
        mask: [N, T].
        widths: Columns up to the last one that each row needs [N].
    """

    names: tuple[str, str]
    ids: Array
    mask: Array
    widths: Widths


@dataclass(frozen=True)
class ArrayRows:
    """Rows of arrays, kept as they were given.

    Attributes:
        stacks: The encoder's, if there is one, and the decoder's.
        targets: [N, T].
        weights: [N, T].
        vocabulary_size: Tokens of the model.
        keep_columns: Whether batches keep the columns that no row needs.
        ignored_id: A label that is no position of the batch; None: there is none.
    """

    stacks: tuple[_Stack, ...]
    targets: Array
    weights: Array
    vocabulary_size: int
    keep_columns: bool = False
    ignored_id: int | None = None

    @property
    def lengths(self) -> Widths:
        """Columns that each row needs."""
        return np.sum([stack.widths for stack in self.stacks], axis=0, dtype=np.int64)

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.targets)

    def batch(self, indices: npt.NDArray[np.int64]) -> TrainingBatch:
        """Cuts off the columns that no row needs."""
        inputs: dict[str, Array] = {}
        width = 0
        for stack in self.stacks:
            width = max(1, int(stack.widths[indices].max()))
            if self.keep_columns:
                width = stack.ids.shape[1]
            ids = stack.ids[indices, :width].astype(np.int64)
            # Padding may hold anything; what the embedding looks up must be there.
            inputs[stack.names[0]] = ids.clip(0, self.vocabulary_size - 1)
            inputs[stack.names[1]] = stack.mask[indices, :width].astype(np.bool_)
        weights = self.weights[indices, :width].astype(np.float32)
        targets = self.targets[indices, :width].astype(np.int64)
        targets = targets.clip(0, self.vocabulary_size - 1)  # as ids
        num_positions = len(indices) * self.targets.shape[1]
        if self.ignored_id is not None:
            num_positions = int((self.targets[indices] != self.ignored_id).sum())
        return TrainingBatch(inputs, targets, weights, len(indices), num_positions)


def read_array_rows(
    task: TrainableTask,
    x: Mapping[str, Any],
    y: object,
    sample_weight: object,
    where: str,
    keep_columns: bool = False,
    ignored_id: int | None = None,
) -> ArrayRows:
    """Reads and checks arrays.

    Positions are columns, as in KerasHub, also where a mask leaves some out.

    Args:
        task: Whose names, vocabulary and positions hold.
        x: Ids [N, T] by the task's names, and their masks; without a mask, all ids are real.
        y: Labels [N, T], which may be anything where the weight is 0. Those of -100, which is how
            transformers marks what does not count, have weight 0.
        sample_weight: [N, T] or [N]; None: 1.
        where: The call, and the batch if there are many, for errors.
        keep_columns: Whether batches keep the columns that no row needs.
        ignored_id: Labels of this id have weight 0, and are no positions of the batch.

    Returns:
        The rows.

    Raises:
        ValueError: Something is missing, has another shape, or ids are not of the vocabulary.
        TypeError: Something is no array, or ids are not whole numbers.
    """
    keys = task.keys
    known = (*keys.ids, *keys.masks)
    unknown = [key for key in x if key not in known]
    if unknown:
        raise ValueError(f"{where}: x must have keys of {quoted(known)}, got {quoted(unknown)}")
    missing = [key for key in keys.ids if x.get(key) is None]
    if missing:
        raise ValueError(f"{where}: x must have {quoted(missing)}, got {quoted(x)}")
    if y is None:
        raise ValueError(
            f"{where}: y must be given with ids, got None. Give the ids that follow: the decoder's "
            "ids, one to the left"
        )
    ids = [_read_ids(x[key], f"{where}: x[{key!r}]") for key in keys.ids]
    if len({len(array) for array in ids}) > 1:
        counts = ", ".join(f"{len(a)} in {k!r}" for k, a in zip(keys.ids, ids, strict=True))
        raise ValueError(f"{where}: arrays of x must have as many rows each, got {counts}")
    if len(ids[0]) == 0:
        raise ValueError(f"{where}: x must have one row or more, got none")
    masks = []
    for key, array in zip(keys.masks, ids, strict=True):
        mask = np.broadcast_to(np.True_, array.shape)
        if x.get(key) is not None:
            mask = to_array(x[key], f"{where}: x[{key!r}]")
        _check_shape(mask, array.shape, f"{where}: x[{key!r}]")
        masks.append(mask)
    targets = _read_ids(y, f"{where}: y")
    _check_shape(targets, ids[-1].shape, f"{where}: y")
    weights = _read_weights(sample_weight, targets.shape, f"{where}: sample_weight")
    ignored = targets == _IGNORED
    if ignored_id is not None:
        ignored |= targets == ignored_id
    if ignored.any():
        weights = np.where(ignored, np.float32(0), weights)

    size = task.backbone.vocabulary_size
    remedy = "They are ids of the model's vocabulary"
    for key, array, mask in zip(keys.ids, ids, masks, strict=True):
        check_ids(array, mask, size, f"{where}: x[{key!r}]", remedy)
    remedy = "Where a label does not count, give -100 or sample_weight 0"
    check_ids(targets, weights, size, f"{where}: y", remedy)
    stacks = []
    for key, mask_key, array, mask, longest in zip(
        keys.ids, keys.masks, ids, masks, max_lengths(task), strict=True
    ):
        widths = _widths(mask, weights if key == keys.ids[-1] else None)
        check_lengths(widths, longest, f"{where}: rows of x[{key!r}]", "Cut the rows")
        stacks.append(_Stack((key, mask_key), array, mask, widths))
    return ArrayRows(tuple(stacks), targets, weights, size, keep_columns, ignored_id)


def to_array(value: Any, what: str) -> Array:  # noqa: ANN401
    """An array of numbers of what numpy can read, tensors of torch among them.

    Raises:
        ValueError: Rows have several lengths.
        TypeError: There are no numbers.
    """
    if hasattr(value, "detach"):  # torch's, on any device
        value = value.detach().cpu()
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(
            f"{what} must have shape [N, T], got rows of several lengths. Pad them"
        ) from error
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{what} must be numbers, got {array.dtype}")
    return array


def _read_ids(value: object, what: str) -> Array:
    array = to_array(value, what)
    if array.ndim < 2:
        raise ValueError(
            f"{what} must have a batch dimension, shape [N, T], got shape {list(array.shape)}"
        )
    if array.ndim > 2 or array.shape[1] == 0:
        raise ValueError(
            f"{what} must have shape [N, T] of one column or more, got {list(array.shape)}"
        )
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"{what} must be whole numbers, got {array.dtype}")
    return array


def _read_weights(value: object, shape: tuple[int, ...], what: str) -> Array:
    """Weights [N, T]; a view where they are equal along a row."""
    if value is None:
        return np.broadcast_to(np.float32(1), shape)
    weights = to_array(value, what)
    if weights.shape == shape[:1]:
        weights = weights[:, None]
    if weights.shape == (shape[0], 1):
        weights = np.broadcast_to(weights, shape)
    if weights.shape != shape:
        raise ValueError(
            f"{what} must have shape {list(shape)} or {list(shape[:1])}, got {list(weights.shape)}"
        )
    for start in range(0, len(weights), ROWS_AT_A_TIME):
        finite = np.isfinite(weights[start : start + ROWS_AT_A_TIME])
        if not finite.all():
            row, column = np.argwhere(~finite)[0]
            raise ValueError(
                f"{what} must be finite, got {weights[start + row, column]} in row {start + row}, "
                f"column {column}"
            )
    return weights


def _check_shape(array: Array, shape: tuple[int, ...], what: str) -> None:
    if array.shape != shape:
        raise ValueError(
            f"{what} must have the shape of the ids, {list(shape)}, got {list(array.shape)}"
        )


def _widths(mask: Array, weights: Array | None) -> Widths:
    """Columns up to the last one where the mask or the weight is not 0."""
    found = []
    for start in range(0, len(mask), ROWS_AT_A_TIME):
        part = slice(start, start + ROWS_AT_A_TIME)
        needed = mask[part] != 0
        if weights is not None:
            needed = needed | (weights[part] != 0)
        trailing = np.argmax(needed[:, ::-1], axis=1)
        found.append(np.where(needed.any(axis=1), mask.shape[1] - trailing, 0))
    return np.concatenate(found)
