# SPDX-License-Identifier: Apache-2.0
"""Optimizers by Keras' names and in the form in which Keras writes them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from types import MappingProxyType
from typing import Any

from fuseq.training.clipping import Clipping
from fuseq.training.keras_adam import Adam, Adamax, AdamW, Lamb, Nadam
from fuseq.training.keras_optimizers import (
    SGD,
    Adadelta,
    Adafactor,
    Adagrad,
    KerasOptimizer,
    Lion,
    RMSprop,
)
from fuseq.training.schedules import Schedule, make_schedule

KERAS_OPTIMIZERS: Mapping[str, type[KerasOptimizer]] = MappingProxyType(
    {
        kind.__name__.lower(): kind
        for kind in (
            *(Adadelta, Adafactor, Adagrad, Adam, Adamax, AdamW),
            *(Lamb, Lion, Nadam, RMSprop, SGD),
        )
    }
)

_CLIPPING = ("clipnorm", "clipvalue", "global_clipnorm")
_SHARED = ("learning_rate", "weight_decay", *_CLIPPING, "gradient_accumulation_steps")
# Options of Keras that are not here may say so; the first three only mean something with use_ema.
_IGNORED = ("name", "ema_momentum", "ema_overwrite_frequency", "jit_compile", "is_legacy_optimizer")
_SWITCHED_OFF = ("use_ema", "loss_scale_factor", "decay")
_BELOW_ONE = ("beta_1", "beta_2", "rho")


@dataclass(frozen=True, kw_only=True)
class KerasConfig:
    """An optimizer of Keras with all its options read.

    Attributes:
        kind: Its class here.
        learning_rate: The rate where there is no schedule.
        schedule: The rate by the step, or None.
        weight_decay: As Keras has it, or None.
        options: What only this kind has.
        clipping: How gradients are clipped.
        gradient_accumulation_steps: Batches to one update.
    """

    kind: type[KerasOptimizer]
    learning_rate: float
    schedule: Schedule | None
    weight_decay: float | None
    options: Mapping[str, float | bool]
    clipping: Clipping
    gradient_accumulation_steps: int


def read_keras_config(choice: str | Mapping[str, Any]) -> KerasConfig:
    """Reads a name, or what `keras.optimizers.serialize` writes.

    Args:
        choice: A name in any case; or `{"class_name": …, "config": {…}}`, where options that are
            left out have Keras' defaults and `learning_rate` may be a number, a schedule that
            Keras wrote, or a function of the step.

    Returns:
        The options.

    Raises:
        ValueError: There is no such optimizer or option, or a value is out of range.
        TypeError: A value is of another type.

    Example:
        >>> read_keras_config({"class_name": "SGD", "config": {"momentum": 0.9}}).options
        {'momentum': 0.9}
    """
    written: Mapping[str, Any] = {"class_name": choice} if isinstance(choice, str) else choice
    name = str(written.get("class_name"))
    if name.lower() not in KERAS_OPTIMIZERS:
        names = ", ".join(["auto", *KERAS_OPTIMIZERS])
        raise ValueError(
            f"optimizer: must be one of {names}, got {name!r}. "
            "A function of the parameters may return any torch optimizer."
        )
    kind = KERAS_OPTIMIZERS[name.lower()]
    config = dict(written.get("config") or {})
    _check_keys(kind, config)
    given_limits = {key: config[key] for key in _CLIPPING if config.get(key) is not None}
    limits = {key: _number(kind, key, value) for key, value in given_limits.items()}
    if len(limits) > 1:
        given = ", ".join(f"{key}={value:g}" for key, value in limits.items())
        raise ValueError(f"{kind.__name__}: must have one of {', '.join(_CLIPPING)}, got {given}")
    default_rate = kind.default_learning_rate
    rate = config.get("learning_rate", default_rate)
    scheduled = isinstance(rate, Mapping) or callable(rate)
    return KerasConfig(
        kind=kind,
        learning_rate=default_rate if scheduled else _number(kind, "learning_rate", rate),
        schedule=make_schedule(rate) if scheduled else None,
        weight_decay=_weight_decay(kind, config),
        options={
            key: _option(kind, key, config[key]) for key in kind.default_options if key in config
        },
        clipping=Clipping(**limits),
        gradient_accumulation_steps=_accumulation(kind, config.get("gradient_accumulation_steps")),
    )


def _check_keys(kind: type[KerasOptimizer], config: Mapping[str, Any]) -> None:
    """Refuses options that there are not."""
    known = (*_SHARED, *kind.default_options)
    unknown = sorted(set(config) - {*known, *_IGNORED, *_SWITCHED_OFF})
    if unknown:
        raise ValueError(
            f"{kind.__name__}: must have options of {', '.join(known)}, got {', '.join(unknown)}"
        )
    for key in _SWITCHED_OFF:
        if config.get(key):
            raise ValueError(f"{kind.__name__}: {key} must be off, got {config[key]!r}")


def _weight_decay(kind: type[KerasOptimizer], config: Mapping[str, Any]) -> float | None:
    """The weight decay; None is none, but not for AdamW."""
    value = config.get("weight_decay", kind.default_weight_decay)
    if value is None and kind.default_weight_decay is None:
        return None
    return _number(kind, "weight_decay", value)


def _accumulation(kind: type[KerasOptimizer], value: object) -> int:
    """Batches to one update; None is one."""
    if value is None:
        return 1
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(
            f"{kind.__name__}: gradient_accumulation_steps must be a whole number from 1, "
            f"got {value!r}"
        )
    return value


def _option(kind: type[KerasOptimizer], key: str, value: object) -> float | bool:
    """An option that only some kinds have, checked by the type of its default."""
    default = kind.default_options[key]
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise TypeError(f"{kind.__name__}: {key} must be True or False, got {value!r}")
        return value
    number = _number(kind, key, value, least=-math.inf if default < 0 else 0.0)
    if (key in _BELOW_ONE and number >= 1.0) or (key == "momentum" and number > 1.0):
        raise ValueError(f"{kind.__name__}: {key} must be from 0 to 1, got {value!r}")
    return number


def _number(kind: type[KerasOptimizer], key: str, value: object, *, least: float = 0.0) -> float:
    """A finite number of at least `least`."""
    where = f"{kind.__name__}: {key}"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{where} must be a number, got {value!r}")
    number = float(value)
    if not (math.isfinite(number) and number >= least):
        raise ValueError(f"{where} must be a finite number of at least {least:g}, got {value!r}")
    return number
