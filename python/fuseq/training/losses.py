# SPDX-License-Identifier: Apache-2.0
"""The losses that `compile` takes, and what their sums are divided by."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Literal, get_args

import numpy as np

from fuseq.training.batches import TrainingBatch

Reduction = Literal["sum_over_batch_size", "sum", "mean_with_sample_weight"]
_CROSS_ENTROPY = ("sparse_categorical_crossentropy", "SparseCategoricalCrossentropy")
_LOSS_REDUCTIONS = {"batch": "sum_over_batch_size", "tokens": "mean_with_sample_weight"}


@dataclass(frozen=True)
class Loss:
    """How much predictions miss the targets.

    Attributes:
        function: `f(y_true [B, T], y_pred [B, T, V]) -> [B, T]` or a scalar, on tensors; None: the
            cross entropy of logits, which is computed without all logits in memory.
        reduction: What the weighted sum is divided by, in Keras' words: "sum_over_batch_size": rows
            x configured length, with padding; "mean_with_sample_weight": the sum of the weights;
            "sum": 1.
        ignored_id: Targets of this id do not count, nor are sums divided by them; None: none.
        label_smoothing: The share of the target distribution, in [0, 1), that is spread over the
            whole vocabulary; for the cross entropy of logits.
    """

    function: Callable[..., Any] | None = None
    reduction: Reduction = "sum_over_batch_size"
    ignored_id: int | None = None
    label_smoothing: float = 0.0

    def divisor(self, batch: TrainingBatch) -> float:
        """What a batch adds to the number that the sum is divided by."""
        if self.reduction == "sum":
            return float(batch.num_rows > 0)
        if self.reduction == "sum_over_batch_size":
            return float(batch.num_positions)
        return float(batch.weights.sum(dtype=np.float64))


def read_loss(loss: object, loss_reduction: str | None = None) -> Loss:
    """Finds a loss.

    Args:
        loss: "auto", "sparse_categorical_crossentropy", a dict `{"class_name":
            "SparseCategoricalCrossentropy", "config": {...}}` or a function on tensors. All mean
            logits, whatever Keras' string would.
        loss_reduction: "batch" or "tokens", over what the loss says; None: as it says.

    Returns:
        The loss.

    Raises:
        TypeError: It is an object of Keras, or of another type.
        ValueError: There is no such loss or option.
    """
    if loss_reduction is not None and loss_reduction not in _LOSS_REDUCTIONS:
        raise ValueError(
            f"compile: loss_reduction must be {' or '.join(map(repr, _LOSS_REDUCTIONS))}, got "
            f"{loss_reduction!r}"
        )
    found = _read(loss)
    if loss_reduction is not None:
        reduction: Any = _LOSS_REDUCTIONS[loss_reduction]
        return replace(found, reduction=reduction)
    return found


def _read(loss: object) -> Loss:
    if isinstance(loss, str):
        if loss == "auto" or loss in _CROSS_ENTROPY:
            return Loss()
        raise ValueError(f'compile: loss must be "auto", "{_CROSS_ENTROPY[0]}", got {loss!r}')
    if isinstance(loss, Mapping):
        return _from_config(loss)
    check_not_foreign("loss", loss, '"auto", or a function of y_true and y_pred')
    if not callable(loss):
        raise TypeError(
            f"compile: loss must be a name, a dict or a function, got {type(loss).__name__}"
        )
    return Loss(loss)


def _from_config(loss: Mapping[str, Any]) -> Loss:
    name, config = loss.get("class_name"), loss.get("config") or {}
    if name not in _CROSS_ENTROPY:
        raise ValueError(f'compile: loss must be of class "{_CROSS_ENTROPY[1]}", got {name!r}')
    known = (
        "name", "dtype", "from_logits", "ignore_class", "reduction", "axis", "fn",
        "label_smoothing",
    )  # fmt: skip
    unknown = sorted(set(config) - set(known))
    if unknown:
        raise ValueError(f"compile: loss: config must have {', '.join(known)}, got {unknown}")
    if config.get("from_logits", True) is not True:
        raise ValueError(
            "compile: loss: from_logits must be True, got False: the task gives logits"
        )
    if config.get("axis", -1) != -1:
        raise ValueError(f"compile: loss: axis must be -1, got {config['axis']!r}")
    reduction: Any = config.get("reduction") or "sum_over_batch_size"
    if reduction not in get_args(Reduction):
        raise ValueError(
            f"compile: loss: reduction must be one of {', '.join(get_args(Reduction))}, got "
            f"{reduction!r}"
        )
    smoothing = config.get("label_smoothing", 0.0)
    is_number = isinstance(smoothing, Real) and not isinstance(smoothing, bool)
    if not is_number or not 0 <= smoothing < 1:
        raise ValueError(
            f"compile: loss: label_smoothing must be a number in [0, 1), got {smoothing!r}"
        )
    return Loss(None, reduction, config.get("ignore_class"), float(smoothing))


def check_not_foreign(argument: str, value: object, instead: str) -> None:
    """Refuses objects of Keras, which compute with its own tensors, and losses of torch.

    Raises:
        TypeError: It is one.
    """
    module = type(value).__module__.split(".")[0]
    if isinstance(value, type):
        module = value.__module__.split(".")[0]
    if module in ("keras", "keras_hub", "keras_nlp", "tf_keras", "tensorflow"):
        raise TypeError(
            f"compile: {argument} must not be an object of Keras, got {type(value).__name__}. "
            f"Give {instead}"
        )
    if type(value).__module__ == "torch.nn.modules.loss":
        raise TypeError(
            f"compile: {argument} must take y_true and y_pred, got {type(value).__name__}, which "
            "takes them the other way round. Give a function around it"
        )
