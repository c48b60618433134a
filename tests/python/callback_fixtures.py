# SPDX-License-Identifier: Apache-2.0
"""A stand-in for a task as callbacks see it, and runs over made-up logs."""

from types import SimpleNamespace
from typing import Any

import numpy as np
from fuseq.callbacks import CallbackList


class Model:
    """A task as callbacks see it, which notes what it was asked for."""

    def __init__(self, is_main_process: bool = True) -> None:
        self.stop_training = False
        self.is_main_process = is_main_process
        self.optimizer = SimpleNamespace(learning_rate=0.01, iterations=0)
        self.weights = [np.zeros(2)]
        self.saved: list[tuple[str, str]] = []

    def get_weights(self) -> list[Any]:
        return [weight.copy() for weight in self.weights]

    def set_weights(self, weights: list[Any]) -> None:
        self.weights = weights

    def save_weights(self, path: str) -> None:
        self.saved.append(("weights", path))

    def save_to_preset(self, folder: str) -> None:
        self.saved.append(("preset", folder))


def run(callback: object, *values: float, name: str = "val_loss", model: Any = None) -> Any:
    """Epochs whose logs have one number; returns the model."""
    model = model or Model()
    listed = CallbackList(callback, model=model)
    listed.on_train_begin()
    for epoch, value in enumerate(values):
        listed.on_epoch_begin(epoch)
        listed.on_epoch_end(epoch, {name: value})
        if model.stop_training:
            break
    listed.on_train_end()
    return model
