# SPDX-License-Identifier: Apache-2.0
"""Finds the tokenizer that a folder holds, and writes one into a folder."""

import inspect
import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

from fuseq.tokenizers import transformers_folder
from fuseq.tokenizers.byte_pair import BytePairTokenizer
from fuseq.tokenizers.files import read_json, write_file
from fuseq.tokenizers.pretrained import PretrainedTokenizer
from fuseq.tokenizers.sentence_piece import SentencePieceTokenizer
from fuseq.tokenizers.serialization import find_class, read_settings, serialize
from fuseq.tokenizers.settings import check_config_file
from fuseq.tokenizers.tokenizer import ASSET_FOLDER, CONFIG_FILE, Tokenizer

T = TypeVar("T", bound=Tokenizer)


def load(
    folder: str | PathLike[str],
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
        TypeError: The class has no such setting.
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
        TypeError: The class has no such setting.
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
    tokenizer.save_assets(folder / asset_path(tokenizer.config_file))
    write_file(folder / tokenizer.config_file, json.dumps(serialize(tokenizer), indent=4))


def asset_path(config_file: str) -> Path:
    """Where the files of a tokenizer lie in its folder.

    Args:
        config_file: The file of its settings.

    Returns:
        A path below the folder: `assets/tokenizer`, as a rule.

    Raises:
        ValueError: It is not the name of a file.
    """
    return Path(ASSET_FOLDER, check_config_file(config_file).split(".")[0])


def _load(
    folder: Path,
    wanted: type[Tokenizer],
    config_file: str,
    custom_objects: Mapping[str, type[Tokenizer]],
    settings: Mapping[str, Any],
) -> Tokenizer | None:
    if not folder.is_dir():
        raise FileNotFoundError(f'load "{folder}": must be a folder, got no such folder')
    path = folder / check_config_file(config_file)
    written = read_json(path) if path.is_file() else {}
    if "registered_name" in written:
        try:
            kind = _narrow(folder, wanted, find_class(written, custom_objects))
            config = _without_paths(kind, read_settings(written))
        except ValueError as error:
            raise ValueError(f'"{path}": {error}') from error
        if "config_file" in config:
            config["config_file"] = config_file
        found = _make(kind, config, settings, path)
        if "config_file" not in settings:
            found.config_file = config_file
        assets = folder / asset_path(config_file)
        try:
            found.load_assets(assets)
        except ValueError as error:
            raise _with_name(error, assets) from error
        return found
    source = transformers_folder.read(folder)
    if source is None and path.is_file():
        raise ValueError(
            f'"{path}": must have a registered_name, as KerasHub writes it, or be the definition '
            "of a tokenizer, got neither"
        )
    if source is None:
        return None
    return _make(_narrow(folder, wanted, source.kind), source.settings, settings, folder)


def _make(
    kind: type[Tokenizer], config: Mapping[str, Any], settings: Mapping[str, Any], source: Path
) -> Tokenizer:
    """Makes a tokenizer; an error names the file, unless the caller's settings are wrong."""
    _check_names(kind, settings)
    try:
        return kind.from_config({**config, **settings})
    except (TypeError, ValueError) as error:
        if settings and _can_make(kind, config):
            raise
        if isinstance(error, ValueError):
            raise _with_name(error, source) from error
        raise ValueError(
            f'"{source}": must be settings of {kind.__name__}, got {sorted(config)} ({error})'
        ) from error


def _can_make(kind: type[Tokenizer], config: Mapping[str, Any]) -> bool:
    try:
        kind.from_config(config)
    except (TypeError, ValueError):
        return False
    return True


def _check_names(kind: type[Tokenizer], settings: Mapping[str, Any]) -> None:
    """Raises for settings that a class does not have."""
    parameters = inspect.signature(kind).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return  # the class itself raises
    unknown = [name for name in settings if name not in parameters]
    if unknown:
        raise TypeError(
            f"from_preset: must be settings of {kind.__name__}, got {', '.join(unknown)}. "
            f"It has {', '.join(parameters)}"
        )


def _without_paths(kind: type[Tokenizer], config: dict[str, Any]) -> dict[str, Any]:
    """Without paths of files that lie elsewhere: the files of a tokenizer are its assets."""
    if not issubclass(kind, BytePairTokenizer | PretrainedTokenizer | SentencePieceTokenizer):
        return config
    names = ("vocabulary", "merges", "definition", "proto")
    return {
        name: None if name in names and isinstance(value, str) else value
        for name, value in config.items()
    }


def _with_name(error: ValueError, path: Path) -> ValueError:
    """The error, with the file's name if it has none yet."""
    message = str(error)
    return ValueError(message if str(path) in message else f'"{path}": {message}')


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
