# SPDX-License-Identifier: Apache-2.0
"""MemoryData: rows that are all there, in batches of an order that can be repeated."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from numbers import Real

import numpy as np
import numpy.typing as npt

from fuseq.training.batches import TrainingBatch
from fuseq.training.buckets import epoch_batches
from fuseq.training.rows import Rows


@dataclass(frozen=True)
class MemoryData:
    """Rows in memory.

    Attributes:
        rows: All of them.
        indices: Those that are trained on, in the order given [N].
        batch_size: Rows of a batch of one process.
        shuffle: As `fuseq.training.buckets.epoch_batches` has it.
        length_buckets: As `epoch_batches` has it.
        seed: As `epoch_batches` has it.
        rank: This process, from 0.
        world_size: Processes; each one gets its part of every batch.
        call: The call, for errors.
    """

    rows: Rows
    indices: npt.NDArray[np.int64]
    batch_size: int
    shuffle: bool
    length_buckets: bool
    seed: int
    rank: int
    world_size: int
    call: str

    def __len__(self) -> int:
        """The number of rows, those of all processes together."""
        return len(self.indices)

    @property
    def num_batches(self) -> int:
        """Batches of an epoch, as many in every process."""
        return math.ceil(len(self.indices) / (self.batch_size * self.world_size))

    def epoch(self, number: int, *, first_batch: int = 0) -> Iterator[TrainingBatch]:
        """Makes the batches of an epoch.

        Args:
            number: Of the epoch, from 0.
            first_batch: The first one that is made; those before it cost nothing.

        Yields:
            Batches, this process's part of each.
        """
        batches = epoch_batches(
            self.rows.lengths[self.indices],
            self.batch_size * self.world_size,
            shuffle=self.shuffle,
            length_buckets=self.length_buckets,
            seed=self.seed,
            epoch=number,
        )
        for batch in batches[first_batch:]:
            part = np.array_split(self.indices[batch], self.world_size)[self.rank]
            if len(part):
                yield self.rows.batch(part)
            else:  # the process has to take part in the step all the same
                yield _without_weight(self.rows.batch(self.indices[batch[:1]]))

    def split(
        self, fraction: float, batch_size: int | None = None
    ) -> tuple["MemoryData", "MemoryData"]:
        """Splits the last rows off.

        Args:
            fraction: Of the rows, between 0 and 1.
            batch_size: Rows of a batch of the last rows; None: as of the others.

        Returns:
            The first rows; and the last rows, in the order given.

        Raises:
            ValueError: One part would be empty.
        """
        is_inside = isinstance(fraction, Real) and 0 < fraction < 1
        count = int(len(self) * (1 - fraction)) if is_inside else 0
        if not 0 < count < len(self):
            raise ValueError(
                f"{self.call}: validation_split must leave rows on both sides, got {fraction!r} of "
                f"{len(self)} rows. Give validation_data, or another fraction between 0 and 1"
            )
        return (
            replace(self, indices=self.indices[:count]),
            replace(
                self,
                indices=self.indices[count:],
                batch_size=batch_size or self.batch_size,
                shuffle=False,
            ),
        )


def _without_weight(batch: TrainingBatch) -> TrainingBatch:
    return replace(
        batch,
        targets=np.zeros_like(batch.targets),
        weights=np.zeros_like(batch.weights),
        num_rows=0,
        num_positions=0,
    )
