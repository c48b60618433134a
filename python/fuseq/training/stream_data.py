# SPDX-License-Identifier: Apache-2.0
"""StreamData: batches that something else makes: lists, generators, loaders of torch, data sets."""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import count, islice
from typing import Any

import numpy as np
import torch

from fuseq.models.trainable_task import TrainableTask
from fuseq.training.batches import TrainingBatch
from fuseq.training.read_rows import read_rows


class StreamData:
    """Batches in the order in which they come.

    What can be iterated again starts again in each epoch; a generator goes on where it was.

    Attributes:
        num_batches: Of an epoch; None: not known.
    """

    def __init__(
        self,
        task: TrainableTask,
        source: Iterable[object],
        *,
        rank: int,
        world_size: int,
        call: str,
        seed: int = 0,
        keep_columns: bool = False,
        ignored_id: int | None = None,
    ) -> None:
        """Keeps the source; nothing is read yet.

        Args:
            task: What is trained.
            source: Gives x, (x,), (x, y) or (x, y, sample_weight).
            rank: This process, from 0.
            world_size: Processes. Each takes one of world_size batches, and a tail that does not go
                round is left out; but where a sampler of the source has `set_epoch`, as torch's
                DistributedSampler has, the source gives every process its own batches already.
            call: The call, for errors.
            seed: Of the order of a source that draws it from torch's generator, as a DataLoader
                that shuffles does: the same in every process, and after a kill.
            keep_columns: Whether batches keep the columns that no row needs.
            ignored_id: Labels of this id have weight 0, and are no positions of a batch.
        """
        self._task = task
        self._seed = seed
        self._keep_columns, self._ignored_id = keep_columns, ignored_id
        self._source = source
        self._call = call
        self._once = source if isinstance(source, Iterator) else None
        self._rank, self._step = rank, world_size
        if _is_sharded(source):
            self._rank, self._step = 0, 1
        self._has_batches = False
        self.num_batches = _length(source, self._step)

    def epoch(self, number: int, *, first_batch: int = 0) -> Iterator[TrainingBatch]:
        """Reads the batches of an epoch.

        Args:
            number: Of the epoch, from 0; sources that have `set_epoch` are told.
            first_batch: The first one that is made; those before it are taken and passed over.

        Yields:
            Batches, those of this process.

        Raises:
            ValueError: A batch is not what the task takes, or there is none.
            TypeError: As ValueError.
        """
        for owner in _owners(self._source):
            if hasattr(owner, "set_epoch"):
                owner.set_epoch(number)
        items = self._once
        if items is None:
            items = _drawn(self._source, (self._seed, number))
        deque(islice(items, first_batch * self._step), maxlen=0)
        for index in count(first_batch):
            # Together, so that every process makes as many batches.
            group = list(islice(items, self._step))
            if len(group) < self._step:
                break
            self._has_batches = True
            where = f"{self._call}: batch {index * self._step + self._rank}"
            yield self._read(group[self._rank], where)
        if not self._has_batches and first_batch == 0:
            raise ValueError(
                f"{self._call}: x must give {self._step} or more batches, one for each process, "
                f"got {len(group)}"
            )

    def _read(self, item: object, where: str) -> TrainingBatch:
        x, y, sample_weight = _unpack(item, where)
        rows = read_rows(
            self._task, x, y, sample_weight, where, self._keep_columns, self._ignored_id
        )
        return rows.batch(np.arange(len(rows)))


def _drawn(source: object, seed: tuple[int, int]) -> Iterator[object]:
    """Items that are made with torch's generator in a state of their own.

    A DataLoader draws its order when it is iterated or when its first item is asked for; its data
    set may draw for each item. The generator of dropout is left as it was.
    """
    (word,) = np.random.SeedSequence(seed).generate_state(1, np.uint64)
    state = torch.Generator().manual_seed(int(word)).get_state()
    items: Iterator[object] | None = None
    while True:
        outer = torch.get_rng_state()
        torch.set_rng_state(state)
        try:
            items = _iterate(source) if items is None else items
            item = next(items)
        except StopIteration:
            return
        finally:
            state = torch.get_rng_state()
            torch.set_rng_state(outer)
        yield item


def _owners(source: object) -> tuple[object, ...]:
    """The source, and what chooses the rows of a torch DataLoader."""
    return source, getattr(source, "sampler", None), getattr(source, "batch_sampler", None)


def _is_sharded(source: object) -> bool:
    is_sampled = any(hasattr(owner, "set_epoch") for owner in _owners(source)[1:])
    return is_sampled or getattr(source, "is_sharded", False)


def _iterate(source: Any) -> Iterator[object]:  # noqa: ANN401
    # TensorFlow's data sets give numpy arrays this way; TensorFlow itself is not needed.
    if hasattr(source, "as_numpy_iterator"):
        return iter(source.as_numpy_iterator())
    return iter(source)


def _length(source: Any, step: int) -> int | None:  # noqa: ANN401
    try:
        return len(source) // step
    except TypeError:  # generators, and data sets that do not know it
        return None


def _unpack(item: object, where: str) -> tuple[Any, Any, Any]:
    """x, y and sample_weight; lists and tuples of texts are x."""
    if not isinstance(item, tuple | list) or not item or isinstance(item[0], str | bytes):
        return item, None, None
    if len(item) > 3:
        raise ValueError(
            f"{where} must be x, (x, y) or (x, y, sample_weight), got {len(item)} parts"
        )
    x, y, sample_weight = (*item, None, None)[:3]
    return x, y, sample_weight
