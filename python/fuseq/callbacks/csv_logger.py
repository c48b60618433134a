# SPDX-License-Identifier: Apache-2.0
"""CSVLogger, which writes the logs of every epoch into a file."""

import csv
from collections.abc import Iterable, Mapping
from contextlib import suppress
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TextIO

from fuseq.callbacks.callback import Callback, Logs


class CSVLogger(Callback):
    """Writes one row an epoch, which is in the file when the epoch has ended.

    The columns are `epoch`, counted from 0, and the names of the first epoch's logs in alphabetical
    order; numbers of validation have columns even where the first epoch has none. A number that an
    epoch lacks is written as NA.

    A training checkpoint keeps how far the file was written: training that goes on from it keeps
    the rows up to there, whatever `append` is, and leaves out those of epochs that are trained
    again.

    Example:
        >>> CSVLogger("run.csv", append=True).filename
        'run.csv'
    """

    def __init__(
        self, filename: str | PathLike[str], separator: str = ",", append: bool = False
    ) -> None:
        """Makes the callback; the file is opened when an epoch has ended.

        Args:
            filename: The file.
            separator: One character between columns.
            append: Whether to go on with the rows of an existing file.
        """
        self.filename = fspath(filename)
        self.separator = separator
        self.append = append
        self._file: TextIO | None = None
        self._keys: list[str] | None = None
        self._size = 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Looks whether the file can be written.

        Raises:
            OSError: The system refused.
        """
        self._close()
        self._keys, self._size = None, 0
        if not self.writes_files:
            return
        path = Path(self.filename)
        path.open("a", encoding="utf-8").close()
        if self.append:
            self._size = path.stat().st_size

    def state_dict(self) -> dict[str, Any]:
        """What a training checkpoint keeps: plain JSON values."""
        return {"keys": self._keys, "size": self._size}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state_dict` returned; call it after `on_train_begin`, which resets."""
        self._close()
        self._keys, self._size = state["keys"], state["size"]

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Writes a row.

        Raises:
            OSError: The system refused; the message names the file.
        """
        if not self.writes_files:
            return
        logs = logs or {}
        file = self._file or self._open()
        rows: list[list[object]] = []
        if self._keys is None:
            self._keys = sorted(logs)
            if not any(name.startswith("val_") for name in logs):
                self._keys += [f"val_{name}" for name in self._keys]
        if self._size == 0:
            rows.append(["epoch", *self._keys])
        rows.append([epoch, *(_cell(logs.get(name, "NA")) for name in self._keys)])
        try:
            csv.writer(file, delimiter=self.separator).writerows(rows)
            file.flush()
            self._size = Path(self.filename).stat().st_size
        except OSError as error:
            self._close()
            raise OSError(error.errno, f"CSVLogger: {error.strerror}", self.filename) from error

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Closes the file."""
        self._close()

    def _open(self) -> TextIO:
        """Opens the file after its rows so far; what comes after them is of an earlier run."""
        path = Path(self.filename)
        self._file = file = path.open("a", encoding="utf-8", newline="")
        present = path.stat().st_size
        if present > self._size:
            file.truncate(self._size)
        self._size = min(self._size, present)
        return file

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):  # every row was flushed, or its error was raised
                file.close()


def _cell(value: object) -> object:
    is_text_or_scalar = isinstance(value, str) or getattr(value, "ndim", None) == 0
    if isinstance(value, Iterable) and not is_text_or_scalar:
        return f'"[{", ".join(map(str, value))}]"'
    return value
