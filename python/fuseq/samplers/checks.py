# SPDX-License-Identifier: Apache-2.0
"""What samplers check of their arguments, and the fields they change."""

import math
from numbers import Integral, Real
from typing import Any

from fuseq._core import GenerationOptions

LEAST_TEMPERATURE = 1e-37  # below it, the engine's float32 has no room


def require(holds: bool, sampler: object, rule: str, value: object, advice: str = "") -> None:
    """Raises ValueError "<class>: <rule>, got <value>" unless the rule holds."""
    if not holds:
        raise ValueError(f"{type(sampler).__name__}: {rule}, got {value!r}{advice}")


def is_whole(value: object, least: int = 1) -> bool:
    """Whether a value is a whole number of at least `least`."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def is_number(value: object) -> bool:
    """Whether a value is a finite real number."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def is_between(value: Any, low: float, high: float) -> bool:  # noqa: ANN401
    """Whether a value is a number from low to high."""
    return is_number(value) and low <= value <= high


def check_temperature(sampler: object, temperature: object) -> None:
    """Raises ValueError unless scores can be divided by the temperature."""
    require(
        is_between(temperature, LEAST_TEMPERATURE, math.inf),
        sampler,
        f"temperature must be a finite number of at least {LEAST_TEMPERATURE}",
        temperature,
        ". GreedySampler() always takes the best id",
    )


def changed(fields: dict[str, Any]) -> dict[str, Any]:
    """Those of the fields of GenerationOptions that differ from their defaults."""
    defaults = GenerationOptions()
    return {name: value for name, value in fields.items() if value != getattr(defaults, name)}
