# SPDX-License-Identifier: Apache-2.0
"""Writes presets of KerasHub by the families' tables; what its form cannot hold is refused."""

import json
from collections.abc import Mapping
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import Any

from fuseq import _core
from fuseq._core import Model
from fuseq.presets import keras_weights
from fuseq.presets.differences import differences
from fuseq.presets.family import Family, KerasClass, KerasFamily, Spec
from fuseq.presets.keras_objects import (
    CONFIG_FILE,
    METADATA_FILE,
    PREPROCESSOR_FILE,
    TASK_FILE,
    Object,
    bare_object,
    make_object,
)
from fuseq.presets.preset_files import PRESET_FILES, whole_file

_VERSIONS = {"keras_version": "3.15.1", "keras_hub_version": "0.32.0"}  # whose form we write
_NOT_HELD = (  # what the form does not say, and the model's logits do not depend on
    "pad_id",
    "bos_id",
    "decoder_start_id",
    "eos_ids",
    "dropout",
    "attention_dropout",
    "activation_dropout",
    "encoder.position_offset",
    "decoder.position_offset",
)


def save(
    folder: str | PathLike[str],
    model: Model,
    family: Family,
    *,
    tokenizer: Any = None,  # noqa: ANN401
    preprocessor: tuple[str, Mapping[str, Any]] | None = None,
    task: tuple[str, str] | None = None,
    max_shard_size: float | None = 10,
) -> None:
    """Writes a preset that KerasHub opens; the folder appears when it is whole.

    Args:
        folder: Replaced as a whole: old files of a preset go, other files in it are kept.
        model: What is written, in the dtype that it has.
        family: The model's family.
        tokenizer: Has `get_config()` and `save_to_preset(folder)`; None: no tokenizer is written.
        preprocessor: The class and its fields without the tokenizer; None: no `preprocessor.json`.
        task: The class and the object's name; None: no `task.json`.
        max_shard_size: Larger weights are cut into shards of this many units of 2^30 bytes; None:
            never.

    Raises:
        ValueError: KerasHub's form cannot hold a field of the spec, or the weights are int8.
        OSError: The system refused to write; an old folder is left as it was.
    """
    _check_floats(model, "save_to_preset")
    known = keras_tables(family, "save_to_preset")
    check_spec(json.loads(model.spec), known, "save_to_preset")
    files = _files(model, known, tokenizer, preprocessor, task)

    def fill(unfinished: Path) -> None:
        for name, value in files.items():
            text = json.dumps(value, indent=4) + "\n"
            (unfinished / name).write_text(text, encoding="utf-8")
        if tokenizer is not None:
            tokenizer.save_to_preset(unfinished)
        keras_weights.save_to_folder(unfinished, model, known, max_shard_size)

    _core.save_folder(folder, fill, PRESET_FILES)


def save_weights_h5(path: Path, model: Model, family: Family) -> None:
    """Writes the `.weights.h5` of a backbone; the file appears when it is whole.

    Args:
        path: The file.
        model: What is written, in the dtype that it has.
        family: Its family.

    Raises:
        ValueError: KerasHub's form cannot hold the spec, or the weights are int8.
        FileNotFoundError: There is no such folder.
        OSError: The system refused to write; an old file is left as it was.
        ImportError: h5py is not installed.
    """
    _check_floats(model, "save_weights")
    known = keras_tables(family, "save_weights")
    check_spec(json.loads(model.spec), known, "save_weights")
    with whole_file(path, "save_weights") as unfinished:
        keras_weights.save_weights(unfinished, model, known)


def _check_floats(model: Model, call: str) -> None:
    """KerasHub has a layout of its own for int8, which we read and do not write."""
    if model.dtype == "int8":
        raise ValueError(
            f"{call}: KerasHub's form must get weights that are floats, got int8. Save the task "
            'with format="fuseq", or load it with dtype="float32"'
        )


def check_spec(spec: Spec, family: KerasFamily, call: str) -> None:
    """Refuses a spec of which KerasHub's form loses a field.

    Args:
        spec: The whole spec.
        family: Its family's tables.
        call: Starts the message of an error.

    Raises:
        ValueError: Names the fields.
    """
    try:
        held = whole_spec(family.spec(family.config(spec)))
        lost = [name for name in differences(spec, held) if name not in _NOT_HELD]
    except ValueError as error:
        raise ValueError(f"{call}: KerasHub's form must hold the spec, got {error}") from error
    if lost:
        raise ValueError(
            f"{call}: KerasHub's form must hold every field of the spec, got others in "
            f'{", ".join(lost)}. Use format="transformers" or format="fuseq"'
        )


def keras_tables(family: Family, call: str) -> KerasFamily:
    """The family's tables of KerasHub's form; a ValueError where it has none."""
    if family.keras is None:
        raise ValueError(
            f'{call}: the family must have a KerasHub form, got "{family.model_type}". Use '
            'format="transformers" or format="fuseq"'
        )
    return family.keras


def whole_spec(spec: Spec) -> Spec:
    """A spec with every field of the engine."""
    held: Spec = json.loads(_core.validate_spec(json.dumps(spec)))
    return held


def _files(
    model: Model,
    family: KerasFamily,
    tokenizer: Any,  # noqa: ANN401
    preprocessor: tuple[str, Mapping[str, Any]] | None,
    task: tuple[str, str] | None,
) -> dict[str, Object]:
    """The JSON files of a preset, without those that the tokenizer writes."""
    spec = json.loads(model.spec)
    backbone = make_object(family.backbone, family.config(spec), dtype=model.dtype)
    files = {
        CONFIG_FILE: backbone,
        METADATA_FILE: {
            **_VERSIONS,
            "parameter_count": keras_weights.count_parameters(spec, family),
            "date_saved": datetime.now().strftime("%Y-%m-%d@%H:%M:%S"),
            "tasks": [family.task_kind],
            "fuseq_version": _core.__version__,
        },
    }
    if preprocessor is not None:
        name, fields = preprocessor
        inner = None
        if tokenizer is not None:
            kind = _checked_class(type(tokenizer).__name__, family.tokenizer, "tokenizer")
            inner = make_object(kind, tokenizer.get_config(), dtype="int32")
        config = {"tokenizer": inner, "config_file": PREPROCESSOR_FILE, **fields}
        known = _checked_class(name, family.preprocessor, "preprocessor")
        files[PREPROCESSOR_FILE] = make_object(known, config, dtype="float32")
    if task is not None:
        name, object_name = task
        files[TASK_FILE] = bare_object(
            _checked_class(name, family.task, "task"),
            {
                "backbone": backbone,
                "preprocessor": files.get(PREPROCESSOR_FILE),
                "name": object_name,
            },
        )
    return files


def _checked_class(name: str, known: KerasClass, argument: str) -> KerasClass:
    if name != known.name:
        raise ValueError(
            f"save_to_preset: {argument} must be a {known.name} in KerasHub's form of this model, "
            f'got a {name}. Use format="fuseq"'
        )
    return known
