# SPDX-License-Identifier: Apache-2.0
"""Checks of the settings that tokenizers take, from callers and from files."""

import operator
import re
from collections.abc import Iterable

_LONGEST = 1 << 24  # rows are filled to this; a wrong file must not fill the memory
_CONFIG_FILE = re.compile(r"(?!\.)[^/\\:\0]+\.json")


def check_sequence_length(length: object) -> int | None:
    """Takes the length of rows.

    Args:
        length: A whole number of any type, or None.

    Returns:
        It as an int.

    Raises:
        ValueError: It is not a whole number of at least 1, or far too large.
    """
    if length is None:
        return None
    try:
        number = 0 if isinstance(length, bool) else operator.index(length)  # type: ignore[arg-type]
    except TypeError:
        number = 0
    if number < 1:
        raise ValueError(f"sequence_length: must be at least 1, got {length!r}")
    if number > _LONGEST:
        raise ValueError(f"sequence_length: must be at most {_LONGEST}, got a larger number")
    return number


def check_config_file(name: object) -> str:
    """Takes the name of the file that settings are written to.

    Args:
        name: A name without a folder, for a file must not say where others are written.

    Returns:
        The name.

    Raises:
        ValueError: It is something else.
    """
    if not isinstance(name, str) or not _CONFIG_FILE.fullmatch(name):
        raise ValueError(
            f'config_file: must be the name of a file, as "tokenizer.json", got {name!r}'
        )
    return name


def check_token(token: object, name: str) -> str | None:
    """Takes one token.

    Args:
        token: A str with letters, or None.
        name: What it is called in an error.

    Returns:
        The token.

    Raises:
        ValueError: It is something else.
    """
    if token is not None and not (isinstance(token, str) and token):
        raise ValueError(f"{name}: must be a string with letters or None, got {token!r}")
    return token


def check_tokens(tokens: object, name: str) -> list[str]:
    """Takes tokens.

    Args:
        tokens: Strings with letters; one str is not taken for its letters.
        name: What they are called in an error.

    Returns:
        The tokens.

    Raises:
        ValueError: They are something else.
    """
    found = list(tokens) if isinstance(tokens, Iterable) and not isinstance(tokens, str) else [None]
    if not all(isinstance(token, str) and token for token in found):
        raise ValueError(f"{name}: must be strings with letters, got {tokens!r}")
    return [str(token) for token in found]
