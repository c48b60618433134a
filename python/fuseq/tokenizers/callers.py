# SPDX-License-Identifier: Apache-2.0
"""Finds the caller's own line, which is where a warning should point."""

import inspect
from pathlib import Path

_PACKAGE = Path(__file__).absolute().parent.parent


def stack_level() -> int:
    """How far away the first line outside fuseq is.

    Returns:
        The `stacklevel` for a `warnings.warn` in the function that asks.
    """
    frame = inspect.currentframe()
    frame = frame and frame.f_back
    level = 1
    while frame is not None and _PACKAGE in Path(frame.f_code.co_filename).parents:
        frame = frame.f_back
        level += 1
    return level
