# SPDX-License-Identifier: Apache-2.0
"""Finds the tokenizer that a folder holds, and writes one into a folder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from fuseq.tokenizers import transformers_folder
from fuseq.tokenizers.files import read_json, write_file
from fuseq.tokenizers.serialization import deserialize, find_class, serialize
from fuseq.tokenizers.tokenizer import ASSET_FOLDER, CONFIG_FILE, Tokenizer

T = TypeVar("T", bound=Tokenizer)

_OWN = "fuseq"  # beside KerasHub's keys, where KerasHub does not look


def load(
    folder: Path,
    *,
    config_file: str = CONFIG_FILE,
    custom_objects: Mapping[str, type[Tokenizer]] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Tokenizer | None:
    """Loads the tokenizer of a folder of ours, of KerasHub or of transformers.

    Args:
        folder: The folder.
        config_file: The file of the settings, in a folder of ours or of KerasHub.
        custom_objects: Your own classes by their names.
        settings: Settings that take the place of the folder's.

    Returns:
        The tokenizer; None where the folder holds none.

    Raises:
        FileNotFoundError: There is no such folder, or a file that belongs to another is missing.
        ValueError: A file is not what it should be, or of a class that we do not have.
    """
    return _load(Path(folder), Tokenizer, config_file, custom_objects or {}, settings or {})


def load_as(
    kind: type[T],
    folder: Path,
    *,
    config_file: str = CONFIG_FILE,
    settings: Mapping[str, Any] | None = None,
) -> T:
    """Loads the tokenizer of a folder, which must be of one class or of a class below it.

    Args:
        kind: The class; where it lies below the folder's class, it is the one that is made.
        folder: The folder.
        config_file: The file of the settings.
        settings: Settings that take the place of the folder's.

    Returns:
        The tokenizer.

    Raises:
        FileNotFoundError: There is no such folder, or it holds no tokenizer.
        ValueError: The folder's tokenizer is of another class, or a file is wrong.
    """
    custom = {kind.__name__: kind}
    found = _load(Path(folder), kind, config_file, custom, settings or {})
    if found is None:
        raise FileNotFoundError(
            f'from_preset "{folder}": must hold the files of a tokenizer, got none'
        )
    if not isinstance(found, kind):
        raise _other_class(folder, kind, type(found))
    return found


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Writes a tokenizer's settings and files as KerasHub does.

    Args:
        tokenizer: The tokenizer.
        folder: Made if need be.

    Raises:
        ValueError: The tokenizer has no vocabulary yet.
    """
    tokenizer.save_assets(_asset_folder(folder, tokenizer.config_file))
    written, own = serialize(tokenizer), tokenizer.get_own_config()
    if own:
        written[_OWN] = own
    write_file(folder / tokenizer.config_file, json.dumps(written, indent=4))


def _load(
    folder: Path,
    wanted: type[Tokenizer],
    config_file: str,
    custom_objects: Mapping[str, type[Tokenizer]],
    settings: Mapping[str, Any],
) -> Tokenizer | None:
    if not folder.is_dir():
        raise FileNotFoundError(f'load "{folder}": must be a folder, got no such folder')
    path = folder / config_file
    written = read_json(path) if path.is_file() else {}
    if "registered_name" in written:
        try:
            kind = _narrow(folder, wanted, find_class(written, custom_objects))
            config = {**(written.get("config") or {}), **(written.get(_OWN) or {}), **settings}
            found = deserialize(
                {"class_name": kind.__name__, "config": config}, {kind.__name__: kind}
            )
        except ValueError as error:
            raise ValueError(f'"{path}": {error}') from error
        found.load_assets(_asset_folder(folder, config_file))
        return found
    source = transformers_folder.read(folder)
    if source is None:
        return None
    return _narrow(folder, wanted, source.kind)(**{**source.settings, **settings})


def _asset_folder(folder: Path, config_file: str) -> Path:
    return folder / ASSET_FOLDER / config_file.split(".")[0]


def _narrow(folder: Path, wanted: type[Tokenizer], found: type[Tokenizer]) -> type[Tokenizer]:
    """The lower one of two classes."""
    if issubclass(found, wanted):
        return found
    if issubclass(wanted, found):
        return wanted
    raise _other_class(folder, wanted, found)


def _other_class(folder: Path, wanted: type[Tokenizer], found: type[Tokenizer]) -> ValueError:
    return ValueError(
        f'Unable to find a subclass of {wanted.__name__} in "{folder}": '
        f"its tokenizer must be one, got {found.__name__}"
    )
