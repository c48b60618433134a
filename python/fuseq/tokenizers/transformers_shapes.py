# SPDX-License-Identifier: Apache-2.0
"""Checks that the JSON of a transformers tokenizer has the shapes that its reader relies on."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

DEFINITION = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
SPECIAL_TOKENS = "special_tokens_map.json"
ADDED_TOKENS = "added_tokens.json"

_ROLES = tuple(f"{role}_token" for role in ("bos", "eos", "pad", "unk", "sep", "cls", "mask"))
_LISTS = ("additional_special_tokens", "extra_special_tokens")
_LONGEST_ID = 18  # digits; more would be no id of any vocabulary


def check_named_tokens(values: Mapping[str, Any], path: Path) -> None:
    """Checks `tokenizer_config.json` or `special_tokens_map.json`.

    Args:
        values: What the file holds.
        path: The file.

    Raises:
        ValueError: A token or a list of them is something else.
    """
    for key in _ROLES:
        if values.get(key) is not None:
            _check_token(values[key], path, key)
    for key, value in values.items():
        if isinstance(value, Mapping) and "content" in value:
            _check_token(value, path, key)
    for key in _LISTS:
        listed = values.get(key)
        if listed is None:
            continue
        if not isinstance(listed, list | Mapping):
            _refuse(path, key, "a list or an object of tokens", listed)
        tokens: Iterable[Any] = listed.values() if isinstance(listed, Mapping) else listed
        for token in tokens:
            _check_token(token, path, key)
    key = "added_tokens_decoder"
    for id, token in _object(values, path, key).items():
        if not (id.isascii() and id.isdigit() and len(id) <= _LONGEST_ID):
            _refuse(path, key, "an object of tokens by their ids", id)
        _check_token(token, path, f"{key}.{id}")


def check_added_tokens(values: Mapping[str, Any], path: Path) -> None:
    """Checks `added_tokens.json`.

    Args:
        values: What the file holds.
        path: The file.

    Raises:
        ValueError: It does not map tokens to ids.
    """
    for token, id in values.items():
        _check_token(token, path, "a token")
        _check_id(id, path, token)


def check_definition(values: Mapping[str, Any], path: Path) -> None:
    """Checks what is read of a `tokenizer.json`; the tokenizers library checks the rest.

    Args:
        values: What the file holds.
        path: The file.

    Raises:
        ValueError: A part is something else.
    """
    model = _object(values, path, "model")
    _object(values, path, "pre_tokenizer")
    added = values.get("added_tokens")
    if added is not None and not isinstance(added, list):
        _refuse(path, "added_tokens", "a list of tokens", added)
    for index, token in enumerate(added or []):
        name = f"added_tokens[{index}]"
        if not isinstance(token, Mapping):
            _refuse(path, name, "an object with content and id", token)
        _check_token(token, path, name)
        _check_id(token.get("id"), path, f"{name}.id")
    _check_vocabulary(model.get("vocab"), path)
    merges = model.get("merges")
    if merges is not None and not isinstance(merges, list):
        _refuse(path, "model.merges", "a list of two symbols each", merges)
    for index, merge in enumerate(merges or []):
        pair = (
            isinstance(merge, list) and len(merge) == 2 and all(isinstance(m, str) for m in merge)
        )
        if not pair and not isinstance(merge, str):
            _refuse(path, f"model.merges[{index}]", "two symbols", merge)


def _check_vocabulary(vocabulary: object, path: Path) -> None:
    if vocabulary is None or isinstance(vocabulary, Mapping):
        return
    if not isinstance(vocabulary, list):
        _refuse(path, "model.vocab", "an object of ids or a list of pairs", vocabulary)
    for index, pair in enumerate(vocabulary):
        if not (isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str)):
            _refuse(path, f"model.vocab[{index}]", "a token and its score", pair)


def _object(values: Mapping[str, Any], path: Path, key: str) -> Mapping[str, Any]:
    found = values.get(key)
    if found is not None and not isinstance(found, Mapping):
        _refuse(path, key, "an object", found)
    return found or {}


def _check_token(token: object, path: Path, name: str) -> None:
    text = token.get("content") if isinstance(token, Mapping) else token
    if not isinstance(text, str):
        _refuse(path, name, "a token: a string, or an object with a string as content", token)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f'"{path}": {name!r} must be Unicode text, got {error}') from error


def _check_id(id: object, path: Path, name: str) -> None:
    if isinstance(id, bool) or not isinstance(id, int):
        _refuse(path, name, "an id", id)


def _refuse(path: Path, name: str, must: str, got: object) -> NoReturn:
    shown = repr(got)
    shown = shown if len(shown) <= 100 else f"{shown[:100]}..."
    raise ValueError(f'"{path}": {name!r} must be {must}, got {shown}')
