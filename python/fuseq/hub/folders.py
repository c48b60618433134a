# SPDX-License-Identifier: Apache-2.0
"""Presets that are on this machine already: the folders of FUSEQ_PRESETS, and shipped ones."""

import os
from collections.abc import Iterable
from pathlib import Path

VARIABLE = "FUSEQ_PRESETS"


def preset_folders() -> tuple[Path, ...]:
    """The folders that the environment variable FUSEQ_PRESETS names, in its order.

    Returns:
        The folders, whether they are there or not.
    """
    written = os.environ.get(VARIABLE, "")
    return tuple(Path(part).expanduser() for part in written.split(os.pathsep) if part)


def shipped_folder() -> Path:
    """The folder of the presets that come with the package.

    Returns:
        The folder, whether it is there or not.
    """
    return Path(__file__).parent.parent / "shipped"


def find(sub_paths: Iterable[str], folders: Iterable[Path]) -> Path | None:
    """The first preset at one of the sub-paths below one of the folders.

    Args:
        sub_paths: In order of preference within a folder.
        folders: In order of preference.

    Returns:
        The preset's folder, or None.
    """
    names = tuple(sub_paths)
    for folder in folders:
        for name in names:
            if is_preset(folder / name):
                return folder / name
    return None


def is_preset(folder: Path) -> bool:
    """Whether a folder holds a preset: every format has a JSON file at its top.

    Args:
        folder: Need not be there.

    Returns:
        Whether it does.
    """
    return folder.is_dir() and any(path.suffix == ".json" for path in folder.iterdir())


def available() -> dict[str, Path]:
    """The presets that load by name without a network.

    Returns:
        The folders of the presets right below the folders of FUSEQ_PRESETS, then of the shipped
        ones, by name; the first of a name counts, as in `locate`.

    Example:
        >>> "no_such_preset" in available()
        False
    """
    found: dict[str, Path] = {}
    for folder in (*preset_folders(), shipped_folder()):
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if is_preset(path):
                found.setdefault(path.name, path)
    return found
