# SPDX-License-Identifier: Apache-2.0
"""Callbacks that end training: EarlyStopping, TerminateOnNaN."""

import math
import warnings
from typing import Any, ClassVar

from fuseq.callbacks.callback import Callback, Logs
from fuseq.callbacks.monitor import MonitorCallback


class EarlyStopping(MonitorCallback):
    """Ends training when a number of the logs has not become better for some epochs.

    A training checkpoint keeps the counters (`state_dict`), not `best_weights`: where these are
    lost, the weights at the end of the first epoch after the checkpoint take their place, with a
    warning; and where no epoch comes after it, the model keeps its latest weights, with a warning
    too.

    Attributes:
        wait: Epochs since the best.
        stopped_epoch: The epoch that ended training, counted from 0; 0 where none did.
        best: The best number so far, or None.
        best_epoch: Its epoch, counted from 0.
        best_weights: `model.get_weights()` of that epoch, or None.

    Example:
        >>> EarlyStopping(monitor="val_loss", patience=2, restore_best_weights=True).patience
        2
    """

    state_names: ClassVar = ("wait", "stopped_epoch", "best", "best_epoch")

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        """Makes the callback.

        Args:
            monitor: The name of the number.
            min_delta: How much better counts as better.
            patience: Epochs without a better number after which training ends.
            verbose: 1 to say when training ends.
            mode: "min" or "max": what is better; "auto" tells it from the name.
            baseline: What must be beaten as well for the counter to start again.
            restore_best_weights: Whether the model gets the weights of the best epoch at the end.
            start_from_epoch: Epochs before this one are not looked at.
        """
        super().__init__(monitor, mode, min_delta=min_delta)
        self.patience = patience
        self.verbose = verbose
        self.baseline = baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self._reset()

    def _reset(self) -> None:
        self.wait = 0
        self.stopped_epoch = 0
        self.best = None
        self.best_epoch = 0
        self.best_weights: list[Any] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Forgets an earlier run."""
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Compares, and ends training.

        Raises:
            ValueError: The mode is "auto" and the name does not tell what is better.
        """
        self.is_better_below()
        logs = logs or {}
        value = logs.get(self.monitor)
        if value is None:
            self.warn_absent("Training goes on", logs)
        if value is None or epoch < self.start_from_epoch:
            return
        is_better = self.is_improvement(value, self.best)
        if self.restore_best_weights and (is_better or self.best_weights is None):
            self._keep_weights(epoch, is_lost=not is_better)
        self.wait += 1
        if is_better:
            self.best = value
            self.best_epoch = epoch
            if self.baseline is None or self.is_improvement(value, self.baseline):
                self.wait = 0
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def _keep_weights(self, epoch: int, is_lost: bool) -> None:
        if is_lost:
            warnings.warn(
                f"{self._lost_weights()}. The weights of epoch {epoch + 1} take their place",
                stacklevel=3,
            )
        self.best_weights = self.model.get_weights()
        self.best_epoch = epoch

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Gives the model the best weights if asked to."""
        if self.stopped_epoch > 0 and self.verbose > 0:
            self.show(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.restore_best_weights and self.best_weights is not None:
            if self.verbose > 0:
                self.show(f"Restoring the weights of the best epoch: {self.best_epoch + 1}")
            self.model.set_weights(self.best_weights)
        elif self.restore_best_weights and self.best is not None:
            warnings.warn(
                f"{self._lost_weights()}. The model keeps the latest weights", stacklevel=2
            )

    def _lost_weights(self) -> str:
        return (
            "EarlyStopping(restore_best_weights): must have the weights of epoch "
            f"{self.best_epoch + 1}, got none: a training checkpoint does not keep them"
        )


class TerminateOnNaN(Callback):
    """Ends training when the loss is not a finite number.

    `fit` itself raises a NonFiniteLossError at such a batch, before callbacks see it and before the
    parameters change; this is for loops of training of one's own that call callbacks.
    """

    def __init__(self, raise_error: bool = False) -> None:
        """Makes the callback.

        Args:
            raise_error: Whether to raise a RuntimeError, instead of ending training in order.
        """
        self.raise_error = raise_error

    def on_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Looks at the loss.

        Raises:
            RuntimeError: It is not finite, and `raise_error` was asked for.
        """
        loss = (logs or {}).get("loss")
        if loss is None or math.isfinite(loss):
            return
        message = f"Batch {batch}: the loss must be finite, got {loss}. Training ends"
        if self.raise_error:
            raise RuntimeError(message)
        self.show(message)
        self.model.stop_training = True
