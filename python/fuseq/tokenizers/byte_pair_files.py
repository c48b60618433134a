# SPDX-License-Identifier: Apache-2.0
"""Reads and checks the vocabulary and the merges of byte-pair encoding."""

import operator
import warnings
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from fuseq.tokenizers.callers import stack_level
from fuseq.tokenizers.files import read_json, read_text

VOCABULARY_FILE = "vocabulary.json"
MERGES_FILE = "merges.txt"
_TRANSFORMERS_VOCABULARY_FILE = "vocab.json"
_LARGEST_ID = (1 << 24) - 1  # a table of all ids is made; a wrong file must not fill the memory


def read_vocabulary(vocabulary: object, name: str = "vocabulary") -> dict[str, int]:
    """Takes the ids of tokens.

    Args:
        vocabulary: A dict, a JSON file, or a folder with such a file.
        name: What a dict is called in an error.

    Returns:
        The ids, in their order.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is something else; or a token is not a str, or an id is negative, too large
            or given twice.
    """
    if isinstance(vocabulary, Mapping):
        return _check_vocabulary(vocabulary, name)
    if isinstance(vocabulary, str | PathLike):
        path = Path(vocabulary)
        if path.is_dir():
            path = find_vocabulary_file(path)
        return _check_vocabulary(read_json(path), f'"{path}"')
    raise ValueError(f"{name}: must be a dict, a file or a folder, got {type(vocabulary).__name__}")


def find_vocabulary_file(folder: Path) -> Path:
    """The vocabulary's file in a folder of KerasHub or of transformers.

    Args:
        folder: The folder.

    Returns:
        The file; KerasHub's where there is neither.
    """
    other = folder / _TRANSFORMERS_VOCABULARY_FILE
    own = folder / VOCABULARY_FILE
    return other if other.is_file() and not own.is_file() else own


def read_merges(merges: object, name: str = "merges") -> list[str]:
    """Takes the merges, best first.

    Args:
        merges: Strings "a b", or a file of one a line; a line `#version` is skipped.
        name: What the strings are called in an error.

    Returns:
        Those that hold two symbols; one with more blanks can never apply and is left out.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: They are something else, or hold something else.

    Warns:
        UserWarning: Some were left out.
    """
    if isinstance(merges, str | PathLike):
        return _read_merges_file(Path(merges))
    if not isinstance(merges, Iterable):
        raise ValueError(
            f"{name}: must be a file or strings of two symbols, got {type(merges).__name__}"
        )
    kept: list[str] = []
    dead: list[str] = []
    for index, merge in enumerate(merges):
        if not isinstance(merge, str) or " " not in merge:
            raise ValueError(f"{name}[{index}]: must be two symbols and a blank, got {merge!r}")
        if not _is_header(merge):
            (kept if _is_merge(merge) else dead).append(merge)
    try:
        "".join(kept).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"{name}: must hold Unicode text, got {error}") from error
    if dead:
        warnings.warn(
            f"{name}: must be two symbols and one blank, got {len(dead)} others, which never "
            f"apply; the first is {dead[0]!r}",
            stacklevel=stack_level(),
        )
    return kept


def _read_merges_file(path: Path) -> list[str]:
    lines = [line.rstrip("\r") for line in read_text(path).split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, 1):
        if not _is_merge(line) and not _is_header(line):
            raise ValueError(
                f'"{path}", line {number}: must be two symbols and a blank, got {line!r}'
            )
    return [line for line in lines if not _is_header(line)]


def _is_header(line: str) -> bool:
    return line.startswith("#version")


def _is_merge(line: str) -> bool:
    first, _, second = line.partition(" ")
    return bool(first) and bool(second) and " " not in second


def _check_vocabulary(vocabulary: Mapping[Any, object], name: str) -> dict[str, int]:
    ids: dict[str, int] = {}
    for token, id in vocabulary.items():
        if not isinstance(token, str) or isinstance(id, bool):
            raise ValueError(f"{name}: must map tokens to ids, got {token!r}: {id!r}")
        try:
            ids[token] = operator.index(id)  # type: ignore[arg-type]
        except TypeError:
            raise ValueError(f"{name}: must map tokens to ids, got {token!r}: {id!r}") from None
    try:
        "".join(ids).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"{name}: must hold Unicode text, got {error}") from error
    tokens: dict[int, str] = {}
    for token, number in sorted(ids.items(), key=lambda item: item[1]):
        if not 0 <= number <= _LARGEST_ID:
            raise ValueError(
                f"{name}: must hold ids from 0 to {_LARGEST_ID}, got {token!r}: {number}"
            )
        if number in tokens:
            raise ValueError(
                f"{name}: must hold each id once, got {number} for {tokens[number]!r} and {token!r}"
            )
        tokens[number] = token
    return {token: number for number, token in tokens.items()}
