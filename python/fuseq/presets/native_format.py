# SPDX-License-Identifier: Apache-2.0
"""Folders of our own: `spec.json`, `model.safetensors` and, if there are any, generation settings.

The engine reads and writes them alone; C++ programs need no Python.
"""

import json
from pathlib import Path
from typing import Literal

from fuseq import _core
from fuseq._core import GenerationOptions, Model
from fuseq.presets.checkpoint import SAFETENSORS_FILE, read_json
from fuseq.presets.family import Spec
from fuseq.presets.preset_files import whole_file

SPEC_FILE = "spec.json"
GENERATION_FILE = "generation.json"
TASK_FILE = "task.json"
_INT8_MARK = "int8_panels"  # in the metadata of the file of weights: matrices as int8 packs them


def read_spec(folder: Path) -> Spec:
    """The whole spec, every field given."""
    path = folder / SPEC_FILE
    try:
        spec: Spec = json.loads(_core.validate_spec(path.read_text(encoding="utf-8")))
    except ValueError as error:  # UnicodeDecodeError is one
        raise ValueError(f'load "{path}": {error}') from error
    return spec


def read_dtype(folder: Path) -> str | None:
    """Reads the dtype in which the engine keeps the matrices if nothing else is asked for.

    Args:
        folder: The preset.

    Returns:
        "float32", "bfloat16", "int8", or None where there is no file of weights.

    Raises:
        FileNotFoundError: There is no spec.
        ValueError: A file is not what it should be.
    """
    path = folder / SAFETENSORS_FILE
    if not path.is_file():
        return None
    file = _core.SafeTensorsFile(path)
    if _INT8_MARK in file.metadata:
        return "int8"
    found = file.tensors()
    table = _core.weight_table(json.dumps(read_spec(folder)))
    dtypes = {found[name].dtype for name, _, is_matrix in table if is_matrix and name in found}
    return "bfloat16" if dtypes == {"bfloat16"} else "float32"


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
    with whole_file(folder / GENERATION_FILE, "save") as unfinished:
        unfinished.write_text(options.to_json(), encoding="utf-8")


def write_token_ids(folder: Path, token_ids: Spec) -> None:
    """Puts ids of special tokens into the spec of a model that is there."""
    path = folder / SPEC_FILE
    spec = {**read_json(path), **token_ids}
    path.write_text(json.dumps(spec, indent=2) + "\n", encoding="utf-8")


def write_task(folder: Path, class_name: str, rules: str) -> None:
    """Writes which task a folder holds, and whose rules it follows."""
    text = json.dumps({"class_name": class_name, "rules": rules}, indent=2) + "\n"
    (folder / TASK_FILE).write_text(text, encoding="utf-8")


def read_rules(folder: Path) -> Literal["keras_hub", "transformers"]:
    """Whose rules a task of the folder follows; transformers', where nothing is written."""
    path = folder / TASK_FILE
    if not path.is_file():
        return "transformers"
    rules = read_json(path).get("rules", "transformers")
    if rules not in ("keras_hub", "transformers"):
        raise ValueError(
            f'load "{path}": rules must be "keras_hub" or "transformers", got {rules!r}'
        )
    return "keras_hub" if rules == "keras_hub" else "transformers"
