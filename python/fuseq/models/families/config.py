# SPDX-License-Identifier: Apache-2.0
"""Reads the fields of a `config.json` that strangers may have written."""

from collections.abc import Mapping
from typing import Any

from fuseq._core import Tensor

_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}
_MAX_INT = 2**31 - 1
_CHUNK_ROWS = 1024


class Fields:
    """Typed look-up in a config; every error names the field."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Keeps the config, which is not changed."""
        self._config = config

    def _find(self, names: tuple[str, ...], default: Any) -> Any:  # noqa: ANN401
        for name in names:
            if name in self._config:
                return self._config[name]
        return default

    def integer(self, *names: str, default: int) -> int:
        """The whole number under the first of the names that is there, and not null."""
        value = self._find(names, default)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_INT:
            raise ValueError(f"config.json: {names[0]} must be a whole number >= 0, got {value!r}")
        return value

    def number(self, name: str, default: float) -> float:
        """The number under a name."""
        value = self._config.get(name, default)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"config.json: {name} must be a number, got {value!r}")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or false under a name."""
        value = self._config.get(name, default)
        value = default if value is None else value
        if not isinstance(value, bool):
            raise ValueError(f"config.json: {name} must be true or false, got {value!r}")
        return value

    def must_be(self, name: str, wanted: bool) -> None:
        """Refuses what the engine does not compute."""
        if self.flag(name, wanted) is not wanted:
            raise ValueError(
                f"config.json: {name} must be {str(wanted).lower()}, got "
                f"{str(not wanted).lower()}. The engine does not have the other way"
            )

    def activation(self, name: str, default: str) -> str:
        """Our word for an activation function."""
        value = self._config.get(name, default)
        if not isinstance(value, str) or value not in _ACTIVATIONS:
            known = ", ".join(_ACTIVATIONS)
            raise ValueError(f"config.json: {name} must be one of {known}, got {value!r}")
        return _ACTIVATIONS[value]

    def token_id(self, name: str, default: int, vocab: int) -> int:
        """An id, -1 for null; a default that the vocabulary does not reach counts as null."""
        if self._config.get(name, default) is None:
            return -1
        if name not in self._config and default >= vocab:
            return -1
        return self.integer(name, default=default)

    def token_ids(self, name: str, default: int, vocab: int) -> list[int]:
        """One id, several or none."""
        value = self._config.get(name)
        if not isinstance(value, list):
            token = self.token_id(name, default, vocab)
            return [] if token < 0 else [token]
        if any(isinstance(i, bool) or not isinstance(i, int) for i in value):
            raise ValueError(f"config.json: {name} must be an id or a list of ids, got {value!r}")
        return value


def head_dim(dim: int, heads: int, dim_name: str, heads_name: str) -> int:
    """The width of a head, where heads must divide the model's width."""
    if heads == 0 or dim % heads != 0:
        raise ValueError(f"config.json: {heads_name} must divide {dim_name} {dim}, got {heads}")
    return dim // heads


def activation_name(word: str) -> str:
    """The name of our activation in a `config.json`."""
    return {"gelu_tanh": "gelu_new"}.get(word, word)


def one_or_list(ids: list[int]) -> int | list[int] | None:
    """Ids as `eos_token_id` holds them."""
    if not ids:
        return None
    return ids[0] if len(ids) == 1 else list(ids)


def or_none(token: int) -> int | None:
    """An id as a `config.json` holds it."""
    return None if token < 0 else token


def equal(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors have the same shape and values, compared in pieces."""
    if a.shape != b.shape or not a.shape:
        return a.shape == b.shape
    for start in range(0, a.shape[0], _CHUNK_ROWS):
        rows = min(_CHUNK_ROWS, a.shape[0] - start)
        pieces = [tensor.narrow(0, start, rows).float().numpy() for tensor in (a, b)]
        if not (pieces[0] == pieces[1]).all():
            return False
    return True
