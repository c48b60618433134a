# SPDX-License-Identifier: Apache-2.0
"""A file that HDF5 can write to when the disk is full.

The HDF5 library goes on with freed memory after it could not write a file (seen with 1.14: the
process crashes some time later). So it never sees an error: what the system refuses to write is
kept in memory until the file is closed, and the error is raised then by us.
"""

from pathlib import Path
from types import TracebackType


class Sink:
    """A file opened for writing, for h5py's driver of Python files.

    Args:
        path: Written anew.

    Raises:
        OSError: The file cannot be opened; or, from `check`, could not be written.
    """

    def __init__(self, path: Path) -> None:
        """Opens the file."""
        self._file = path.open("w+b", buffering=0)
        self._error: OSError | None = None
        self._kept: list[tuple[int, bytes]] = []  # what could not be written, by its place
        self._place = 0

    def check(self) -> None:
        """Raises the first error of the system."""
        if self._error is not None:
            raise self._error

    def seek(self, place: int, whence: int = 0) -> int:
        """Moves to a place, as files do."""
        starts = (0, self._place, self._size())
        self._place = starts[whence] + place
        return self._place

    def tell(self) -> int:
        """The place of the next byte."""
        return self._place

    def write(self, data: memoryview | bytes) -> int:
        """Writes bytes, or keeps them."""
        view = memoryview(data).cast("B")
        written = 0
        while written < len(view) and self._error is None:
            try:
                self._file.seek(self._place + written)
                written += self._file.write(view[written:]) or 0
            except OSError as error:
                self._error = error
        if written < len(view):
            self._kept.append((self._place + written, bytes(view[written:])))
        self._place += len(view)
        return len(view)

    def readinto(self, buffer: memoryview) -> int:
        """Reads bytes that were written or kept; zeros between them."""
        view = memoryview(buffer).cast("B")
        self._file.seek(self._place)
        count = self._file.readinto(view) or 0
        view[count:] = bytes(len(view) - count)
        for place, data in self._kept:
            first = max(place, self._place)
            end = min(place + len(data), self._place + len(view))
            if first < end:
                view[first - self._place : end - self._place] = data[first - place : end - place]
        self._place += len(view)
        return len(view)

    def read(self, size: int) -> bytes:
        """As `readinto`."""
        buffer = bytearray(size)
        self.readinto(memoryview(buffer))
        return bytes(buffer)

    def truncate(self, size: int | None = None) -> int:
        """Sets the file's size."""
        wanted = self._place if size is None else size
        if self._error is None:
            try:
                self._file.truncate(wanted)
            except OSError as error:
                self._error = error
        return wanted

    def flush(self) -> None:
        """Nothing is waiting: the file has no buffer."""

    def __enter__(self) -> "Sink":
        """The file itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the file; raises what could not be written, if nothing else is raised."""
        self._file.close()
        if error is None:
            self.check()

    def _size(self) -> int:
        kept = max((place + len(data) for place, data in self._kept), default=0)
        return max(self._file.seek(0, 2), kept)
