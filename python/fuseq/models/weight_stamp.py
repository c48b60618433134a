# SPDX-License-Identifier: Apache-2.0
"""Whether a folder still holds the weights that were read from it."""

from dataclasses import dataclass
from pathlib import Path

_ENDINGS = (".h5", ".safetensors", ".bin")


@dataclass(frozen=True)
class WeightStamp:
    """The files of weights of a folder, as they were.

    Attributes:
        folder: Its absolute path.
        files: Name, size in bytes and time of the last change in nanoseconds of each.
    """

    folder: Path
    files: tuple[tuple[str, int, int], ...]

    @classmethod
    def of(cls, folder: Path) -> "WeightStamp":
        """Takes the stamp of a folder."""
        return cls(folder.absolute(), _files(folder))

    def is_valid(self) -> bool:
        """Whether the files are as they were."""
        return bool(self.files) and self.files == _files(self.folder)


def _files(folder: Path) -> tuple[tuple[str, int, int], ...]:
    found = []
    try:
        for path in sorted(folder.iterdir()):
            if path.suffix in _ENDINGS:
                status = path.stat()
                found.append((path.name, status.st_size, status.st_mtime_ns))
    except OSError:
        return ()
    return tuple(found)
