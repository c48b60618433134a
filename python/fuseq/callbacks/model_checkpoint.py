# SPDX-License-Identifier: Apache-2.0
"""ModelCheckpoint, which saves the model while it is trained."""

from os import PathLike, fspath
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from fuseq.callbacks.callback import Logs
from fuseq.callbacks.monitor import MonitorCallback

_WEIGHTS_ENDINGS = (".weights.h5", ".safetensors")
_FILE_ENDINGS = (".keras", ".h5", ".safetensors")


class ModelCheckpoint(MonitorCallback):
    """Saves the model, or its weights, at the end of epochs or every so many batches.

    Without `save_weights_only` the path is that of a folder, a preset that `from_preset` reads;
    where Keras writes one `.keras` file. A training checkpoint keeps the best number.

    Attributes:
        best: The best number so far, or None.

    Example:
        >>> ModelCheckpoint("run/epoch{epoch:02d}", save_best_only=True).monitor
        'val_loss'
    """

    state_names: ClassVar = ("best", "batches_since_saving", "last_batch", "current_epoch")

    def __init__(
        self,
        filepath: str | PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
    ) -> None:
        """Makes the callback.

        Args:
            filepath: Where to save. May hold fields: `{epoch:02d}` and `{batch}`, counted from 1,
                and the numbers of the logs, `{val_loss:.2f}`. Missing folders are made.
            monitor: The name of the number.
            verbose: 1 to say what is saved.
            save_best_only: Whether to save only when the number is better than ever.
            save_weights_only: Whether to save the weights alone, in one file.
            mode: "min" or "max": what is better; "auto" tells it from the name.
            save_freq: "epoch", or the number of batches between savings.
            initial_value_threshold: What the number must beat at first, with save_best_only.

        Raises:
            ValueError: save_freq is of another kind, or the path does not fit what is saved.
        """
        super().__init__(monitor, mode, best=initial_value_threshold)
        self.filepath = fspath(filepath)
        self.verbose = verbose
        self.save_best_only = save_best_only
        self.save_weights_only = save_weights_only
        self.save_freq = save_freq
        self.batches_since_saving = 0
        self.last_batch: int | None = None
        self.current_epoch = 0
        if save_freq != "epoch" and not (isinstance(save_freq, int) and save_freq >= 1):
            raise ValueError(
                'ModelCheckpoint(save_freq): must be "epoch" or a positive number of batches, got '
                f"{save_freq!r}"
            )
        if save_weights_only and not self.filepath.endswith(_WEIGHTS_ENDINGS):
            raise ValueError(
                "ModelCheckpoint(filepath): must end in .weights.h5 or .safetensors with "
                f"save_weights_only=True, got {self.filepath!r}"
            )
        if not save_weights_only and self.filepath.endswith(_FILE_ENDINGS):
            raise ValueError(
                "ModelCheckpoint(filepath): must be a folder, as the whole model is saved as a "
                f"preset, got {self.filepath!r}. Leave the ending out, or pass "
                "save_weights_only=True with .weights.h5 or .safetensors"
            )

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Notes the epoch."""
        self.current_epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Saves after every `save_freq` batches.

        Raises:
            KeyError: The path names a number that the logs lack.
            OSError: The system refused to write.
        """
        if not isinstance(self.save_freq, int):
            return
        is_new_epoch = self.last_batch is None or batch <= self.last_batch
        self.batches_since_saving += batch + 1 if is_new_epoch else batch - (self.last_batch or 0)
        self.last_batch = batch
        if self.batches_since_saving >= self.save_freq:
            self.batches_since_saving = 0
            self._save_if_wanted(self.current_epoch, {"batch": batch + 1, **(logs or {})})

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Saves if save_freq is "epoch".

        Raises:
            KeyError: The path names a number that the logs lack.
            OSError: The system refused to write.
            ValueError: The mode is "auto" and the name does not tell what is better.
        """
        if self.save_freq == "epoch":
            self._save_if_wanted(epoch, logs or {})

    def _save_if_wanted(self, epoch: int, logs: Logs) -> None:
        path = self._path(epoch, logs)
        if not self._is_wanted(epoch, logs, path):
            return
        if self.writes_files:
            self._save(path)
        if self.verbose > 0:
            self.show(f"Epoch {epoch + 1}: saved to {path}")

    def _path(self, epoch: int, logs: Logs) -> str:
        fields = {"epoch": epoch + 1, **logs}
        try:
            return self.filepath.format(**fields)
        except KeyError as error:
            raise KeyError(
                f"ModelCheckpoint(filepath): must name numbers of the logs, got {self.filepath!r} "
                f"with {error}. Available are {', '.join(fields)}"
            ) from error

    def _is_wanted(self, epoch: int, logs: Logs, path: str) -> bool:
        if not self.save_best_only:
            return True
        value: Any = logs.get(self.monitor)
        if value is None or np.ndim(value) > 0:
            self.warn_absent("Saved as without save_best_only", logs)
            return True
        before = "none" if self.best is None else f"{self.best:.5f}"
        is_better = self.is_improvement(value, self.best)
        if self.verbose > 0:
            change = (
                f"improved from {before} to {value:.5f}"
                if is_better
                else (f"did not improve from {before}")
            )
            self.show(f"Epoch {epoch + 1}: {self.monitor} {change}")
        if is_better:
            self.best = value
        return is_better

    def _save(self, path: str) -> None:
        if self.save_weights_only and Path(path).is_dir():
            raise IsADirectoryError(
                f"ModelCheckpoint(filepath): must be a file, got the folder {path!r}"
            )
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        if self.save_weights_only:
            self.model.save_weights(path)
        else:
            self.model.save_to_preset(path)
