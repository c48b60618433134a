# SPDX-License-Identifier: Apache-2.0
"""Training: what a compiled task trains with, kept until it is compiled again."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from fuseq.training.fit_options import FitOptions
from fuseq.training.losses import Loss, read_loss
from fuseq.training.metrics import Metric, read_metrics
from fuseq.training.optimizers import TrainingOptimizer, make_optimizer
from fuseq.training.processes import Processes, join_processes
from fuseq.training.sharding import copy_to_shard
from fuseq.training.torch_module import TransformerModule
from fuseq.training.trainer import ShardedTrainer, Trainer


class Training:
    """The parts that `compile` has chosen, made for the task's parameters.

    Attributes:
        loss: Of one position.
        metrics: What is averaged beside.
        keep_columns: Whether batches have to keep columns of padding.
    """

    def __init__(self, task: Any) -> None:  # noqa: ANN401
        """Reads what `compile` was given.

        Raises:
            ValueError: The task is not compiled, or there is no such loss or metric.
            TypeError: A loss or metric is of another type.
        """
        compiled = task.compiled("fit")
        others = compiled.others
        if others.get("loss_weights") is not None:
            raise ValueError(
                f"compile: loss_weights must be None, got {others['loss_weights']!r}: there is one "
                "loss"
            )
        self._task = task
        self._choice = compiled.optimizer
        self.loss: Loss = read_loss(compiled.loss, others.get("loss_reduction"))
        self.metrics: tuple[Metric, ...] = read_metrics(
            compiled.weighted_metrics, others.get("metrics")
        )
        # Unweighted metrics count padding: it has to be there.
        self.keep_columns = not all(metric.is_weighted for metric in self.metrics)
        self._optimizer: TrainingOptimizer | None = None
        self._sharded: TrainingOptimizer | None = None
        self._parameters: list[int] = []

    @property
    def optimizer(self) -> TrainingOptimizer:
        """Of the parameters that are trained now; its state is kept from fit to fit.

        During a sharded fit it is that fit's own, for callbacks to set the rate of.
        """
        if self._sharded is not None:
            return self._sharded
        parameters = trainable_parameters(self._task)
        ids = [id(parameter) for parameter in parameters]
        if self._optimizer is None or ids != self._parameters:
            self._optimizer = make_optimizer(self._choice, parameters)
            self._parameters = ids
        return self._optimizer

    def trainer(
        self, processes: Processes, options: FitOptions, *, updates: bool = True
    ) -> Trainer:
        """What does the steps; the module moves to the processes' device."""
        module = self._task.torch_module()
        if options.sharded and updates:
            return self._sharded_trainer(module, processes, options)
        module.to(processes.device)
        module.set_activation_checkpointing(options.activation_checkpointing)
        return Trainer(
            module,
            self.loss,
            self.metrics,
            self.optimizer if updates else None,
            processes,
            precision=options.precision,
            clip_norm=options.clip_norm,
        )

    def _sharded_trainer(
        self, module: TransformerModule, processes: Processes, options: FitOptions
    ) -> ShardedTrainer:
        if processes.world_size == 1:
            raise ValueError("fit: sharded must come with several processes, got one. Use torchrun")
        if isinstance(self._choice, torch.optim.Optimizer):
            raise ValueError(
                "fit: sharded must come with an optimizer that is made for the cut parameters, got "
                f"a {type(self._choice).__name__}. Give a name, a dict or a function"
            )
        copied = copy_to_shard(module, processes)
        copied.set_activation_checkpointing(options.activation_checkpointing)
        trainer = ShardedTrainer(
            module,
            copied,
            self.loss,
            self.metrics,
            partial(make_optimizer, self._choice),
            processes,
            precision=options.precision,
            clip_norm=options.clip_norm,
        )
        self._sharded = trainer.optimizer
        return trainer

    def end_fit(self) -> None:
        """Lets go of what a sharded fit alone has."""
        self._sharded = None


def training_of(task: Any) -> Training:  # noqa: ANN401
    """The task's `Training`; made when first asked for after `compile`."""
    if task.training is None:
        task.training = Training(task)
    found: Training = task.training
    return found


def trainable_parameters(task: Any) -> list[torch.nn.Parameter]:  # noqa: ANN401
    """The parameters that training changes.

    Raises:
        ValueError: There are none.
    """
    found = [p for p in task.torch_module().parameters() if p.requires_grad]
    if not found:
        raise ValueError(
            "fit: the model must have parameters to train, got none. Set requires_grad of some of "
            "torch_module().parameters()"
        )
    return found


def start(options: FitOptions) -> Processes:
    """Joins the other processes."""
    return join_processes(options.device)


@contextmanager
def seeded(seed: int, processes: Processes) -> Iterator[None]:
    """Dropout from a seed, another one in each process; torch's generator is left as it was."""
    devices = [processes.device] if processes.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed + processes.rank)
        yield
