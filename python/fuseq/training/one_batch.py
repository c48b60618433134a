# SPDX-License-Identifier: Apache-2.0
"""Updates and tests of single batches."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fuseq.training.batches import TrainingBatch
from fuseq.training.fit_options import FitOptions
from fuseq.training.means import Means
from fuseq.training.read_rows import read_rows
from fuseq.training.setup import Training, start, training_of
from fuseq.training.torch_module import TransformerModule


def train_on_batch(
    task: Any,  # noqa: ANN401
    x: object,
    y: object,
    sample_weight: object,
) -> dict[str, float]:
    """Updates a task once; returns the loss and the metrics of the batch before the update."""
    training, options = training_of(task, "train_on_batch"), FitOptions(call="train_on_batch")
    trainer = training.trainer(start(options), options)
    batch = _read(task, x, y, sample_weight, training, "train_on_batch")
    means = Means(training.metrics)
    for result in trainer.update([batch]):
        means.add(result)
    trainer.finish()
    return means.logs()


def test_on_batch(
    task: Any,  # noqa: ANN401
    x: object,
    y: object,
    sample_weight: object,
) -> dict[str, float]:
    """Tests a task on one batch."""
    training, options = training_of(task, "test_on_batch"), FitOptions(call="test_on_batch")
    trainer = training.trainer(start(options), options, updates=False)
    means = Means(training.metrics)
    means.add(trainer.test(_read(task, x, y, sample_weight, training, "test_on_batch")))
    return means.logs()


def _read(
    task: Any,  # noqa: ANN401
    x: object,
    y: object,
    sample_weight: object,
    training: Training,
    call: str,
) -> TrainingBatch:
    rows = read_rows(
        task, x, y, sample_weight, call, training.keep_columns, training.loss.ignored_id
    )
    return rows.batch(np.arange(len(rows)))


def set_parameters(module: TransformerModule, weights: Sequence[npt.ArrayLike]) -> None:
    """Sets all parameters of a module, in order.

    Raises:
        ValueError: Their number or a shape is another one.
    """
    parameters = list(module.named_parameters())
    if len(weights) != len(parameters):
        raise ValueError(
            f"set_weights: weights must be {len(parameters)} arrays, got {len(weights)}"
        )
    arrays = [np.asarray(value, np.float32) for value in weights]
    for (name, parameter), array in zip(parameters, arrays, strict=True):
        if tuple(parameter.shape) != array.shape:
            raise ValueError(
                f"set_weights: {name} must have shape {list(parameter.shape)}, got "
                f"{list(array.shape)}"
            )
    with torch.no_grad():
        for (_, parameter), array in zip(parameters, arrays, strict=True):
            parameter.copy_(torch.from_numpy(array))
