# SPDX-License-Identifier: Apache-2.0
"""History, which `fit` returns."""

from fuseq.callbacks.callback import Callback, Logs


class History(Callback):
    """Keeps the logs of every epoch.

    Attributes:
        history: A list, one number an epoch, by the name of the loss or metric.
        epoch: The epochs of the latest `fit`, counted from 0.

    Example:
        >>> history = History()
        >>> history.on_train_begin()
        >>> history.on_epoch_end(0, {"loss": 0.5})
        >>> history.history
        {'loss': [0.5]}
    """

    def __init__(self) -> None:
        """Makes an empty history."""
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Counts epochs anew; `history` goes on."""
        self.epoch = []

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Appends the logs, and becomes `model.history`."""
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)
        if self._model is not None:
            self._model.history = self
