# SPDX-License-Identifier: Apache-2.0
"""Trainer: one update, one test."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fuseq.training.batches import TrainingBatch
from fuseq.training.clipping import clip_norm
from fuseq.training.losses import Loss
from fuseq.training.means import StepResult
from fuseq.training.metrics import Metric
from fuseq.training.optimizers import TrainingOptimizer
from fuseq.training.processes import Processes
from fuseq.training.sharding import gathered
from fuseq.training.step import TrainingStep
from fuseq.training.torch_module import TransformerModule

Precision = Literal["float32", "bfloat16"]


class NonFiniteLossError(ArithmeticError):
    """The loss or its gradient became infinite or no number; nothing is updated by that batch."""


class Trainer:
    """Updates a module from batches.

    Args:
        module: The model, on the processes' device.
        loss: Of one position.
        metrics: What is averaged beside.
        optimizer: Changes the parameters; None: only tests.
        processes: Those that train together.
        precision: "bfloat16": matrix products in bfloat16, parameters and sums in float32.
        clip_norm: The largest norm of all gradients together; None: as the optimizer does.
    """

    def __init__(
        self,
        module: TransformerModule,
        loss: Loss,
        metrics: Sequence[Metric],
        optimizer: TrainingOptimizer | None,
        processes: Processes,
        *,
        precision: Precision = "float32",
        clip_norm: float | None = None,
    ) -> None:
        """Keeps the arguments."""
        self.step = TrainingStep(module, loss, metrics)
        self.loss, self.metrics = loss, metrics
        self.optimizer = optimizer
        self.processes = processes
        self.precision = precision
        self.clip_norm = clip_norm
        self._shared: Any = self.step
        if processes.world_size > 1 and optimizer is not None:
            self._shared = nn.parallel.DistributedDataParallel(self.step)

    def update(self, batches: Sequence[TrainingBatch], what: str = "") -> list[StepResult]:
        """Updates the parameters once, from batches whose gradients are added.

        Args:
            batches: One, or as many as are accumulated.
            what: Where training is, for an error.

        Returns:
            What each batch gave.

        Raises:
            NonFiniteLossError: A loss or a gradient is not finite; nothing is updated then.
        """
        optimizer = self.optimizer
        assert optimizer is not None
        self.step.train()
        divisors = self._divisors(batches)
        whole = sum(divisors) or 1.0  # 0: nothing counts, and the sum is 0
        results = []
        optimizer.zero_grad()
        for index, (batch, divisor) in enumerate(zip(batches, divisors, strict=True)):
            is_last = index + 1 == len(batches)
            with self._without_exchange(not is_last):
                loss, sums = self._forward(self._shared, batch, whole)
                loss.backward()
            result = self._result(loss, sums, batch, whole / (divisor or 1.0))
            self._check_finite("loss", result.loss, what)
            results.append(result)
        norm = clip_norm(self.step.parameters(), self.clip_norm or math.inf)
        self._check_finite("norm of the gradient", norm, what)
        optimizer.step()
        return results

    def _check_finite(self, name: str, value: float, what: str) -> None:
        if not math.isfinite(value):
            assert self.optimizer is not None
            self.optimizer.zero_grad()
            raise NonFiniteLossError(
                f"fit: the {name} must be finite, got {value} at {what or 'this batch'}. Nothing "
                "is updated by it. Go on from a checkpoint with a lower learning rate, or clip_norm"
            )

    @torch.no_grad()
    def test(self, batch: TrainingBatch) -> StepResult:
        """The loss and the metrics of a batch; nothing is updated, nothing dropped out."""
        self.step.eval()
        (divisor,) = self._divisors([batch])
        loss, sums = self._forward(self.step, batch, divisor or 1.0)
        return self._result(loss, sums, batch, 1.0)

    def state(self) -> dict[str, Any]:
        """Parameters and the optimizer's state, as a checkpoint keeps them."""
        assert self.optimizer is not None
        parameters = dict(self.step.module.named_parameters())
        state = {"parameters": parameters, "optimizer": self.optimizer.state_dict()}
        whole: dict[str, Any] = gathered(state, keep=self.processes.is_main)
        return whole

    def load_state(self, state: dict[str, Any]) -> None:
        """Goes on from what `state` returned."""
        assert self.optimizer is not None
        parameters = dict(self.step.module.named_parameters())
        check_same_model(parameters, state["parameters"])
        with torch.no_grad():
            for name, value in state["parameters"].items():
                parameters[name].copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])

    def publish(self) -> None:
        """Lets the task see the parameters as they are now; all processes must call it."""

    def take_over(self) -> None:
        """Goes on with what somebody has written to the task's parameters since `publish`."""

    def finish(self) -> None:
        """Drops gradients, and dropout; each process may call it alone."""
        assert self.optimizer is not None
        self.optimizer.zero_grad()
        self.step.eval()

    def _divisors(self, batches: Sequence[TrainingBatch]) -> list[float]:
        """What each batch's sum is divided by, so that the mean over processes is right."""
        world = self.processes.world_size
        if self.loss.reduction == "sum":
            return [1 / world] * len(batches)
        sums = self.processes.sum([self.loss.divisor(batch) for batch in batches])
        return [value / world for value in sums]

    def _forward(
        self,
        step: Any,  # noqa: ANN401
        batch: TrainingBatch,
        divisor: float,
    ) -> tuple[Tensor, Tensor]:
        device = self.processes.device
        share = self.loss.divisor(batch) / divisor
        arguments = self.step.tensors(batch, device)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            loss, sums = step(**arguments, divisor=divisor, share=share)
        return loss, sums

    def _result(
        self, loss: Tensor, sums: Tensor, batch: TrainingBatch, factor: float
    ) -> StepResult:
        if batch.num_rows == 0:  # it only stands for one
            sums = torch.zeros_like(sums)
        numbers = torch.cat([loss.detach().double()[None], sums.to(loss.device)]).tolist()
        numbers = self.processes.sum([*numbers, float(batch.num_rows)])
        value = numbers[0] / self.processes.world_size * factor
        return StepResult(value, tuple(numbers[1:-1]), int(numbers[-1]))

    @contextmanager
    def _without_exchange(self, value: bool) -> Iterator[None]:
        has_exchange = hasattr(self._shared, "no_sync")
        with self._shared.no_sync() if value and has_exchange else nullcontext():
            yield


def check_same_model(now: Mapping[str, Tensor], then: Mapping[str, Tensor]) -> None:
    """Checks that a checkpoint has the parameters of a model.

    Raises:
        ValueError: One is absent, or of another shape.
    """
    names = sorted(now.keys() ^ then.keys()) or [
        name for name in now if now[name].shape != then[name].shape
    ]
    if names:
        raise ValueError(
            f"fit: checkpoint_dir must be of this model, got one where {names[0]} is absent or of "
            "another shape. Choose another checkpoint_dir to begin anew"
        )
