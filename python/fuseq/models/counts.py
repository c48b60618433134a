# SPDX-License-Identifier: Apache-2.0
"""Checks of arguments that count something."""

from numbers import Integral
from typing import Any


def check_count(
    name: str,
    value: Any,  # noqa: ANN401
    others: str = "",
    least: int = 1,
    call: str = "fit",
) -> None:
    """Checks a whole number, of Python or numpy.

    Args:
        name: The argument.
        value: What came.
        others: What may be given instead of a number, for the error, such as "None or ".
        least: The smallest one.
        call: Names the call in errors.

    Raises:
        ValueError: It is not one, or less than `least`.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < least:
        raise ValueError(f"{call}: {name} must be {others}a whole number >= {least}, got {value!r}")
