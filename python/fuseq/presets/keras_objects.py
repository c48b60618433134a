# SPDX-License-Identifier: Apache-2.0
"""The JSON form in which Keras writes objects and dtype policies."""

from collections.abc import Iterator, Mapping
from typing import Any

from fuseq.presets.family import KerasClass

CONFIG_FILE = "config.json"
METADATA_FILE = "metadata.json"
PREPROCESSOR_FILE = "preprocessor.json"
TASK_FILE = "task.json"

_PREFIXES = ("keras_hub>", "keras_nlp>")  # the library's name, and its old one
_FLOATS = {
    "float32": "float32",
    "bfloat16": "bfloat16",
    "mixed_bfloat16": "bfloat16",
    "float16": "float32",  # a CPU computes in float32 what is stored in half of it
    "mixed_float16": "float32",
}
_INT8 = "int8"

Object = dict[str, Any]


def class_name(value: Mapping[str, Any]) -> str:
    """The class of an object, without the library's name; "" where the file tells none."""
    name = value.get("registered_name")
    if not isinstance(name, str):
        return ""
    prefix = next((prefix for prefix in _PREFIXES if name.startswith(prefix)), "")
    return name.removeprefix(prefix)


def make_object(
    known: KerasClass, config: Mapping[str, Any], *, dtype: str, name: str | None = None
) -> Object:
    """An object as Keras writes it.

    Args:
        known: Its class.
        config: Its fields; `name`, `trainable` and `dtype` are added where they are not there.
        dtype: The name of its policy.
        name: The object's name; None: as Keras calls it.

    Returns:
        What the JSON file holds.
    """
    base = {"name": name or known.object_name, "trainable": True, "dtype": policy(dtype)}
    return bare_object(known, {**base, **config})


def bare_object(known: KerasClass, config: Mapping[str, Any]) -> Object:
    """An object with the fields given and no others."""
    return {
        "module": known.module,
        "class_name": known.name,
        "config": dict(config),
        "registered_name": f"{_PREFIXES[0]}{known.name}",
    }


def policy(name: str) -> Object:
    """A dtype policy as Keras writes it."""
    return {
        "module": "keras",
        "class_name": "DTypePolicy",
        "config": {"name": name},
        "registered_name": None,
    }


def engine_dtype(value: object, call: str) -> str | None:
    """The dtype in which the engine computes a saved policy.

    Args:
        value: A name, a policy, a map of policies by layer, or None.
        call: Starts the message of an error.

    Returns:
        "float32", "bfloat16", "int8" where a layer is quantised, or None where the file does not
        tell.

    Raises:
        ValueError: The policy is not one of those.
    """
    found = {_engine_name(one, call) for one in _policies(value, call)}
    return next((name for name in (_INT8, "float32", "bfloat16") if name in found), None)


def _policies(value: object, call: str) -> Iterator[object]:
    if isinstance(value, Mapping) and value.get("class_name") == "DTypePolicyMap":
        config = _object_at(value, "config", call)
        yield config.get("default_policy")
        yield from _object_at(config, "policy_map", call).values()
    else:
        yield value


def _object_at(value: Mapping[str, Any], key: str, call: str) -> Mapping[str, Any]:
    """A field of a policy that must be an object; empty where it is not there."""
    found = value.get(key)
    if found is not None and not isinstance(found, Mapping):
        raise ValueError(f"{call}: dtype: {key} must be an object, got {found!r}")
    return found or {}


def _mode_and_name(value: object, call: str) -> tuple[object, object]:
    """How a policy quantises, and the dtype that it quantises from; None where it does not."""
    mode, name = None, value
    if isinstance(value, Mapping):
        config = _object_at(value, "config", call)
        mode, name = config.get("mode"), config.get("name", config.get("source_name"))
    if isinstance(name, str) and "_from_" in name:  # as Keras names a quantised policy
        mode, name = name.split("_from_", 1)
    return mode, name


def _engine_name(value: object, call: str) -> str | None:
    mode, name = _mode_and_name(value, call)
    if mode not in (None, _INT8) or (name is not None and str(name) not in _FLOATS):
        got = mode if mode not in (None, _INT8) else name
        raise ValueError(
            f"{call}: dtype must be one of {', '.join(_FLOATS)} or quantised to int8, got {got!r}. "
            "Save the model with KerasHub without quantisation"
        )
    if mode == _INT8:
        return _INT8
    return None if name is None else _FLOATS[str(name)]
