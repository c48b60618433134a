# SPDX-License-Identifier: Apache-2.0
"""What a form cannot say of a spec: where two specs differ."""

from collections.abc import Iterator, Mapping
from typing import Any


def differences(a: Mapping[str, Any], b: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """The names of fields, as "head.bias", whose values differ; both have the same fields."""
    for key, value in a.items():
        if isinstance(value, dict):
            yield from differences(value, b[key], f"{path}{key}.")
        elif value != b[key]:
            yield path + key
