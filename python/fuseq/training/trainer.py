# SPDX-License-Identifier: Apache-2.0
"""Trainer: one update, one test, and the means that are shown for them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fuseq.training.batches import TrainingBatch
from fuseq.training.clipping import clip_norm
from fuseq.training.losses import Loss
from fuseq.training.metrics import Metric
from fuseq.training.optimizers import TrainingOptimizer
from fuseq.training.processes import Processes
from fuseq.training.sharding import copy_whole, cut_like, gathered, shard
from fuseq.training.step import TrainingStep
from fuseq.training.torch_module import TransformerModule

Precision = Literal["float32", "bfloat16"]


class NonFiniteLossError(ArithmeticError):
    """The loss became infinite or no number; weights are as they were before that step."""


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
            NonFiniteLossError: A loss is not finite; nothing is updated then.
        """
        optimizer = self.optimizer
        assert optimizer is not None
        self.step.train()
        divisors = self._divisors(batches)
        whole = divisors[0] if self.loss.reduction == "sum" else sum(divisors)
        results = []
        optimizer.zero_grad()
        for index, (batch, divisor) in enumerate(zip(batches, divisors, strict=True)):
            is_last = index + 1 == len(batches)
            with self._without_exchange(not is_last):
                loss, sums = self._forward(self._shared, batch, whole, divisor / whole)
                loss.backward()
            result = self._result(loss, sums, batch, whole / divisor)
            if not torch.isfinite(torch.tensor(result.loss)):
                optimizer.zero_grad()
                raise NonFiniteLossError(
                    f"fit: the loss must be finite, got {result.loss} at {what or 'this batch'}. "
                    "The weights are those of before this step. Try a lower learning rate, or "
                    "clip_norm"
                )
            results.append(result)
        if self.clip_norm is not None:
            clip_norm(self.step.parameters(), self.clip_norm)
        optimizer.step()
        return results

    @torch.no_grad()
    def test(self, batch: TrainingBatch) -> StepResult:
        """The loss and the metrics of a batch; nothing is updated, nothing dropped out."""
        self.step.eval()
        (divisor,) = self._divisors([batch])
        loss, sums = self._forward(self.step, batch, divisor, 1.0)
        return self._result(loss, sums, batch, 1.0)

    def state(self) -> dict[str, Any]:
        """Parameters and the optimizer's state, as a checkpoint keeps them."""
        assert self.optimizer is not None
        parameters = dict(self.step.module.named_parameters())
        state = {"parameters": parameters, "optimizer": self.optimizer.state_dict()}
        whole: dict[str, Any] = gathered(state)
        return whole

    def load_state(self, state: dict[str, Any]) -> None:
        """Goes on from what `state` returned."""
        assert self.optimizer is not None
        parameters = dict(self.step.module.named_parameters())
        _check_same_model(parameters, state["parameters"])
        with torch.no_grad():
            for name, value in state["parameters"].items():
                parameters[name].copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])

    def publish(self) -> None:
        """Lets the task see the parameters as they are now; all processes must call it."""

    def finish(self) -> None:
        """Ends training: gradients are dropped."""
        assert self.optimizer is not None
        self.optimizer.zero_grad()
        self.step.eval()

    def _divisors(self, batches: Sequence[TrainingBatch]) -> list[float]:
        """What each batch's sum is divided by, so that the mean over processes is right."""
        sums = self.processes.sum([self.loss.divisor(batch) for batch in batches])
        world = self.processes.world_size
        if self.loss.reduction == "sum":
            return [1 / world] * len(batches)
        return [value / world or 1.0 for value in sums]  # 1.0: nothing counts, the sum is 0

    def _forward(
        self,
        step: Any,  # noqa: ANN401
        batch: TrainingBatch,
        divisor: float,
        share: float,
    ) -> tuple[Tensor, Tensor]:
        device = self.processes.device
        arguments = self.step.tensors(batch, device)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            loss, sums = step(**arguments, divisor=divisor, share=share)
        return loss, sums

    def _result(
        self, loss: Tensor, sums: Tensor, batch: TrainingBatch, factor: float
    ) -> StepResult:
        numbers = torch.cat([loss.detach().double()[None], sums.to(loss.device)]).tolist()
        numbers = self.processes.sum([*numbers, float(batch.num_rows)])
        value = numbers[0] / self.processes.world_size * factor
        return StepResult(value, tuple(numbers[1:-1]), int(numbers[-1]))

    @contextmanager
    def _without_exchange(self, value: bool) -> Iterator[None]:
        has_exchange = hasattr(self._shared, "no_sync")
        with self._shared.no_sync() if value and has_exchange else nullcontext():
            yield


class ShardedTrainer(Trainer):
    """A trainer whose parameters are cut over the processes.

    Args:
        whole: The task's module, which takes the parameters over in `publish`.
        module: A copy of it on the processes' device.
        make_optimizer: From the cut parameters.
        others: As `Trainer` takes them.
    """

    def __init__(
        self,
        whole: TransformerModule,
        module: TransformerModule,
        loss: Loss,
        metrics: Sequence[Metric],
        make_optimizer: Callable[[list[nn.Parameter]], TrainingOptimizer],
        processes: Processes,
        **others: Any,  # noqa: ANN401
    ) -> None:
        """Cuts the parameters, then makes the optimizer."""
        super().__init__(module, loss, metrics, None, processes, **others)
        self._whole = whole
        shard(self.step, processes)
        self.optimizer = make_optimizer([p for p in self.step.parameters() if p.requires_grad])

    def load_state(self, state: dict[str, Any]) -> None:
        """Goes on from what `state` returned; each process takes its part."""
        assert self.optimizer is not None
        parameters = dict(self.step.module.named_parameters())
        _check_same_model(parameters, state["parameters"])
        with torch.no_grad():
            for name, value in state["parameters"].items():
                parameters[name].copy_(cut_like(value, parameters[name]))
        ordered = [p for group in self.optimizer.torch.param_groups for p in group["params"]]
        optimizer = dict(state["optimizer"])
        optimizer["optimizer"] = dict(optimizer["optimizer"])
        optimizer["optimizer"]["state"] = {
            index: {
                key: cut_like(value, ordered[index]) if _is_like(value, ordered[index]) else value
                for key, value in values.items()
            }
            for index, values in optimizer["optimizer"]["state"].items()
        }
        self.optimizer.load_state_dict(optimizer)

    def publish(self) -> None:  # noqa: D102
        copy_whole(self.step.module, self._whole)

    def finish(self) -> None:  # noqa: D102
        super().finish()
        self.publish()


def _check_same_model(now: Mapping[str, Tensor], then: Mapping[str, Tensor]) -> None:
    names = sorted(now.keys() ^ then.keys()) or [
        name for name in now if now[name].shape != then[name].shape
    ]
    if names:
        raise ValueError(
            f"fit: checkpoint_dir must be of this model, got one where {names[0]} is absent or of "
            "another shape. Choose another checkpoint_dir to begin anew"
        )


def _is_like(value: Any, parameter: Tensor) -> bool:  # noqa: ANN401
    return isinstance(value, Tensor) and value.shape == parameter.shape and value.ndim > 0
