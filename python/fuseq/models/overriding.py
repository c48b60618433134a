# SPDX-License-Identifier: Apache-2.0
"""Tells what users have made their own."""


def is_overridden(owner: object, name: str) -> bool:
    """Whether an object or a class that is not the library's has a method of its own.

    Args:
        owner: The object.
        name: The method's name.

    Returns:
        True where calling it does not run what the library wrote.
    """
    if name in getattr(owner, "__dict__", {}):
        return True
    kind = next((kind for kind in type(owner).__mro__ if name in vars(kind)), None)
    return kind is not None and not kind.__module__.startswith("fuseq.")
