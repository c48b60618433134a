# SPDX-License-Identifier: Apache-2.0
"""Evaluating: the means of a loss and of metrics over data."""

from itertools import islice
from typing import Any

from fuseq.callbacks import CallbackList, ProgressBar
from fuseq.models.counts import check_count
from fuseq.models.trainable_task import TrainableTask
from fuseq.training.data import TrainingData, read_training_data
from fuseq.training.fit_options import FitOptions
from fuseq.training.means import Means
from fuseq.training.setup import start, training_of
from fuseq.training.trainer import Trainer


def run_test(
    trainer: Trainer,
    data: TrainingData,
    callbacks: CallbackList,
    steps: int | None,
    bar: ProgressBar | None = None,
) -> Means:
    """Tests on an epoch of data.

    Args:
        trainer: Computes.
        data: The batches.
        callbacks: Their `on_test_…` hooks are called.
        steps: Batches; None: all.
        bar: Shows how far it is; None: nothing does.

    Returns:
        The means.

    Raises:
        ValueError: There is no batch.
    """
    means = Means(trainer.metrics)
    callbacks.on_test_begin()
    for index, batch in enumerate(islice(data.epoch(0), steps)):
        callbacks.on_test_batch_begin(index)
        means.add(trainer.test(batch))
        logs = means.logs()
        callbacks.on_test_batch_end(index, logs)
        if bar is not None:
            bar.update(logs, batch.num_tokens * trainer.processes.world_size)
    if means.rows == 0:
        raise ValueError("evaluate: the data must have batches, got none")
    callbacks.on_test_end(means.logs())
    return means


def evaluate(
    task: TrainableTask,
    x: object,
    y: object,
    sample_weight: object,
    *,
    batch_size: int | None,
    verbose: Any,  # noqa: ANN401
    steps: int | None,
    callbacks: object,
    options: FitOptions,
) -> dict[str, float]:
    """Computes the loss and the metrics; `CausalLM.evaluate` says what the arguments are.

    Returns:
        Means by their names, the loss first.
    """
    if steps is not None:
        check_count("steps", steps, "None or ", call="evaluate")
    training = training_of(task, "evaluate")
    processes = training.running or start(options)  # a callback may call it in a fit
    task.is_main_process = processes.is_main
    data = read_training_data(
        task,
        x,
        y,
        sample_weight,
        batch_size=batch_size,
        rank=processes.rank,
        world_size=processes.world_size,
        keep_columns=training.keep_columns,
        ignored_id=training.loss.ignored_id,
        call="evaluate",
    )
    trainer = training.trainer(processes, options, updates=False)
    count = steps or data.num_batches
    listed = CallbackList(callbacks, task, {"verbose": verbose, "steps": count}, add_history=False)
    with ProgressBar(
        verbose if processes.is_main else 0, epochs=1, steps=count, what="Evaluate"
    ) as bar:
        bar.epoch_begin(0)
        means = run_test(trainer, data, listed, steps, bar)
        bar.epoch_end(means.logs())
    return means.logs()
