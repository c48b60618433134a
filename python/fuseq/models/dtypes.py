# SPDX-License-Identifier: Apache-2.0
"""Names of number formats, as users and Keras write them, in the engine's words."""

from collections.abc import Mapping
from typing import Any

import numpy as np

_NAMES = {
    "float32": "float32",
    "bfloat16": "bfloat16",
    "mixed_bfloat16": "bfloat16",  # weights float32 in training; here products in bfloat16
}
_REFUSED = {
    "float16": 'Use "bfloat16": a CPU computes in it, not in float16',
    "mixed_float16": 'Use "bfloat16": a CPU computes in it, not in float16',
    "int8": 'Use "bfloat16": kernels for int8 are not there yet',
    "int4": 'Use "bfloat16": kernels for int4 are not there yet',
}


def engine_dtype(dtype: object) -> str | None:
    """The engine's word for a dtype.

    Args:
        dtype: None; a name; a dict in which Keras writes a policy; or anything with a `name`, such
            as a Keras policy or a numpy dtype; or numpy's class, such as `np.float32`.

    Returns:
        "float32" or "bfloat16"; None for None.

    Raises:
        ValueError: The engine does not compute in it.
    """
    if dtype is None:
        return None
    name = _name(dtype)
    if name in _NAMES:
        return _NAMES[name]
    hint = _REFUSED.get(name, "Names are those of Keras")
    raise ValueError(f"dtype: must be one of {', '.join(_NAMES)}, got {name!r}. {hint}")


def _name(dtype: Any) -> str:  # noqa: ANN401
    if isinstance(dtype, str):
        return dtype
    if isinstance(dtype, Mapping):
        config = dtype.get("config")
        if not isinstance(config, Mapping):
            raise ValueError(
                f"dtype: the config of a policy must be an object with a name, got {config!r}"
            )
        return str(config.get("name"))
    if isinstance(dtype, type) and issubclass(dtype, np.generic):
        return str(np.dtype(dtype).name)
    text = str(getattr(dtype, "name", dtype))
    return text.removeprefix("torch.")
