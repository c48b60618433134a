# SPDX-License-Identifier: Apache-2.0
"""CSVLogger, which writes the logs of every epoch into a file."""

import csv
from collections.abc import Iterable
from contextlib import suppress
from os import PathLike, fspath
from pathlib import Path
from typing import TextIO

from fuseq.callbacks.callback import Callback, Logs


class CSVLogger(Callback):
    """Writes one row an epoch, which is in the file when the epoch has ended.

    The columns are `epoch`, counted from 0, and the names of the first epoch's logs in alphabetical
    order; numbers of validation have columns even where the first epoch has none. A number that an
    epoch lacks is written as NA.

    Example:
        >>> CSVLogger("run.csv", append=True).filename
        'run.csv'
    """

    def __init__(
        self, filename: str | PathLike[str], separator: str = ",", append: bool = False
    ) -> None:
        """Makes the callback; the file is opened when training begins.

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
        self._has_header = False

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Opens the file.

        Raises:
            OSError: The system refused.
        """
        self._close()
        if not self.writes_files:
            return
        path = Path(self.filename)
        self._has_header = False
        if self.append and path.exists():
            with path.open(encoding="utf-8") as file:
                self._has_header = bool(file.readline())
        self._file = path.open("a" if self.append else "w", encoding="utf-8", newline="")
        self._keys = None

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Writes a row.

        Raises:
            OSError: The system refused; the message names the file.
        """
        if self._file is None:
            return
        logs = logs or {}
        rows: list[list[object]] = []
        if self._keys is None:
            self._keys = sorted(logs)
            if not any(name.startswith("val_") for name in logs):
                self._keys += [f"val_{name}" for name in self._keys]
            if not self._has_header:
                rows.append(["epoch", *self._keys])
        rows.append([epoch, *(_cell(logs.get(name, "NA")) for name in self._keys)])
        try:
            csv.writer(self._file, delimiter=self.separator).writerows(rows)
            self._file.flush()
        except OSError as error:
            self._close()
            raise OSError(error.errno, f"CSVLogger: {error.strerror}", self.filename) from error

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Closes the file."""
        self._close()

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
