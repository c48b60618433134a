# SPDX-License-Identifier: Apache-2.0
"""What users give to `fit` and `evaluate`, as batches to train on."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np

from fuseq.models.counts import check_count
from fuseq.models.trainable_task import TrainableTask
from fuseq.training.batches import TrainingBatch
from fuseq.training.hugging_face_data import HuggingFaceBatches, read_columns
from fuseq.training.memory_data import MemoryData
from fuseq.training.read_rows import read_rows
from fuseq.training.stream_data import StreamData

BATCH_SIZE = 32  # where nobody says otherwise, as in Keras


class TrainingData(Protocol):
    """Batches, epoch by epoch."""

    @property
    def num_batches(self) -> int | None:
        """Batches of an epoch; None: not known."""

    def epoch(self, number: int, *, first_batch: int = 0) -> Iterator[TrainingBatch]:
        """Makes the batches of an epoch, from `first_batch` on."""


def read_training_data(
    task: TrainableTask,
    x: Any,  # noqa: ANN401
    y: object = None,
    sample_weight: object = None,
    *,
    batch_size: int | None = None,
    shuffle: bool = False,
    seed: int = 0,
    length_buckets: bool = True,
    rank: int = 0,
    world_size: int = 1,
    keep_columns: bool = False,
    ignored_id: int | None = None,
    call: str = "fit",
) -> TrainingData:
    """Reads and checks what users give; texts in memory are tokenised at once.

    Args:
        task: What is trained.
        x: One of

            - texts: a dict of lists by the preprocessor's keys, or a list where there is one key;
            - a dict of ids and masks [N, T], with y;
            - a data set of the `datasets` package with columns of these names, and `y` and
              `sample_weight` with ids;
            - an iterable of batches, each x, (x,), (x, y) or (x, y, sample_weight) of the above: a
              list, a generator, a DataLoader of torch, a data set of TensorFlow.
        y: Labels [N, T] of ids. Not used with texts, as in KerasHub: the preprocessor makes them.
        sample_weight: Weights [N, T] or [N] of ids; None: 1. Not used with texts.
        batch_size: Rows of a batch of one process; None: 32.
        shuffle: Whether rows in memory come in another order each epoch.
        seed: Of that order, >= 0; and of what batches that come one by one draw from torch's
            generator, such as the order of a DataLoader.
        length_buckets: Whether shuffled rows of similar lengths come together, which pads less.
        rank: This process, from 0.
        world_size: Processes.
        keep_columns: Whether batches keep the columns that no row needs, for metrics that count
            padding.
        ignored_id: Labels of this id have weight 0, and sums are not divided by them.
        call: Names the call in errors.

    Returns:
        The data.

    Raises:
        ValueError: Something is missing, or does not fit.
        TypeError: Something is of another type.
    """
    if batch_size is not None:
        check_count("batch_size", batch_size, "None or ", call=call)
    size = BATCH_SIZE if batch_size is None else int(batch_size)
    read_stream = partial(
        StreamData,
        task,
        rank=rank,
        world_size=world_size,
        call=call,
        seed=seed,
        keep_columns=keep_columns,
        ignored_id=ignored_id,
    )
    if hasattr(x, "column_names"):
        _check_absent(call, "a data set", y=y, sample_weight=sample_weight)
        if not hasattr(x, "__len__"):
            return read_stream(HuggingFaceBatches(task, x, size, call))
        x, y, sample_weight = read_columns(task, x, call)
    elif not is_in_memory(x):
        given = {"y": y, "sample_weight": sample_weight, "batch_size": batch_size}
        _check_absent(call, "an iterable of batches", **given)
        if not isinstance(x, Iterable) and not hasattr(x, "as_numpy_iterator"):
            raise TypeError(
                f"{call}: x must be texts, a dict, a data set or an iterable of batches, got "
                f"{type(x).__name__}. Put a data set of torch into a DataLoader"
            )
        return read_stream(x)
    rows = read_rows(task, x, y, sample_weight, call, keep_columns, ignored_id)
    return MemoryData(
        rows, np.arange(len(rows)), size, shuffle, length_buckets, seed, rank, world_size, call
    )


def split_off_validation(
    data: TrainingData, fraction: float, batch_size: int | None = None, *, call: str = "fit"
) -> tuple[TrainingData, TrainingData]:
    """Splits the last rows off, before any shuffling, as in Keras.

    Args:
        data: In memory.
        fraction: Of the rows, between 0 and 1.
        batch_size: Rows of a validation batch; None: as of the others.
        call: Names the call in errors.

    Returns:
        Training and validation data.

    Raises:
        ValueError: The data are not in memory, or one part would be empty.
    """
    if not isinstance(data, MemoryData):
        raise ValueError(
            f"{call}: validation_split must come with data in memory, got an iterable of batches. "
            "Give validation_data"
        )
    return data.split(fraction, batch_size)


def is_in_memory(x: Any) -> bool:  # noqa: ANN401
    """Whether x is rows and no iterable of batches."""
    if isinstance(x, str | bytes | Mapping) or hasattr(x, "__array__"):
        return True
    return isinstance(x, Sequence) and (len(x) == 0 or isinstance(x[0], str | bytes))


def _check_absent(call: str, what: str, **given: object) -> None:
    names = [name for name, value in given.items() if value is not None]
    if names:
        raise ValueError(
            f"{call}: {', '.join(names)} must not be given with {what}, got both. The batches or "
            "columns of x have them"
        )
