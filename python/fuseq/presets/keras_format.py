# SPDX-License-Identifier: Apache-2.0
"""Presets of KerasHub, read and written by the families' tables; needs h5py, but not Keras."""

import json
from collections.abc import Mapping
from pathlib import Path

from fuseq._core import Model, Tensor
from fuseq.presets import keras_weights
from fuseq.presets.checkpoint import read_json
from fuseq.presets.family import Family, KerasFamily, Spec
from fuseq.presets.keras_objects import CONFIG_FILE, Object, class_name, engine_dtype
from fuseq.presets.keras_saving import (
    check_spec,
    keras_tables,
    save,
    save_weights_h5,
    whole_spec,
)

__all__ = [
    "is_keras_preset",
    "load_model",
    "load_weights_h5",
    "read_dtype",
    "read_object",
    "read_spec",
    "save",
    "save_weights_h5",
]

_VOCABULARY_FILE = Path("assets", "tokenizer", "vocabulary.json")


def is_keras_preset(folder: Path) -> bool:
    """Whether `config.json` is one of KerasHub: an object with a `registered_name`.

    Args:
        folder: May hold anything, or not be there.

    Returns:
        True or false.

    Raises:
        ValueError: `config.json` is not a JSON object.
    """
    path = folder / CONFIG_FILE
    return path.is_file() and "registered_name" in read_json(path)


def read_object(folder: Path, file: str) -> Object | None:
    """Reads `task.json`, `preprocessor.json` or another object of a preset.

    Args:
        folder: The preset.
        file: The file's name.

    Returns:
        The object with at least `registered_name` and `config`, or None if the file is not there.

    Raises:
        ValueError: The file is not such an object.
    """
    path = folder / file
    if not path.is_file():
        return None
    value = read_json(path)
    for key, kind, words in (("registered_name", str, "a string"), ("config", dict, "an object")):
        if not isinstance(value.get(key), kind):
            raise ValueError(f'load "{path}": {key} must be {words}, got {value.get(key)!r}')
    return value


def read_spec(folder: Path, families: Mapping[str, Family]) -> Spec:
    """Reads the model's spec; the weights are not needed.

    Args:
        folder: The preset.
        families: The known families.

    Returns:
        The whole spec, with the special ids of the vocabulary if the preset has one.

    Raises:
        FileNotFoundError: There is no `config.json`.
        ValueError: A file is not what it should be, or the class is not known.
    """
    config = _config(folder)
    family = _find_family(config, families, f'load "{folder / CONFIG_FILE}"')
    spec = {**family.spec(config["config"]), **family.fixed_ids, **_special_ids(folder, family)}
    return whole_spec(spec)


def read_dtype(folder: Path) -> str | None:
    """Reads the dtype in which the engine computes what the preset was saved as.

    Args:
        folder: The preset.

    Returns:
        "float32" (for float16 too), "bfloat16" (for mixed_bfloat16 too), "int8" where a layer is
        quantised, or None where `config.json` does not tell.

    Raises:
        FileNotFoundError: There is no `config.json`.
        ValueError: The policy is not known.
    """
    config = _config(folder)
    return engine_dtype(config["config"].get("dtype"), f'load "{folder / CONFIG_FILE}"')


def load_model(
    folder: Path,
    families: Mapping[str, Family],
    *,
    dtype: str | None,
    num_threads: int | None,
    cpu_isa: str,
    spec: Spec | None = None,
) -> Model:
    """Loads a preset.

    Args:
        folder: The preset.
        families: The known families.
        dtype: "float32", "bfloat16", "int8" or None: what the policy in `config.json` says, int8
            only if all that Keras quantises is; without a policy bfloat16 if stored so, else
            float32.
        num_threads: Threads, or None for those of the machine.
        cpu_isa: "automatic", "avx512", "avx2" or "portable".
        spec: What `read_spec` gave; None: it is read.

    Returns:
        The model, its weights packed.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: A file is not what it should be.
        ImportError: h5py is not installed.
    """
    policy = read_dtype(folder)  # a preset of int4 is told by its policy, not by odd shapes
    spec = spec or read_spec(folder, families)
    family = _find_family(_config(folder), families, f'load "{folder / CONFIG_FILE}"')
    path = _weights_file(folder)
    weights = keras_weights.load_weights(path, spec, family)
    if dtype is None and (policy != "int8" or keras_weights.is_int8(path, spec, family)):
        # Of int8 the whole numbers stay: the largest of each row is 127, as Keras makes them.
        dtype = policy
    return Model.build(
        json.dumps(spec), weights, dtype=dtype, num_threads=num_threads, cpu_isa=cpu_isa
    )


def load_weights_h5(path: Path, spec: Spec, family: Family) -> dict[str, Tensor]:
    """Reads the `.weights.h5` of a backbone or of a task.

    Args:
        path: The file; a `.weights.json` names shards.
        spec: The whole spec of the model.
        family: Its family.

    Returns:
        Our weights by name, for `Model.build`.

    Raises:
        FileNotFoundError: The file is not there.
        ValueError: The file is not what it should be, or KerasHub's form cannot hold the spec.
        ImportError: h5py is not installed.
    """
    known = keras_tables(family, "load_weights")
    check_spec(spec, known, "load_weights")
    return keras_weights.load_weights(path, spec, known)


def _config(folder: Path) -> Object:
    value = read_object(folder, CONFIG_FILE)
    if value is None:
        raise FileNotFoundError(f'load "{folder / CONFIG_FILE}": the file must exist, got none')
    return value


def _find_family(config: Object, families: Mapping[str, Family], call: str) -> KerasFamily:
    """The family of the class that `config.json` names."""
    tables = (family.keras for family in families.values())
    known = {table.backbone.name: table for table in tables if table is not None}
    found = known.get(class_name(config))
    if found is None:
        raise ValueError(
            f"{call}: registered_name must be that of KerasHub's {' or '.join(known)}, got "
            f'"{config["registered_name"]}"'
        )
    return found


def _special_ids(folder: Path, family: KerasFamily) -> Spec:
    """The fields that hold the ids of special tokens; empty where there is no vocabulary."""
    path = folder / _VOCABULARY_FILE
    if not path.is_file():
        return {}
    vocabulary = read_json(path)
    ids: Spec = {}
    for field, token in family.special_tokens.items():
        found = vocabulary.get(token)
        if isinstance(found, bool) or not isinstance(found, int) or found < 0:
            raise ValueError(f'load "{path}": "{token}" must have an id, got {found!r}')
        ids[field] = [found] if field == "eos_ids" else found
    return ids


def _weights_file(folder: Path) -> Path:
    for name in (keras_weights.WEIGHTS_FILE, keras_weights.INDEX_FILE):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(
        f'load "{folder}": the folder must hold {keras_weights.WEIGHTS_FILE} or '
        f"{keras_weights.INDEX_FILE}, got neither"
    )
