# SPDX-License-Identifier: Apache-2.0
"""Fitting: epochs of updates, with validation, callbacks and checkpoints."""

from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch

from fuseq.callbacks import CallbackList, History, ProgressBar
from fuseq.models.counts import check_count
from fuseq.models.trainable_task import TrainableTask
from fuseq.training.batches import TrainingBatch
from fuseq.training.checkpoints import Checkpoint, CheckpointFolder, check_settings
from fuseq.training.data import (
    TrainingData,
    is_in_memory,
    read_training_data,
    split_off_validation,
)
from fuseq.training.evaluating import run_test
from fuseq.training.fit_options import FitOptions
from fuseq.training.means import Means
from fuseq.training.passes import Passes
from fuseq.training.processes import Processes
from fuseq.training.setup import Training, seeded, start, training_of
from fuseq.training.trainer import NonFiniteLossError


@dataclass(frozen=True)
class FitArguments:
    """Keras' arguments of `fit` that say how long and how often.

    Attributes:
        batch_size: Rows of a batch of one process; None: 32.
        epochs: The number of the last epoch.
        initial_epoch: Of the first one, from 0.
        steps_per_epoch: Batches of an epoch; None: all.
        validation_steps: Batches of a validation; None: all.
        validation_batch_size: Rows; None: batch_size.
        validation_freq: Epochs between validations, or the epochs, from 1, that end with one.
        shuffle: Whether rows in memory come in another order each epoch.
        verbose: "auto", 0, 1 or 2.
    """

    batch_size: int | None = None
    epochs: int = 1
    initial_epoch: int = 0
    steps_per_epoch: int | None = None
    validation_steps: int | None = None
    validation_batch_size: int | None = None
    validation_freq: int | Collection[int] = 1
    shuffle: bool = True
    verbose: Any = "auto"

    def __post_init__(self) -> None:
        """Checks the numbers.

        Raises:
            ValueError: One is not what it must be.
        """
        check_count("epochs", self.epochs)
        check_count("initial_epoch", self.initial_epoch, least=0)
        for name in ("steps_per_epoch", "validation_steps", "validation_batch_size"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name), "None or ")
        if isinstance(self.validation_freq, str) or not isinstance(
            self.validation_freq, Collection
        ):
            check_count("validation_freq", self.validation_freq, "epochs or ")

    def validates_after(self, epoch: int) -> bool:
        """Whether there is a validation after an epoch, counted from 0."""
        if isinstance(self.validation_freq, Collection):
            return epoch + 1 in self.validation_freq
        return (epoch + 1) % self.validation_freq == 0


def fit(
    task: TrainableTask,
    x: object,
    y: object,
    sample_weight: object,
    *,
    callbacks: object,
    validation_split: float,
    validation_data: object,
    arguments: FitArguments,
    options: FitOptions,
) -> History:
    """Trains a task; `CausalLM.fit` says what the arguments are.

    Returns:
        The means of each epoch.

    Raises:
        ValueError: An argument does not fit.
        TypeError: An argument is of another type.
        NonFiniteLossError: The loss is infinite or no number.
        OSError: A checkpoint cannot be written.
    """
    training = training_of(task)
    training.check(options)
    CallbackList(callbacks)
    ProgressBar(arguments.verbose, epochs=1, steps=None)
    processes = start(options)
    processes.wait()  # the main process may still write a checkpoint of a fit before
    folder = None if options.checkpoint_dir is None else CheckpointFolder(options.checkpoint_dir)
    found = None if folder is None else folder.read_latest()
    _check_seen_by_all(found, processes)
    seed = options.seed if options.seed is not None else int(torch.randint(2**31 - 1, ()))
    seed = processes.from_main(seed)
    if found is not None:
        if options.seed is not None:
            check_settings({"seed": seed}, found.progress)
        seed = found.progress["seed"]
    shared: dict[str, Any] = {
        "rank": processes.rank,
        "world_size": processes.world_size,
        "keep_columns": training.keep_columns,
        "ignored_id": training.loss.ignored_id,
    }
    data = read_training_data(
        task,
        x,
        y,
        sample_weight,
        batch_size=arguments.batch_size,
        shuffle=arguments.shuffle,
        seed=seed,
        length_buckets=options.length_buckets,
        **shared,
    )
    validation: TrainingData | None = None
    if validation_data is not None:
        validation = _read_validation(task, validation_data, arguments, shared)
    elif validation_split:
        size = arguments.validation_batch_size
        data, validation = split_off_validation(data, validation_split, size)
    if found is not None:
        _pass_over_used(validation_data, arguments, found, processes)
    training.running = processes
    try:
        run = _Run(task, training, processes, arguments, options, data, validation, seed, folder)
        with seeded(seed, processes), task.backbone.engine.in_fit():
            return run.fit(callbacks, found)
    finally:
        training.end_fit()


def _read_validation(
    task: TrainableTask,
    given: Any,  # noqa: ANN401
    arguments: FitArguments,
    shared: dict[str, Any],
) -> TrainingData:
    is_triple = isinstance(given, tuple) and not all(isinstance(item, str) for item in given)
    if is_triple and not 1 <= len(given) <= 3:
        raise ValueError(
            "fit: validation_data must be x, (x, y) or (x, y, sample_weight), got "
            f"{len(given)} parts"
        )
    parts = given if is_triple else (given,)
    size = arguments.validation_batch_size
    if size is None and (is_in_memory(parts[0]) or hasattr(parts[0], "column_names")):
        size = arguments.batch_size
    call = "fit: validation_data"
    return read_training_data(task, *parts, batch_size=size, call=call, **shared)


def _check_seen_by_all(found: Checkpoint | None, processes: Processes) -> None:
    where = None if found is None else (found.progress["epoch"], found.progress["batch"])
    seen = processes.gather(where)
    if any(other != seen[0] for other in seen):
        raise ValueError(
            "fit: checkpoint_dir must be one folder that all processes see, got different "
            f"checkpoints: (epoch, batch) is {seen}"
        )


def _pass_over_used(
    validation_data: object, arguments: FitArguments, found: Checkpoint, processes: Processes
) -> None:
    """Takes what validations before a checkpoint have used from a generator of batches."""
    source = validation_data[0] if isinstance(validation_data, tuple) else validation_data
    if isinstance(source, Iterator):
        count = sum(map(arguments.validates_after, found.progress["epochs"]))
        used = count * (arguments.validation_steps or 0) * processes.world_size
        deque(islice(source, used), maxlen=0)


class _Run:
    """One call of `fit`."""

    def __init__(
        self,
        task: TrainableTask,
        training: Training,
        processes: Processes,
        arguments: FitArguments,
        options: FitOptions,
        data: TrainingData,
        validation: TrainingData | None,
        seed: int,
        folder: CheckpointFolder | None,
    ) -> None:
        self.task, self.processes, self.seed = task, processes, seed
        self.arguments, self.options = arguments, options
        self.passes, self.validation = Passes(data, arguments.steps_per_epoch), validation
        self.trainer = training.trainer(processes, options)
        assert self.trainer.optimizer is not None
        self.optimizer = self.trainer.optimizer
        self.accumulated = (
            options.gradient_accumulation_steps or self.optimizer.gradient_accumulation_steps
        )
        self.means = Means(training.metrics)
        self.steps = arguments.steps_per_epoch or data.num_batches
        self.folder = folder
        self.epoch, self.batch = arguments.initial_epoch, 0  # where training goes on
        self.callbacks = CallbackList()
        self.history = History()

    def fit(self, callbacks: object, found: Checkpoint | None) -> History:
        """Runs all epochs."""
        task, arguments = self.task, self.arguments
        is_main = task.is_main_process = self.processes.is_main
        task.stop_training = False
        parameters = {"verbose": arguments.verbose, "epochs": arguments.epochs, "steps": self.steps}
        self.callbacks = CallbackList(callbacks, task, parameters)
        assert self.callbacks.history is not None
        self.history = task.history = self.callbacks.history
        task.backbone.engine.release_model()  # it is made again when something generates
        verbose = arguments.verbose if is_main else 0
        with ProgressBar(verbose, epochs=arguments.epochs, steps=self.steps) as bar:
            self.callbacks.on_train_begin()
            if found is not None:
                self._go_on(found)
            logs: dict[str, float] = {}
            try:
                while self.epoch < arguments.epochs and not self._stops():
                    logs = self._run_epoch(bar)
            except NonFiniteLossError:  # in all processes
                self.trainer.publish()
                raise
            finally:
                self.trainer.finish()
            self.callbacks.on_train_end(logs)
        return self.history

    def _stops(self) -> bool:
        """Whether any process has been told to stop; all of them must ask."""
        (count,) = self.processes.sum([float(bool(self.task.stop_training))])
        self.task.stop_training = count > 0
        return count > 0

    def _run_epoch(self, bar: ProgressBar) -> dict[str, float]:
        epoch = self.epoch
        if self.batch == 0:
            self.means.reset()
            self.callbacks.on_epoch_begin(epoch)
        bar.epoch_begin(epoch)
        for group in self._groups(epoch):
            first = self.batch
            for index in range(first, first + len(group)):
                self.callbacks.on_train_batch_begin(index)
            results = self.trainer.update(group, f"epoch {epoch + 1}, batch {first + 1}")
            self.batch += len(group)
            for index, (batch, result) in enumerate(zip(group, results, strict=True)):
                self.means.add(result)
                logs = self.means.logs()
                self.callbacks.on_train_batch_end(first + index, logs)
                bar.update(logs, batch.num_tokens * self.processes.world_size)
            if self._is_checkpoint_due():
                self._write_checkpoint()
            if self._stops():
                break
        if self.batch == 0:
            raise ValueError(
                f"fit: x must have batches for epoch {epoch + 1}, got none. A generator is used "
                "up: give what can be read again, or fewer epochs"
            )
        self.trainer.publish()
        logs = self.means.logs()
        if self.validation is not None and self.arguments.validates_after(epoch):
            means = run_test(
                self.trainer, self.validation, self.callbacks, self.arguments.validation_steps
            )
            logs.update({f"val_{name}": value for name, value in means.logs().items()})
        self.callbacks.on_epoch_end(epoch, logs)
        count = len(self.history.epoch)  # what callbacks have added is in the history alone
        added = {k: v[-1] for k, v in self.history.history.items() if len(v) == count}
        bar.epoch_end({**logs, **added})
        self.trainer.take_over()
        self.epoch, self.batch = epoch + 1, 0
        if self.folder is not None:
            self._write_checkpoint()
        return logs

    def _groups(self, epoch: int) -> Iterator[list[TrainingBatch]]:
        """The batches of each update that is left of an epoch."""
        batches = self.passes.epoch(epoch, self.batch)
        while group := list(islice(batches, self.accumulated)):
            yield group

    # ---- checkpoints ----

    def _is_checkpoint_due(self) -> bool:
        frequency = self.options.checkpoint_freq
        if self.folder is None or frequency == "epoch":
            return False
        return self.optimizer.iterations % frequency == 0

    def _settings(self) -> dict[str, Any]:
        """What must be the same when training goes on."""
        return {
            "batch_size": self.arguments.batch_size,
            "gradient_accumulation_steps": self.accumulated,
            "length_buckets": self.options.length_buckets,
            "loss_reduction": self.trainer.loss.reduction,
            "num_batches": self.steps,
            "optimizer": type(self.optimizer.torch).__name__,
            "precision": self.options.precision,
            "shuffle": self.arguments.shuffle,
            "world_size": self.processes.world_size,
        }

    def _write_checkpoint(self) -> None:
        assert self.folder is not None
        generators = self.processes.gather(self.processes.generator_state())
        tensors = self.trainer.state()
        if not self.processes.is_main:
            return
        progress = {
            "settings": self._settings(),
            "seed": self.seed,
            "epoch": self.epoch,
            "batch": self.batch,
            "passes": self.passes.state(),
            "means": self.means.state(),
            "history": self.history.history,
            "epochs": self.history.epoch,
            "callbacks": self.callbacks.state(),
            "stopped": bool(self.task.stop_training),
        }
        self.folder.write(
            self.optimizer.iterations, Checkpoint(progress, {**tensors, "generators": generators})
        )

    def _go_on(self, found: Checkpoint) -> None:
        """Takes up a checkpoint."""
        progress = found.progress
        check_settings(self._settings(), progress["settings"])
        self.epoch, self.batch = progress["epoch"], progress["batch"]
        self.passes.load_state(progress["passes"])
        self.means.load_state(progress["means"])
        self.history.history = progress["history"]
        self.history.epoch = progress["epochs"]
        self.callbacks.load_state(progress["callbacks"])
        self.task.stop_training = progress["stopped"]
        self.trainer.load_state(found.tensors)
        self.processes.set_generator_state(found.tensors["generators"][self.processes.rank])
        found.tensors.clear()  # several times the model
