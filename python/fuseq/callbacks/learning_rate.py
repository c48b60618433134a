# SPDX-License-Identifier: Apache-2.0
"""Callbacks that set the learning rate: LearningRateScheduler, ReduceLROnPlateau."""

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from fuseq.callbacks.callback import Callback, Logs
from fuseq.callbacks.monitor import MonitorCallback


class LearningRateScheduler(Callback):
    """Sets the learning rate when an epoch begins, and adds `learning_rate` to the logs.

    Example:
        >>> LearningRateScheduler(lambda epoch, rate: rate if epoch < 2 else rate / 2).verbose
        0
    """

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        """Makes the callback.

        Args:
            schedule: Takes the epoch, counted from 0, and the rate now; returns the new rate. May
                take the epoch alone.
            verbose: 1 to say each new rate.
        """
        self.schedule = schedule
        self.verbose = verbose

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Sets the learning rate.

        Raises:
            ValueError: The schedule does not return a float, or there is no rate to set.
        """
        optimizer = self.model.optimizer
        if not hasattr(optimizer, "learning_rate"):
            raise ValueError(
                "LearningRateScheduler: the optimizer must have a learning_rate, got "
                f"{type(optimizer).__name__}"
            )
        rate_now = float(optimizer.learning_rate)
        rate = self.schedule(*(epoch, rate_now)[: _num_arguments(self.schedule)])
        if not isinstance(rate, float | np.float32):  # np.float64 is a float
            raise ValueError(
                "LearningRateScheduler(schedule): must return a float, got "
                f"{rate!r} at epoch {epoch}"
            )
        optimizer.learning_rate = float(rate)
        if self.verbose > 0:
            self.show(f"Epoch {epoch + 1}: LearningRateScheduler sets the learning rate to {rate}")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Adds the rate to the logs."""
        _log_rate(self.model.optimizer, logs)


class ReduceLROnPlateau(MonitorCallback):
    """Lowers the learning rate when a number of the logs has not become better for some epochs.

    Adds `learning_rate` to the logs. A training checkpoint keeps the counters.

    Attributes:
        wait: Epochs since the best.
        cooldown_counter: Epochs for which `wait` still does not count.

    Example:
        >>> ReduceLROnPlateau(factor=0.2, patience=5, min_lr=1e-6).in_cooldown()
        False
    """

    state_names: ClassVar = ("wait", "cooldown_counter", "best")

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        """Makes the callback.

        Args:
            monitor: The name of the number.
            factor: What the rate is multiplied by; below 1.
            patience: Epochs without a better number after which the rate is lowered.
            verbose: 1 to say each new rate.
            mode: "min" or "max": what is better; "auto" tells it from the name.
            min_delta: How much better counts as better.
            cooldown: Epochs after a lowering in which nothing is counted.
            min_lr: The lowest rate.

        Raises:
            ValueError: The factor is 1 or more.
        """
        super().__init__(monitor, mode, min_delta=min_delta)
        if factor >= 1.0:
            raise ValueError(f"ReduceLROnPlateau(factor): must be below 1, got {factor}")
        self.factor = factor
        self.patience = patience
        self.verbose = verbose
        self.cooldown = cooldown
        self.min_lr = min_lr
        self._reset()

    def _reset(self) -> None:
        self.wait = 0
        self.cooldown_counter = 0
        self.best = None

    def in_cooldown(self) -> bool:
        """Whether nothing is counted now."""
        return self.cooldown_counter > 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Forgets an earlier run."""
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Compares, and lowers the rate.

        Raises:
            ValueError: The mode is "auto" and the name does not tell what is better.
        """
        self.is_better_below()
        logs = {} if logs is None else logs
        _log_rate(self.model.optimizer, logs)
        value = logs.get(self.monitor)
        if value is None:
            self.warn_absent("The learning rate stays", logs)
            return
        if self.in_cooldown():
            self.cooldown_counter -= 1
            self.wait = 0
        if self.is_improvement(value, self.best):
            self.best = value
            self.wait = 0
        elif not self.in_cooldown():
            self.wait += 1
            if self.wait >= self.patience:
                self._lower_rate(epoch)

    def _lower_rate(self, epoch: int) -> None:
        optimizer = self.model.optimizer
        rate = float(optimizer.learning_rate)
        if np.float32(rate) <= np.float32(self.min_lr):  # an optimizer may hold it in float32
            return
        optimizer.learning_rate = max(rate * self.factor, self.min_lr)
        self.cooldown_counter = self.cooldown
        self.wait = 0
        if self.verbose > 0:
            self.show(
                f"Epoch {epoch + 1}: ReduceLROnPlateau lowers the learning rate to "
                f"{optimizer.learning_rate}"
            )


def _log_rate(optimizer: Any, logs: Logs | None) -> None:  # noqa: ANN401
    if logs is not None:
        logs["learning_rate"] = float(optimizer.learning_rate)


def _num_arguments(schedule: Callable[..., float]) -> int:
    """2, or 1 where the schedule takes the epoch alone."""
    try:
        inspect.signature(schedule).bind(0, 0.0)
    except TypeError:
        return 1
    except ValueError:  # written in C without a signature
        return 2
    return 2
