# SPDX-License-Identifier: Apache-2.0
"""Learning rates that change with the step, under Keras' names and by its formulas."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from types import MappingProxyType
from typing import Any

Schedule = Callable[[int], float]


@dataclass(frozen=True, kw_only=True)
class ExponentialDecay:
    """rate = initial_learning_rate * decay_rate ^ (step / decay_steps)."""

    initial_learning_rate: float
    decay_steps: float
    decay_rate: float
    staircase: bool = False

    def __call__(self, step: int) -> float:
        """The rate at a step."""
        periods = _periods(step, self.decay_steps, self.staircase)
        return float(self.initial_learning_rate * self.decay_rate**periods)


@dataclass(frozen=True, kw_only=True)
class InverseTimeDecay:
    """rate = initial_learning_rate / (1 + decay_rate * step / decay_steps)."""

    initial_learning_rate: float
    decay_steps: float
    decay_rate: float
    staircase: bool = False

    def __call__(self, step: int) -> float:
        """The rate at a step."""
        periods = _periods(step, self.decay_steps, self.staircase)
        return self.initial_learning_rate / (1.0 + self.decay_rate * periods)


@dataclass(frozen=True, kw_only=True)
class PolynomialDecay:
    """From initial_learning_rate to end_learning_rate as (1 - step / decay_steps) ^ power."""

    initial_learning_rate: float
    decay_steps: float
    end_learning_rate: float = 1e-4
    power: float = 1.0
    cycle: bool = False

    def __call__(self, step: int) -> float:
        """The rate at a step."""
        length = self.decay_steps
        if self.cycle:
            length *= max(1, math.ceil(step / length))
        left = 1.0 - min(step / length, 1.0)
        height = self.initial_learning_rate - self.end_learning_rate
        return float(height * left**self.power + self.end_learning_rate)


@dataclass(frozen=True, kw_only=True)
class PiecewiseConstantDecay:
    """values[0] up to and with step boundaries[0], then values[1], and so on."""

    boundaries: Sequence[int]
    values: Sequence[float]

    def __call__(self, step: int) -> float:
        """The rate at a step."""
        return self.values[sum(step > boundary for boundary in self.boundaries)]


@dataclass(frozen=True, kw_only=True)
class CosineDecay:
    """Half a cosine from initial_learning_rate to alpha times it, after a warm-up if there is one.

    With a `warmup_target` the rate first goes straight from initial_learning_rate to it in
    `warmup_steps`, and the cosine starts there.
    """

    initial_learning_rate: float
    decay_steps: float
    alpha: float = 0.0
    warmup_target: float | None = None
    warmup_steps: float = 0

    def __call__(self, step: int) -> float:
        """The rate at a step."""
        start, top = 0.0, self.initial_learning_rate
        if self.warmup_target is not None:
            if step < self.warmup_steps:
                return top + (self.warmup_target - top) * step / self.warmup_steps
            start, top = self.warmup_steps, self.warmup_target
        return top * _cosine(min((step - start) / self.decay_steps, 1.0), 1.0, self.alpha)


@dataclass(frozen=True, kw_only=True)
class CosineDecayRestarts:
    """Cosines one after the other, each `t_mul` as long and `m_mul` as high as the one before."""

    initial_learning_rate: float
    first_decay_steps: float
    t_mul: float = 2.0
    m_mul: float = 1.0
    alpha: float = 0.0

    def __call__(self, step: int) -> float:
        """The rate at a step."""
        length, restarts, into = float(self.first_decay_steps), 0, float(step)
        if self.t_mul == 1.0:
            restarts, into = int(step // length), step % length
        else:
            while into >= length:
                into -= length
                length *= self.t_mul
                restarts += 1
        height = self.m_mul**restarts
        return self.initial_learning_rate * _cosine(into / length, height, self.alpha)


SCHEDULES: Mapping[str, Callable[..., Schedule]] = MappingProxyType(
    {
        kind.__name__: kind
        for kind in (
            CosineDecay,
            CosineDecayRestarts,
            ExponentialDecay,
            InverseTimeDecay,
            PiecewiseConstantDecay,
            PolynomialDecay,
        )
    }
)


def make_schedule(choice: Mapping[str, Any] | Callable[..., float]) -> Schedule:
    """Makes a schedule from what Keras writes, or from a function.

    Args:
        choice: `{"class_name": …, "config": {…}}` as `keras.optimizers.schedules.serialize` makes
            it, or a function of the step, or of nothing as Keras calls it.

    Returns:
        A function of the number of steps done that gives the rate of the next one.

    Raises:
        ValueError: There is no such schedule or option, an option is missing or out of range.

    Example:
        >>> config = {"initial_learning_rate": 0.1, "decay_steps": 10, "end_learning_rate": 0.0}
        >>> make_schedule({"class_name": "PolynomialDecay", "config": config})(5)
        0.05
    """
    if not isinstance(choice, Mapping):
        return choice if _takes_a_step(choice) else lambda step: choice()
    name = str(choice.get("class_name"))
    if name not in SCHEDULES:
        raise ValueError(f"learning_rate: must be one of {', '.join(SCHEDULES)}, got {name!r}")
    kind = SCHEDULES[name]
    config = {key: value for key, value in choice.get("config", {}).items() if key != "name"}
    known = {field.name: field.default for field in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(config) - set(known)):
        raise ValueError(f"{name}: must have options of {', '.join(known)}, got {unknown}")
    needed = {key for key, default in known.items() if default is MISSING}
    if missing := sorted(needed - set(config)):
        raise ValueError(f"{name}: must have {', '.join(sorted(needed))}, got no {missing}")
    _check_ranges(name, config)
    return kind(**config)


def _check_ranges(name: str, config: Mapping[str, Any]) -> None:
    """Refuses what would divide by nothing, never end or have no value for a step."""
    for key in ("decay_steps", "first_decay_steps"):
        if key in config and not config[key] > 0:
            raise ValueError(f"{name}: {key} must be above 0, got {config[key]!r}")
    if "t_mul" in config and not config["t_mul"] >= 1:
        raise ValueError(f"{name}: t_mul must be at least 1, got {config['t_mul']!r}")
    if "boundaries" in config and len(config["values"]) != len(config["boundaries"]) + 1:
        raise ValueError(
            f"{name}: values must be one more than boundaries, "
            f"got {len(config['values'])} and {len(config['boundaries'])}"
        )


def _periods(step: int, length: float, whole: bool) -> float:
    """Lengths that fit into the steps, only whole ones if wanted."""
    return step // length if whole else step / length


def _cosine(fraction: float, height: float, alpha: float) -> float:
    """Half a cosine from `height` to 0, raised so that 0 becomes alpha."""
    return (1.0 - alpha) * 0.5 * height * (1.0 + math.cos(math.pi * fraction)) + alpha


def _takes_a_step(function: Callable[..., float]) -> bool:
    """Whether a function can be called with one value; one that hides its arguments can."""
    try:
        inspect.signature(function).bind(0)
    except TypeError:
        return False
    except ValueError:
        return True
    return True
