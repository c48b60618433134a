# SPDX-License-Identifier: Apache-2.0
"""Presets that are on this machine already: the folders of FUSEQ_PRESETS, and shipped ones."""

import os
from collections.abc import Iterable
from pathlib import Path

from fuseq.hub.catalog import presets

VARIABLE = "FUSEQ_PRESETS"


def preset_folders() -> tuple[Path, ...]:
    """The folders that the environment variable FUSEQ_PRESETS names, in its order.

    Returns:
        The folders, whether they are there or not.

    Raises:
        ValueError: A folder is below the home of a user who is not known.
    """
    written = os.environ.get(VARIABLE, "")
    return tuple(_expanded(part) for part in written.split(os.pathsep) if part)


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
        Whether it does; a folder that cannot be read does not.
    """
    return any(path.suffix == ".json" for path in _entries(folder))


def available() -> dict[str, Path]:
    """The presets by name in the folders of FUSEQ_PRESETS, and the shipped ones.

    They load without a network. Presets that were downloaded before are not listed: they lie in
    the caches of the hubs.

    Returns:
        The folders of the presets, by name: those right below the folders, and KerasHub's names
        also where their handle says, such as `keras/bart/keras/bart_base_en/3`. The first of a
        name counts, as in `locate`.

    Raises:
        ValueError: FUSEQ_PRESETS names the home of a user who is not known.

    Example:
        >>> "no_such_preset" in available()
        False
    """
    found: dict[str, Path] = {}
    for folder in (*preset_folders(), shipped_folder()):
        for path in _entries(folder):
            if is_preset(path):
                found.setdefault(path.name, path)
        for name, row in presets().items():
            if row.kaggle_handle is None:
                continue
            path = folder / row.kaggle_handle.removeprefix("kaggle://")
            if name not in found and is_preset(path):
                found[name] = path
    return found


def _entries(folder: Path) -> list[Path]:
    """What is right below a folder, sorted; nothing where it is not there or cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _expanded(part: str) -> Path:
    try:
        return Path(part).expanduser()
    except RuntimeError as error:
        raise ValueError(
            f'{VARIABLE}: must name folders of known users, got "{part}". Write the whole path'
        ) from error
