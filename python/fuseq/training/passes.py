# SPDX-License-Identifier: Apache-2.0
"""Passes: how epochs of a given number of batches go through data, as in Keras."""

import warnings
from collections.abc import Iterator

from fuseq.training.batches import TrainingBatch
from fuseq.training.data import TrainingData


class Passes:
    """Batches epoch by epoch.

    Without `steps` an epoch is a pass over the data. With them an epoch goes on where the one
    before it ended, and ends early, with a warning, where the data end; the next one then begins
    another pass.

    Attributes:
        number: Of the pass, from 0.
        seen: Batches of it so far.
    """

    def __init__(self, data: TrainingData, steps: int | None) -> None:
        """Begins the first pass."""
        self._data, self._steps = data, steps
        self._left: Iterator[TrainingBatch] | None = None
        self.number = self.seen = 0

    def epoch(self, number: int, first_batch: int = 0) -> Iterator[TrainingBatch]:
        """Gives the batches of an epoch.

        Args:
            number: Of the epoch, from 0.
            first_batch: The first one of the epoch that is left.

        Yields:
            Batches.
        """
        if self._steps is None:
            yield from self._data.epoch(number, first_batch=first_batch)
            return
        for step in range(first_batch, self._steps):
            batch = self._next()
            if batch is None and self.seen and step == 0:  # the epoch before has taken the last one
                self._begin_pass()
                batch = self._next()
            if batch is None:
                if step:
                    self._begin_pass()
                    warnings.warn(
                        f"fit: x ended after {step} batches of epoch {number + 1}, before "
                        f"steps_per_epoch={self._steps}",
                        stacklevel=2,
                    )
                return
            self.seen += 1
            yield batch

    def _next(self) -> TrainingBatch | None:
        if self._left is None:
            self._left = self._data.epoch(self.number, first_batch=self.seen)
        return next(self._left, None)

    def _begin_pass(self) -> None:
        self._left = None
        self.number, self.seen = self.number + 1, 0

    def state(self) -> list[int]:
        """Numbers that `load_state` takes back."""
        return [self.number, self.seen]

    def load_state(self, state: list[int]) -> None:
        """Goes on from where `state` was called."""
        self._left = None
        self.number, self.seen = state
