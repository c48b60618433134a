# SPDX-License-Identifier: Apache-2.0
"""Folders of our own: `spec.json`, `model.safetensors` and, if there are any, generation settings.

The engine reads and writes them alone; C++ programs need no Python.
"""

from pathlib import Path

from fuseq._core import GenerationOptions, Model

SPEC_FILE = "spec.json"
GENERATION_FILE = "generation.json"


def load_model(folder: Path, *, dtype: str | None, num_threads: int | None, cpu_isa: str) -> Model:
    """Loads a folder of our own."""
    return Model.load(folder, dtype=dtype, num_threads=num_threads, cpu_isa=cpu_isa)


def load_generation_options(folder: Path) -> GenerationOptions | None:
    """The settings that the folder holds, or None."""
    path = folder / GENERATION_FILE
    if not path.is_file():
        return None
    try:
        return GenerationOptions.from_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f'load "{path}": {error}') from error


def save_generation_options(options: GenerationOptions, folder: Path) -> None:
    """Writes the settings beside a model that is there."""
    unfinished = folder / f"{GENERATION_FILE}.tmp"
    unfinished.write_text(options.to_json(), encoding="utf-8")
    unfinished.replace(folder / GENERATION_FILE)
