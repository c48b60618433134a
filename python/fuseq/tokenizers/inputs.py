# SPDX-License-Identifier: Apache-2.0
"""Turns what callers pass, of whatever type, into lists of texts and lists of ids."""

import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray


def to_texts(inputs: object) -> tuple[list[str], bool]:
    """Takes the texts of one call.

    Args:
        inputs: A str or bytes (UTF-8); or a list, tuple or array of them.

    Returns:
        The texts, and whether they are a batch.

    Raises:
        TypeError: The inputs are of another type.
        ValueError: Bytes are not UTF-8, or a str has half of a surrogate pair.

    Example:
        >>> to_texts(("a", b"b"))
        (['a', 'b'], True)
    """
    if isinstance(inputs, str | bytes):
        return [_to_text(inputs, "inputs")], False
    if hasattr(inputs, "__array__"):
        array = np.asarray(inputs)
        if array.dtype.kind not in "OSU" or array.ndim > 1:
            raise _not_texts(f"an array of {array.dtype} of rank {array.ndim}")
        if array.ndim == 0:
            return [_to_text(array.item(), "inputs")], False
        inputs = array.tolist()
    if not isinstance(inputs, list | tuple):
        raise _not_texts(type(inputs).__name__)
    return [_to_text(text, f"inputs[{index}]") for index, text in enumerate(inputs)], True


def to_id_rows(ids: object) -> tuple[list[list[int]], bool]:
    """Takes the ids of one call.

    Args:
        ids: A whole number; or a list, tuple or array of them; or a list, tuple or array of those.

    Returns:
        The rows, and whether they are a batch.

    Raises:
        TypeError: The ids are of another type.

    Example:
        >>> to_id_rows([[1, 2], [3]])
        ([[1, 2], [3]], True)
    """
    if _is_array(ids):
        array = _to_array(ids)
        if array.ndim == 2:
            return [_to_row(row, "ids") for row in array], True
        ids = array.tolist()
    if isinstance(ids, list | tuple):
        if len(ids) > 0 and _is_row(ids[0]):
            return [_to_row(row, f"ids[{index}]") for index, row in enumerate(ids)], True
        return [_to_row(ids, "ids")], False
    return [_to_row([ids], "ids")], False


def to_id(id: object) -> int:
    """Takes one id.

    Args:
        id: A whole number; arrays and tensors of rank 0 are some too.

    Returns:
        It as an int.

    Raises:
        TypeError: It is something else.
    """
    try:
        return operator.index(id)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"id: must be a whole number, got {id!r}") from None


def _to_text(text: object, name: str) -> str:
    if isinstance(text, bytes):
        try:
            return text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{name}: must be UTF-8, got {error}") from error
    if not isinstance(text, str):
        raise TypeError(f"{name}: must be a str or bytes, got {type(text).__name__}")
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(f"{name}: must be Unicode text, got {error}") from error
    return str(text)


def _not_texts(got: str) -> TypeError:
    return TypeError(f"inputs: must be a str, or a list, tuple or array of str, got {got}")


def _is_row(value: object) -> bool:
    if isinstance(value, list | tuple):
        return True
    return int(getattr(value, "ndim", 0)) > 0


def _is_array(value: object) -> bool:
    return hasattr(value, "__array__") or hasattr(value, "__dlpack__")


def _to_array(ids: Any) -> NDArray[Any]:  # noqa: ANN401
    array = np.asarray(ids) if hasattr(ids, "__array__") else np.from_dlpack(ids)
    if array.ndim > 2 or (array.size > 0 and array.dtype.kind not in "iuO"):
        raise TypeError(
            "ids: must be whole numbers of rank 0, 1 or 2, "
            f"got an array of {array.dtype} of rank {array.ndim}"
        )
    return array


def _to_row(row: object, name: str) -> list[int]:
    values = _to_array(row).tolist() if _is_array(row) else row
    if not isinstance(values, list | tuple):
        raise TypeError(f"{name}: must be a list of whole numbers, got {type(row).__name__}")
    try:
        return [operator.index(value) for value in values]
    except TypeError as error:
        raise TypeError(f"{name}: must be whole numbers, got {error}") from error
