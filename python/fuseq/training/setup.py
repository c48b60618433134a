# SPDX-License-Identifier: Apache-2.0
"""Training: what a compiled task trains with, kept until it is compiled again."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch

from fuseq.models.trainable_task import TrainableTask
from fuseq.training.fit_options import FitOptions
from fuseq.training.losses import Loss, read_loss
from fuseq.training.metrics import Metric, read_metrics
from fuseq.training.optimizers import TrainingOptimizer, make_optimizer
from fuseq.training.processes import Processes, join_processes
from fuseq.training.sharded_trainer import ShardedTrainer
from fuseq.training.sharding import copy_to_shard
from fuseq.training.torch_module import TransformerModule
from fuseq.training.trainer import Trainer


class Training:
    """The parts that `compile` has chosen, made for the task's parameters.

    Attributes:
        loss: Of one position.
        metrics: What is averaged beside.
        keep_columns: Whether batches have to keep columns of padding.
        running: Where a fit is running that has not ended; None: there is none.
    """

    def __init__(self, task: TrainableTask, call: str) -> None:
        """Reads what `compile` was given.

        Raises:
            ValueError: The task is not compiled, or there is no such loss or metric.
            TypeError: A loss or metric is of another type.
        """
        compiled = task.compiled(call)
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
        self.running: Processes | None = None
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
            made = make_optimizer(self._choice, parameters)
            if self._optimizer is not None:
                warnings.warn(
                    "fit: other parameters are trained than before: the optimizer starts anew",
                    stacklevel=2,
                )
            self._optimizer, self._parameters = made, ids
        return self._optimizer

    def check(self, options: FitOptions) -> None:
        """Finds what is wrong with the optimizer before there is any work."""
        if not options.sharded:
            _ = self.optimizer

    def trainer(
        self, processes: Processes, options: FitOptions, *, updates: bool = True
    ) -> Trainer:
        """What does the steps; the module moves to the processes' device."""
        module = self._task.torch_module()
        if options.sharded and updates:
            return self._sharded_trainer(module, processes, options)
        self._move(module, processes.device)
        if updates:
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

    def _move(self, module: TransformerModule, device: torch.device) -> None:
        """Moves a module, and what the optimizer keeps for its parameters."""
        if module.embed.tokens.device == device:
            return
        module.to(device)
        if self._optimizer is not None:  # loading puts a state where the parameters are
            self._optimizer.torch.load_state_dict(self._optimizer.torch.state_dict())

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
        copied = copy_to_shard(module)
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
        """Lets go of what one fit alone has."""
        self._sharded = self.running = None


def training_of(task: TrainableTask, call: str = "fit") -> Training:
    """The task's `Training`; made when first asked for after `compile`."""
    if task.training is None:
        task.training = Training(task, call)
    found: Training = task.training
    return found


def trainable_parameters(task: TrainableTask) -> list[torch.nn.Parameter]:
    """The parameters that training changes.

    Raises:
        ValueError: There are none.
    """
    found = [p for p in task.torch_module().parameters() if p.requires_grad]
    if not found:
        raise ValueError(
            "fit: the model must have parameters to train, got none. Set trainable = True, or "
            "requires_grad of some of torch_module().parameters()"
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
