# SPDX-License-Identifier: Apache-2.0
"""Callback, whose methods `fit`, `evaluate` and `predict` call while they run."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

Logs = dict[str, Any]

BATCH_HOOKS = tuple(
    f"on_{part}batch_{end}"
    for part in ("", "train_", "test_", "predict_")
    for end in ("begin", "end")
)
HOOKS = (
    "on_epoch_begin",
    "on_epoch_end",
    *(f"on_{part}_{end}" for part in ("train", "test", "predict") for end in ("begin", "end")),
    *BATCH_HOOKS,
)


class Callback:
    """Hooks that do nothing: override those you need.

    `logs` holds the loss and the metrics by name, as floats; names of validation begin with
    `val_`. Epochs and batches count from 0. To end training set `self.model.stop_training = True`.

    Attributes:
        params: What the run was asked for: `verbose`, `epochs`, `steps`.

    Example:
        >>> class PrintLoss(Callback):
        ...     def on_epoch_end(self, epoch, logs=None):
        ...         print(epoch, logs["loss"])
        >>> PrintLoss().on_epoch_end(0, {"loss": 0.5})
        0 0.5
    """

    params: Mapping[str, Any] | None = None
    _model: Any = None

    @property
    def model(self) -> Any:  # noqa: ANN401
        """The task that is trained."""
        return self._model

    @property
    def writes_files(self) -> bool:
        """Whether this process writes files and messages: with many processes only the main one."""
        return bool(getattr(self._model, "is_main_process", True))

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled and copied: everything but the task."""
        return {name: value for name, value in self.__dict__.items() if name != "_model"}

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Receives what the run was asked for."""
        self.params = params

    def set_model(self, model: Any) -> None:  # noqa: ANN401
        """Receives the task that is trained."""
        self._model = model

    def show(self, message: str) -> None:
        """Writes a line to standard error, beside a progress bar if there is one."""
        from tqdm.auto import tqdm

        if self.writes_files:
            tqdm.write(message, file=sys.stderr)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Called when an epoch of training begins."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Called when an epoch ends, after its validation."""

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Called when `fit` begins."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Called when `fit` ends."""

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Called when `evaluate`, or the validation of an epoch, begins."""

    def on_test_end(self, logs: Logs | None = None) -> None:
        """Called when `evaluate`, or the validation of an epoch, ends."""

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Called when `predict` begins."""

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """Called when `predict` ends."""

    def on_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """An older name of `on_train_batch_begin`, which calls it."""

    def on_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """An older name of `on_train_batch_end`, which calls it."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Called before a batch of training."""
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Called after a batch of training, with means over the epoch so far."""
        self.on_batch_end(batch, logs)

    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Called before a batch of `evaluate` or of validation."""

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Called after a batch of `evaluate` or of validation."""

    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Called before a batch of `predict`."""

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Called after a batch of `predict`."""


class LambdaCallback(Callback):
    """A callback made of functions: `(epoch, logs)`, `(batch, logs)` or `(logs)`.

    Example:
        >>> seen = []
        >>> callback = LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
        >>> callback.on_epoch_end(3, {})
        >>> seen
        [3]
    """

    def __init__(
        self,
        on_epoch_begin: Callable[..., Any] | None = None,
        on_epoch_end: Callable[..., Any] | None = None,
        on_train_begin: Callable[..., Any] | None = None,
        on_train_end: Callable[..., Any] | None = None,
        on_train_batch_begin: Callable[..., Any] | None = None,
        on_train_batch_end: Callable[..., Any] | None = None,
        **others: Callable[..., Any],
    ) -> None:
        """Makes the callback.

        Args:
            on_epoch_begin: Called when an epoch begins.
            on_epoch_end: Called when an epoch ends.
            on_train_begin: Called when `fit` begins.
            on_train_end: Called when `fit` ends.
            on_train_batch_begin: Called before a batch of training.
            on_train_batch_end: Called after a batch of training.
            **others: The other hooks, such as `on_test_end`.

        Raises:
            TypeError: There is no such hook.
        """
        unknown = sorted(set(others) - set(HOOKS))
        if unknown:
            raise TypeError(
                f"LambdaCallback: must be given hooks, got {', '.join(unknown)}. "
                f"There are {', '.join(HOOKS)}"
            )
        named = {
            "on_epoch_begin": on_epoch_begin,
            "on_epoch_end": on_epoch_end,
            "on_train_begin": on_train_begin,
            "on_train_end": on_train_end,
            "on_train_batch_begin": on_train_batch_begin,
            "on_train_batch_end": on_train_batch_end,
            **others,
        }
        for hook, function in named.items():
            if function is not None:
                setattr(self, hook, function)
