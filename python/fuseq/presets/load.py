# SPDX-License-Identifier: Apache-2.0
"""Recognises what a folder holds and loads it."""

from collections.abc import Mapping
from copy import copy
from os import PathLike
from pathlib import Path
from typing import Any

from fuseq._core import GenerationOptions, Model
from fuseq.presets import generation_config, native_format, transformers_format
from fuseq.presets.family import Family


def load_model(
    folder: str | PathLike[str],
    families: Mapping[str, Family],
    *,
    dtype: str | None = None,
    num_threads: int | None = None,
    cpu_isa: str = "automatic",
) -> Model:
    """Loads our own folder if it has a `spec.json`, else a transformers folder.

    Args:
        folder: Holds the files.
        families: The known families by their word in `config.json`.
        dtype: "float32", "bfloat16" or None.
        num_threads: Threads, or None for those of the machine.
        cpu_isa: "automatic", "avx512", "avx2" or "portable".

    Returns:
        The model, its weights packed.

    Raises:
        FileNotFoundError: The folder is not there or holds neither file.
        ValueError: A file is not what it should be.
    """
    path = Path(folder)
    if (path / native_format.SPEC_FILE).is_file():
        return native_format.load_model(path, dtype=dtype, num_threads=num_threads, cpu_isa=cpu_isa)
    if (path / transformers_format.CONFIG_FILE).is_file():
        return transformers_format.load_model(
            path, families, dtype=dtype, num_threads=num_threads, cpu_isa=cpu_isa
        )
    raise _neither(path)


def load_generation_options(
    folder: str | PathLike[str], *, is_seq2seq: bool | None = None
) -> GenerationOptions | None:
    """Reads the generation settings that a folder holds.

    Args:
        folder: A folder of ours (`generation.json`) or of transformers (`generation_config.json`,
            or the settings in `config.json`; then as its `generate` takes them).
        is_seq2seq: Whether the model has an encoder; None: what `config.json` says.

    Returns:
        The options, or None where the folder holds no settings.

    Raises:
        FileNotFoundError: The folder holds no model.
        ValueError: A setting is wrong, or one that we do not have is not at its default.
    """
    path = Path(folder)
    if (path / native_format.SPEC_FILE).is_file():
        return native_format.load_generation_options(path)
    if (path / transformers_format.CONFIG_FILE).is_file():
        fields = generation_config.read_generation_config(path, is_seq2seq=is_seq2seq)
        return None if fields is None else GenerationOptions(**fields)
    raise _neither(path)


def merge_options(base: GenerationOptions | None, fields: Mapping[str, Any]) -> GenerationOptions:
    """Settings with some fields given anew.

    Args:
        base: Left as it is; None: the defaults.
        fields: New values by name; None stands for a field that is not given. A length in rows and
            one in new tokens exclude each other: the one given here wins.

    Returns:
        New options.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    options = copy(base) if base is not None else GenerationOptions()
    for one, other in (("max_length", "max_new_tokens"), ("max_new_tokens", "max_length")):
        if one in given and other not in given:
            setattr(options, other, None)
    for name, value in given.items():
        setattr(options, name, value)
    return options


def _neither(path: Path) -> FileNotFoundError:
    found = "no such folder" if not path.is_dir() else "neither"
    return FileNotFoundError(
        f'load "{path}": the folder must hold {native_format.SPEC_FILE} (ours) or '
        f"{transformers_format.CONFIG_FILE} (transformers), got {found}"
    )
