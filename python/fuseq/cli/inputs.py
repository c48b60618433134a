# SPDX-License-Identifier: Apache-2.0
"""Inputs of the command: lines of files and of standard input, read as they are needed."""

import codecs
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

from fuseq.cli.parser import UsageError

T = TypeVar("T")

_PLACE_IN_GROUP = re.compile(r"prompts\[([0-9]+)\]")  # as the engine counts


def read_lines(file: str) -> Iterator[tuple[str, str]]:
    """Lines of UTF-8 without their ends; "-" is standard input. A byte order mark is skipped.

    Args:
        file: A path, or "-".

    Yields:
        The name of a line, such as "standard input, line 3", and the line.

    Raises:
        OSError: The file cannot be read.
        ValueError: A line is not UTF-8.
    """
    if file == "-":
        yield from _decoded(_standard_input(), "standard input")
        return
    try:
        with Path(file).open("rb") as stream:
            yield from _decoded(stream, f'--file "{file}"')
    except OSError as error:
        raise _unreadable(file, error) from error


def check_files(files: Iterable[str]) -> None:
    """Says early, before a large model is loaded, that a file is not there.

    Raises:
        OSError: It is not there, or a folder.
    """
    for file in files:
        try:
            if file != "-" and Path(file).stat() and Path(file).is_dir():
                raise IsADirectoryError(21, "Is a directory")
        except OSError as error:
            raise _unreadable(file, error) from error


def reads_terminal() -> bool:
    """Whether standard input is a terminal, where someone waits for the answer to each line."""
    return sys.stdin is not None and sys.stdin.isatty()


def to_text(word: str, what: str) -> str:
    """A word of the command line as UTF-8, whatever the locale made of it.

    Raises:
        ValueError: It is not UTF-8.
    """
    try:
        try:
            written = os.fsencode(word)
        except UnicodeEncodeError:  # no word of the locale, but given by a Python program
            written = word.encode("utf-8")
        return written.decode("utf-8")
    except UnicodeError as error:
        raise ValueError(f"{what}: must be UTF-8, got {word!a}") from error


def groups(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cuts items into lists of `size`, the last one shorter, reading no further than it must.

    Where reading fails, what has been read comes first.
    """
    iterator = iter(items)
    while True:
        group: list[T] = []
        failure: Exception | None = None
        try:
            group.extend(islice(iterator, size))
        except Exception as error:
            failure = error
        if group:
            yield group
        if failure is not None:
            raise failure
        if not group:
            return


@contextmanager
def naming(places: Sequence[str]) -> Iterator[None]:
    """Where the engine tells an input by its place in its group, gives it its own name.

    Args:
        places: The names of the group's inputs.

    Raises:
        ValueError: What the engine refuses.
    """
    try:
        yield
    except ValueError as error:
        text = _PLACE_IN_GROUP.sub(lambda found: places[int(found[1])], str(error))
        if text == str(error):
            raise
        raise ValueError(text) from error


class PerInput(Generic[T]):
    """Values of an option that comes once for all inputs, or once for each."""

    def __init__(self, option: str, values: Sequence[T], count: int | None) -> None:
        """Checks as much as is known: `count` is None while inputs are still to be read."""
        self._option = option
        self._values = values
        self._taken = 0
        if count is not None and len(values) not in (1, count):
            raise self._error(f"{count} inputs")

    def take(self, count: int) -> list[T]:
        """The values of the next inputs.

        Raises:
            UsageError: There are fewer.
        """
        first = self._taken
        self._taken += count
        if len(self._values) == 1:
            return [*self._values] * count
        if self._taken > len(self._values):
            raise self._error("the inputs, which are more")
        return list(self._values[first : self._taken])

    def finish(self) -> None:
        """Checks that no value is left.

        Raises:
            UsageError: One is.
        """
        if len(self._values) > 1 and self._taken < len(self._values):
            raise self._error(f"{self._taken} inputs")

    def _error(self, inputs: str) -> UsageError:
        return UsageError(
            f"{self._option}: must come once, or once for each of {inputs}, got {len(self._values)}"
        )


def _standard_input() -> BinaryIO:
    if sys.stdin is None:
        raise OSError("standard input: must be open, got a closed one")
    return sys.stdin.buffer


def _decoded(stream: Iterable[bytes], what: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(stream, 1):
        start = len(codecs.BOM_UTF8) if number == 1 and line.startswith(codecs.BOM_UTF8) else 0
        if line.endswith(b"\n"):
            line = line[:-2] if line.endswith(b"\r\n") else line[:-1]
        try:
            text = line[start:].decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{what}, line {number}: must be UTF-8, got byte 0x{line[start + error.start]:02x} "
                f"at position {start + error.start + 1}"
            ) from error
        yield f"{what}, line {number}", text


def _unreadable(file: str, error: OSError) -> OSError:
    reason = error.strerror or str(error)
    return OSError(f'--file: must be a file that can be read, got "{file}": {reason}')
