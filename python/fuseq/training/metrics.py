# SPDX-License-Identifier: Apache-2.0
"""The metrics that `compile` takes, with Keras' names."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fuseq.training.losses import check_not_foreign


@dataclass(frozen=True)
class Outputs:
    """What metrics look at, N positions.

    Attributes:
        targets: int64 [N].
        weights: float32 [N].
        losses: float32 [N], the cross entropies.
        predictions: int64 [N], the ids of the largest logits.
        logits: [N, V]; None where no metric needs them.
        shape: (B, T) where the N positions are all of a batch, else None.
    """

    targets: Tensor
    weights: Tensor
    losses: Tensor
    predictions: Tensor
    logits: Tensor | None = None
    shape: tuple[int, int] | None = None


Values = Callable[[Outputs], Tensor]


@dataclass(frozen=True)
class Metric:
    """A mean over positions.

    Attributes:
        name: In logs and History.
        values: What is averaged, [N] from outputs; or a scalar, which counts once.
        is_weighted: Whether positions count by their weights; else all count, with padding.
        needs_logits: Whether `values` looks at logits.
        finish: From the mean to what is shown.
        ignored_id: Targets of this id do not count; None: there is none.
    """

    name: str
    values: Values
    is_weighted: bool = True
    needs_logits: bool = False
    finish: Callable[[float], float] = float
    ignored_id: int | None = None

    def sums(self, outputs: Outputs) -> tuple[Tensor, Tensor]:
        """The weighted sum of the values, and the sum of the weights."""
        values = self.values(outputs).detach().double()
        if values.ndim == 0:
            return values, torch.ones_like(values)
        weights = outputs.weights.double() if self.is_weighted else torch.ones_like(values)
        if self.ignored_id is not None:
            weights = weights * (outputs.targets != self.ignored_id)
        return (values * weights).sum(), weights.sum()


def _accuracy(outputs: Outputs) -> Tensor:
    return (outputs.predictions == outputs.targets).float()


def _cross_entropy(outputs: Outputs) -> Tensor:
    return outputs.losses


def _top_k(outputs: Outputs, k: int) -> Tensor:
    assert outputs.logits is not None
    # As Keras counts: the target is among the k best if fewer than k logits are larger.
    own = outputs.logits.gather(-1, outputs.targets[:, None])
    return ((outputs.logits > own).sum(-1) < k).float()


def _exp(value: float) -> float:
    return float(torch.tensor(value, dtype=torch.float64).exp())


_NAMES: dict[str, tuple[str, Values, dict[str, Any]]] = {
    "accuracy": ("accuracy", _accuracy, {}),
    "acc": ("acc", _accuracy, {}),
    "sparse_categorical_accuracy": ("sparse_categorical_accuracy", _accuracy, {}),
    "sparse_categorical_crossentropy": ("sparse_categorical_crossentropy", _cross_entropy, {}),
    "crossentropy": ("crossentropy", _cross_entropy, {}),
    "sparse_top_k_categorical_accuracy": (
        "sparse_top_k_categorical_accuracy",
        partial(_top_k, k=5),
        {"needs_logits": True},
    ),
    "perplexity": ("perplexity", _cross_entropy, {"finish": _exp}),
}
_CLASSES = {
    "SparseCategoricalAccuracy": "sparse_categorical_accuracy",
    "SparseCategoricalCrossentropy": "sparse_categorical_crossentropy",
    "SparseTopKCategoricalAccuracy": "sparse_top_k_categorical_accuracy",
    "Perplexity": "perplexity",
}
_OPTIONS = ("dtype", "from_logits", "k", "mask_token_id", "name")


def read_metrics(weighted: object, unweighted: object) -> tuple[Metric, ...]:
    """Finds metrics.

    Args:
        weighted: "auto" (KerasHub's: the accuracy), None, or a list of names, dicts `{"class_name",
            "config"}` and functions `f(y_true [B, T], y_pred [B, T, V]) -> [B, T]` on tensors.
        unweighted: As `weighted`; None: none. Padding counts in them, as in Keras.

    Returns:
        The metrics in order, unweighted ones first; a weighted one with the name of an unweighted
        one is called "weighted_…", as in Keras.

    Raises:
        TypeError: One is an object of Keras, or of another type.
        ValueError: There is no such metric, or two have one name.
    """
    if isinstance(weighted, str) and weighted == "auto":
        weighted = ["sparse_categorical_accuracy"]
    found = [
        _read(item, argument, is_weighted)
        for argument, given, is_weighted in (
            ("metrics", unweighted, False),
            ("weighted_metrics", weighted, True),
        )
        for item in _items(given)
    ]
    plain = {metric.name for metric in found if not metric.is_weighted}
    found = [
        replace(metric, name=f"weighted_{metric.name}")
        if metric.is_weighted and metric.name in plain
        else metric
        for metric in found
    ]
    names = [metric.name for metric in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"compile: metrics must have names of their own, got {twice} twice")
    return tuple(found)


def _items(given: object) -> Sequence[object]:
    if given is None:
        return []
    if isinstance(given, Iterable) and not isinstance(given, str | Mapping):
        return list(given)
    return [given]


def _read(item: object, argument: str, is_weighted: bool) -> Metric:
    if isinstance(item, str):
        if item not in _NAMES:
            raise ValueError(
                f"compile: {argument} must be of {', '.join(_NAMES)}, dicts or functions, got "
                f"{item!r}"
            )
        name, values, others = _NAMES[item]
        return Metric(name, values, is_weighted, **others)
    if isinstance(item, Mapping):
        return _from_config(item, argument, is_weighted)
    check_not_foreign(argument, item, "a name, or a function of y_true and y_pred")
    if not callable(item):
        raise TypeError(
            f"compile: {argument} must be names, dicts or functions, got {type(item).__name__}"
        )
    name = getattr(item, "__name__", None) or type(item).__name__
    return Metric(name, partial(_call, item), is_weighted, needs_logits=True)


def _from_config(item: Mapping[str, Any], argument: str, is_weighted: bool) -> Metric:
    kind, config = item.get("class_name"), item.get("config") or {}
    if kind not in _CLASSES:
        raise ValueError(
            f"compile: {argument}: class_name must be one of {', '.join(_CLASSES)}, got {kind!r}"
        )
    unknown = sorted(set(config) - set(_OPTIONS))
    if unknown:
        raise ValueError(
            f"compile: {argument}: config must have {', '.join(_OPTIONS)}, got {unknown}"
        )
    name, values, others = _NAMES[_CLASSES[kind]]
    if kind == "SparseTopKCategoricalAccuracy" and "k" in config:
        values = partial(_top_k, k=int(config["k"]))
    return Metric(
        config.get("name") or name,
        values,
        is_weighted,
        ignored_id=config.get("mask_token_id"),
        **others,
    )


def _call(function: Callable[..., Any], outputs: Outputs) -> Tensor:
    """A function of the user's, on whole batches."""
    assert outputs.logits is not None and outputs.shape is not None
    value = function(
        outputs.targets.unflatten(0, outputs.shape), outputs.logits.unflatten(0, outputs.shape)
    )
    result = torch.as_tensor(value)
    if result.ndim == 0:
        return result
    return on_positions(result, outputs.shape, getattr(function, "__name__", "metric"))


def on_positions(values: Tensor, shape: tuple[int, int], name: str) -> Tensor:
    """Values of a function of the user's for each position, [B * T].

    Raises:
        ValueError: They are not [B, T], nor of a shape that can be read as it.
    """
    try:
        return values.expand(shape).flatten()
    except RuntimeError as error:
        raise ValueError(
            f"{name}: must return [B, T] = {list(shape)} or one number, got {list(values.shape)}"
        ) from error
