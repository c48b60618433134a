# SPDX-License-Identifier: Apache-2.0
"""Names of number formats, as users and Keras write them, in the engine's words."""

from collections.abc import Mapping
from typing import Any

import numpy as np

_NAMES = {
    "float32": "float32",
    "bfloat16": "bfloat16",
    "mixed_bfloat16": "bfloat16",  # weights float32 in training; here products in bfloat16
    "int8": "int8",
}
_REFUSED = {
    "float16": 'Use "bfloat16": a CPU computes in it, not in float16',
    "mixed_float16": 'Use "bfloat16": a CPU computes in it, not in float16',
    "int4": 'Use "int8": kernels for int4 are not there yet',
}


def engine_dtype(dtype: object) -> str | None:
    """The engine's word for a dtype.

    Args:
        dtype: None; a name, such as "float32" or Keras' "int8_from_float32"; a dict in which Keras
            writes a policy, or a map of policies by layer; or anything with a `name`, such as a
            Keras policy or a numpy dtype; or numpy's class, such as `np.float32`.

    Returns:
        "float32", "bfloat16" or "int8"; None for None. Of a map "int8" where a layer is int8: all
        matrices are then.

    Raises:
        ValueError: The engine does not compute in it.
    """
    if dtype is None:
        return None
    if isinstance(dtype, Mapping) and dtype.get("class_name") == "DTypePolicyMap":
        return _of_map(dtype)
    name = _name(dtype)
    mode, mark, source = name.partition("_from_")  # as Keras names a quantised policy
    if mark and mode == "int8" and source != "int8" and source in _NAMES:
        return mode
    if name in _NAMES:
        return _NAMES[name]
    hint = _REFUSED.get(source if mode == "int8" else mode, "Names are those of Keras")
    raise ValueError(f"dtype: must be one of {', '.join(_NAMES)}, got {name!r}. {hint}")


def _of_map(policies: Mapping[str, Any]) -> str | None:
    """The word of Keras' map of policies by layer."""
    config = policies.get("config")
    by_layer = config.get("policy_map") if isinstance(config, Mapping) else None
    if not isinstance(config, Mapping) or not isinstance(by_layer, Mapping):
        raise ValueError(
            f"dtype: the config of a map of policies must be an object with a policy_map, got "
            f"{config!r}"
        )
    found = {engine_dtype(one) for one in (config.get("default_policy"), *by_layer.values())}
    return next((name for name in ("int8", "float32", "bfloat16") if name in found), None)


def _name(dtype: Any) -> str:  # noqa: ANN401
    if isinstance(dtype, str):
        return dtype
    if isinstance(dtype, Mapping):
        config = dtype.get("config")
        if not isinstance(config, Mapping):
            raise ValueError(
                f"dtype: the config of a policy must be an object with a name, got {config!r}"
            )
        if config.get("name") is None and "mode" in config:  # a quantised policy
            source = config.get("source_name")
            return f"{config['mode']}_from_{source}" if source else str(config["mode"])
        return str(config.get("name"))
    if isinstance(dtype, type) and issubclass(dtype, np.generic):
        return str(np.dtype(dtype).name)
    text = str(getattr(dtype, "name", dtype))
    return text.removeprefix("torch.")
