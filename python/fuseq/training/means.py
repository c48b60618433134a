# SPDX-License-Identifier: Apache-2.0
"""What a batch gave, and the means over an epoch that are shown."""

from collections.abc import Sequence
from dataclasses import dataclass

from fuseq.training.metrics import Metric


@dataclass(frozen=True)
class StepResult:
    """What one batch gave, over all processes.

    Attributes:
        loss: Of the batch.
        sums: A sum and a count for each metric.
        num_rows: Rows of the batch.
    """

    loss: float
    sums: tuple[float, ...]
    num_rows: int


class Means:
    """The means over an epoch: of the loss by rows, of metrics by their counts, as in Keras."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        """Starts with nothing."""
        self.metrics = metrics
        self.reset()

    def reset(self) -> None:
        """Forgets everything."""
        self.loss, self.rows = 0.0, 0
        self.sums = [0.0] * (2 * len(self.metrics))

    def add(self, result: StepResult) -> None:
        """Takes a batch in."""
        self.loss += result.loss * result.num_rows
        self.rows += result.num_rows
        self.sums = [a + b for a, b in zip(self.sums, result.sums, strict=True)]

    def logs(self) -> dict[str, float]:
        """The means by their names."""
        logs = {"loss": self.loss / self.rows if self.rows else 0.0}
        for index, metric in enumerate(self.metrics):
            total, count = self.sums[2 * index : 2 * index + 2]
            logs[metric.name] = metric.finish(total / count if count else 0.0)
        return logs

    def state(self) -> list[float]:
        """Numbers that `load_state` takes back."""
        return [self.loss, float(self.rows), *self.sums]

    def load_state(self, state: Sequence[float]) -> None:
        """Goes on from where `state` was called."""
        self.loss, self.rows, self.sums = state[0], int(state[1]), list(state[2:])
