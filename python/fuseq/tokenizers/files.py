# SPDX-License-Identifier: Apache-2.0
"""Files of tokenizers: read with errors that name them, written whole or not at all."""

import json
import os
from pathlib import Path
from typing import Any


def read_bytes(path: Path) -> bytes:
    """Reads a file.

    Args:
        path: The file.

    Returns:
        Its bytes.

    Raises:
        FileNotFoundError: There is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f'"{path}": must be a file of the tokenizer, got no such file')
    return path.read_bytes()


def read_text(path: Path) -> str:
    """Reads a file of UTF-8 text.

    Args:
        path: The file.

    Returns:
        Its text, line ends as they are.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not UTF-8.
    """
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f'"{path}": must be UTF-8 text, got {error}') from error


def read_json(path: Path) -> dict[str, Any]:
    """Reads a file of one JSON object.

    Args:
        path: The file.

    Returns:
        The object.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a JSON object.
    """
    try:
        value = json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f'"{path}": must be JSON, got {error}') from error
    if not isinstance(value, dict):
        raise ValueError(f'"{path}": must be a JSON object, got {type(value).__name__}')
    return value


def read_json_or_nothing(path: Path) -> dict[str, Any]:
    """Reads a file of one JSON object if it is there.

    Args:
        path: The file.

    Returns:
        The object, empty where there is no file.

    Raises:
        ValueError: It is not a JSON object.
    """
    return read_json(path) if path.is_file() else {}


def write_file(path: Path, content: str | bytes) -> None:
    """Writes a file under a temporary name, then renames it.

    Args:
        path: The file; its folder is made if need be.
        content: All of it; text becomes UTF-8.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
