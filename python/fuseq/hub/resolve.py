# SPDX-License-Identifier: Apache-2.0
"""Finds the folder of a preset, and downloads it where it has to."""

import os
from difflib import get_close_matches
from os import PathLike
from pathlib import Path

from fuseq.hub import folders, hugging_face, kaggle
from fuseq.hub.catalog import FAMILY_TITLES, family_not_here, presets
from fuseq.hub.handles import KINDS, Handle, KaggleHandle, parse_handle

_OWNERS_OF_KNOWN_NAMES = ("keras", "google")


def locate(preset: str | PathLike[str]) -> Path:
    """The folder of a preset, with all its files.

    A folder given as a path (a path object, or a string that has a separator or begins with "."
    or "~") is that folder. A name is looked for in this order: the folders of the environment
    variable FUSEQ_PRESETS, a folder of that name right here (for a built-in name only if it holds
    a preset), the presets that come with the package, KerasHub's names. A handle is looked for in
    the folders of FUSEQ_PRESETS, then at its hub.

    FUSEQ_PRESETS lists folders, with `os.pathsep` (":") between. Below each of them

    - a name is looked for as `<name>`, and KerasHub's also by their handle;
    - `kaggle://keras/bart/keras/bart_base_en/3` as `keras/bart/keras/bart_base_en/3`, then as
      `bart_base_en`;
    - `hf://org/name` as `org/name`, and `hf://org/name@revision` as `org/name@revision` only.

    Args:
        preset: A folder, a name such as "bart_base_en",
            `kaggle://org/model/framework/variant[/version]` or `hf://[org/]name[@revision]`.

    Returns:
        The folder. Downloaded ones lie in the caches of kagglehub and huggingface_hub.

    Raises:
        TypeError: The preset is neither a string nor a path.
        ValueError: There is no such name, or the handle is malformed or of another kind.
        FileNotFoundError: The folder, or what the handle names, is not there.
        NotADirectoryError: The path is that of a file.
        PermissionError: The hub wants you to log in, or to accept the model's terms.
        ConnectionError: The hub is not reached or in trouble, or the download broke off.
        ImportError: kagglehub or huggingface_hub is missing.

    Example:
        >>> locate(".")
        PosixPath('.')
    """
    if isinstance(preset, PathLike):
        return _existing(Path(preset), preset)
    if not isinstance(preset, str):
        raise TypeError(f"preset: must be {KINDS}, got {type(preset).__name__}")
    if "://" in preset:
        return _from_handle(parse_handle(preset))
    if preset.startswith((".", "~")) or any(mark in preset for mark in ("/", "\\", os.sep)):
        return _existing(_at_home(preset), preset)
    return _from_name(preset)


def _at_home(preset: str) -> Path:
    try:
        return Path(preset).expanduser()
    except RuntimeError as error:
        raise FileNotFoundError(
            f'preset "{preset}": must be a folder that exists, got the home of an unknown user'
        ) from error


def _existing(folder: Path, preset: str | PathLike[str]) -> Path:
    """The folder itself."""
    try:
        if folder.is_dir():
            return folder
        if folder.exists():
            raise NotADirectoryError(f'preset "{preset}": must be a folder, got a file')
    except (FileNotFoundError, PermissionError) as error:
        raise type(error)(
            f'preset "{preset}": must be a folder that can be read, got: {error.strerror}'
        ) from error
    except OSError as error:
        if error.errno is None:
            raise
        raise FileNotFoundError(
            f'preset "{preset}": must be a folder that exists, got: {error.strerror}'
        ) from error
    written = os.fspath(preset)
    hint = ""
    if written.count("/") == 1 and not written.startswith((".", "~", "/")):
        hint = f' If you mean Hugging Face, say "hf://{written}".'
    raise FileNotFoundError(f'preset "{preset}": must be a folder that exists, got none.{hint}')


def _from_handle(handle: Handle) -> Path:
    """A handle's folder: in FUSEQ_PRESETS, else at its hub."""
    found = folders.find(handle.sub_paths, folders.preset_folders())
    if found is not None:
        return found
    if isinstance(handle, KaggleHandle):
        if handle.org in _OWNERS_OF_KNOWN_NAMES:
            _refuse_families_not_here(handle.variant, str(handle))
        return kaggle.download(handle)
    return hugging_face.download(handle)


def _from_name(name: str) -> Path:
    """A name's folder: in FUSEQ_PRESETS, here, shipped, else that of KerasHub's handle."""
    row = presets().get(name)
    written = row.kaggle_handle if row is not None else None
    handle = parse_handle(written) if written is not None else None
    sub_paths = [name, *(handle.sub_paths if handle is not None else ())] if name else []
    found = folders.find(sub_paths, folders.preset_folders())
    is_here = bool(name) and _is_folder(Path(name))
    if found is None and is_here and (row is None or folders.is_preset(Path(name))):
        found = Path(name)
    if found is None:
        found = folders.find(sub_paths, [folders.shipped_folder()])
    if found is not None:
        return found
    if handle is not None:
        return _from_handle(handle)
    if row is not None:
        raise FileNotFoundError(
            f'preset "{name}": must lie in the package, got none in {folders.shipped_folder()}. '
            "Install fuseq again"
        )
    _refuse_families_not_here(name, name)
    raise _unknown(name)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # such as a name that is too long
        return False


def _refuse_families_not_here(name: str, preset: str) -> None:
    family = family_not_here(name)
    if family is not None:
        raise ValueError(
            f'preset "{preset}": must be of a family that this library has '
            f"({', '.join(FAMILY_TITLES.values())}), got one of {family}. "
            f"Choose one of {', '.join(presets())}"
        )


def _unknown(name: str) -> ValueError:
    """Says what one can give, and what may have been meant."""
    known = sorted({*presets(), *folders.available()})
    close = get_close_matches(name, known, n=3, cutoff=0.6)
    meant = f"Did you mean {' or '.join(close)}?" if close else f"Names are {', '.join(known)}."
    looked = os.pathsep.join(str(folder) for folder in folders.preset_folders())
    where = f"{folders.VARIABLE} is {looked}" if looked else f"{folders.VARIABLE} names no folder"
    return ValueError(f'preset "{name}": must be {KINDS}, got no known name. {meant} {where}.')
