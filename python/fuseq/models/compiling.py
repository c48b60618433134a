# SPDX-License-Identifier: Apache-2.0
"""The arguments of `compile`."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fuseq import samplers
from fuseq.samplers import Sampler

_WITHOUT_EFFECT = ("auto_scale_loss", "jit_compile", "run_eagerly", "steps_per_execution")
_OTHERS = ("loss_reduction", "loss_weights", "metrics")


@dataclass(frozen=True)
class Compiled:
    """How a task trains and generates.

    Attributes:
        optimizer: "auto", a name, or as training takes it.
        loss: "auto", a name or a function.
        weighted_metrics: "auto" or a list.
        sampler: Chooses ids.
        others: `loss_reduction`, `loss_weights` and `metrics`, where given.
    """

    optimizer: object
    loss: object
    weighted_metrics: object
    sampler: Sampler | Callable[..., Any]
    others: Mapping[str, Any] = field(default_factory=dict)


def read_compile(
    kind: type,
    optimizer: object,
    loss: object,
    weighted_metrics: object,
    sampler: object,
    others: Mapping[str, Any],
) -> Compiled:
    """Checks what `compile` was given.

    Args:
        kind: The task's class, for messages.
        optimizer: As the attribute.
        loss: As the attribute.
        weighted_metrics: As the attribute.
        sampler: A name, a dict, a class, a Sampler, or a function with a sampler's protocol.
        others: Keywords that Keras has.

    Returns:
        The arguments, the sampler as an object that starts its draws again.

    Raises:
        TypeError: A keyword is not known, or the sampler is of another type.
        ValueError: There is no such sampler.
    """
    known = (*_OTHERS, *_WITHOUT_EFFECT)
    unknown = sorted(set(others) - set(known))
    if unknown:
        names = ", ".join(["optimizer", "loss", "weighted_metrics", "sampler", *known])
        raise TypeError(
            f"{kind.__name__}.compile: arguments must be of {names}, got {', '.join(unknown)}"
        )
    ignored = [name for name in _WITHOUT_EFFECT if name in others]
    if ignored:
        warnings.warn(f"compile: {', '.join(ignored)} has no effect in fuseq", stacklevel=3)
    return Compiled(
        optimizer,
        loss,
        weighted_metrics,
        read_sampler(sampler, restarts=True),
        {name: others[name] for name in _OTHERS if name in others},
    )


def read_sampler(
    sampler: Any,  # noqa: ANN401
    *,
    restarts: bool,
) -> Sampler | Callable[..., Any]:
    """Finds a sampler.

    Args:
        sampler: As `compile` takes it.
        restarts: Whether its draws start again.

    Returns:
        The sampler.

    Raises:
        TypeError: It is of another type.
        ValueError: There is no such sampler.
    """
    found: Any = samplers.get(sampler)
    if found is None:
        raise TypeError("sampler: must be a name, a Sampler or a function, got None")
    if restarts and isinstance(found, Sampler):
        found.restart_draws()
    result: Sampler | Callable[..., Any] = found
    return result
