# SPDX-License-Identifier: Apache-2.0
"""The order of an epoch's rows, and which of them come together."""

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]

_BATCHES_PER_BUCKET = 50  # so many are sorted together: more pad less, and mix less


def epoch_batches(
    lengths: Indices,
    batch_rows: int,
    *,
    shuffle: bool,
    length_buckets: bool,
    seed: int,
    epoch: int,
) -> list[Indices]:
    """Cuts the rows of an epoch into batches.

    Args:
        lengths: Of the rows, in tokens, or in anything that grows with them [N].
        batch_rows: Rows of a batch, those of all processes together.
        shuffle: Whether rows come in an order that depends on seed and epoch alone; else in that
            in which they are given.
        length_buckets: Whether, where they are shuffled, rows of similar lengths come together. The
            one batch of fewer rows may then be anywhere, not at the end.
        seed: A whole number >= 0.
        epoch: Its number, from 0.

    Returns:
        Indices of rows, each row once.
    """
    order = np.arange(len(lengths))
    if not shuffle:
        return _cut(order, batch_rows)
    draw = np.random.default_rng([seed, epoch])
    order = draw.permutation(order)
    if not length_buckets:
        return _cut(order, batch_rows)
    batches: list[Indices] = []
    for bucket in _cut(order, batch_rows * _BATCHES_PER_BUCKET):
        batches += _cut(bucket[np.argsort(lengths[bucket], kind="stable")], batch_rows)
    return [batches[index] for index in draw.permutation(len(batches))]


def _cut(order: Indices, size: int) -> list[Indices]:
    return [order[start : start + size] for start in range(0, len(order), size)]
