# SPDX-License-Identifier: Apache-2.0
"""Recognises what a folder holds and loads it."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path

from fuseq._core import Model
from fuseq.presets import native_format, transformers_format
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
    found = "no such folder" if not path.is_dir() else "neither"
    raise FileNotFoundError(
        f'load "{path}": the folder must hold {native_format.SPEC_FILE} (ours) or '
        f"{transformers_format.CONFIG_FILE} (transformers), got {found}"
    )
