# SPDX-License-Identifier: Apache-2.0
"""What users generate from: texts, dicts, arrays and anything that gives batches of these."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fuseq._core import Prompt
from fuseq.prompts import prompts_from_arrays

Texts = dict[str, list[str]]
Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Batch:
    """Inputs that came together; one of texts and arrays is there.

    Attributes:
        texts: Lists of one length by their keys.
        arrays: Ids and masks by their keys.
        is_scalar: It was one text and not a list.
    """

    texts: Texts | None = None
    arrays: Arrays | None = None
    is_scalar: bool = False

    def __len__(self) -> int:
        """The number of inputs."""
        if self.texts is not None:
            return len(next(iter(self.texts.values())))
        assert self.arrays is not None
        return len(next(iter(self.arrays.values())))


@dataclass(frozen=True)
class Keys:
    """The names of inputs.

    Attributes:
        texts: Of texts; the first one must be there.
        ids: Of arrays of ids; the first one must be there.
        masks: Of their masks.
    """

    texts: tuple[str, ...]
    ids: tuple[str, ...]
    masks: tuple[str, ...]


def is_one_batch(inputs: object) -> bool:
    """Whether inputs are one batch and no iterable of batches."""
    if isinstance(inputs, str | bytes | Mapping) or _as_array(inputs) is not None:
        return True
    return isinstance(inputs, list | tuple) and all(isinstance(i, str | bytes) for i in inputs)


def read_batches(inputs: object, keys: Keys) -> Iterator[Batch]:
    """Reads inputs one batch after the other, no earlier than it is asked for.

    Args:
        inputs: A str; a list, tuple or array of str; a dict of these or of arrays of ids; or an
            iterable of any of these, where a str is a batch of one.
        keys: The names that dicts may have.

    Yields:
        Batches.

    Raises:
        TypeError: An input is of another type.
        ValueError: A key is missing or not known, or lengths differ.
    """
    if is_one_batch(inputs):
        yield _read_batch(inputs, keys, "inputs")
        return
    # TensorFlow's datasets give numpy arrays this way; TensorFlow itself is not needed.
    numpy_batches = getattr(inputs, "as_numpy_iterator", None)
    batches: Any = numpy_batches() if numpy_batches is not None else inputs
    if not isinstance(batches, Iterable):
        raise TypeError(
            "inputs: must be text, a list of texts, a dict or an iterable of batches, got "
            f"{type(inputs).__name__}"
        )
    for index, item in enumerate(batches):
        if not is_one_batch(item):
            raise TypeError(
                f"inputs: batch {index} must be text, a list of texts or a dict, got "
                f"{_describe(item)}"
            )
        yield _read_batch(item, keys, f"inputs, batch {index}")


def read_texts(
    x: object, keys: tuple[str, ...], required: tuple[str, ...] = (), *, what: str = "x"
) -> tuple[Texts, bool]:
    """Reads one batch of texts.

    Args:
        x: A str, or a list, tuple or array of str, for the first key; or a dict of these.
        keys: The names that a dict may have.
        required: Those that must be there; then x must be a dict.
        what: Names x in errors.

    Returns:
        Lists of one length, and whether all were single texts.

    Raises:
        TypeError: x is of another type.
        ValueError: A key is missing or not known, or lengths differ.
    """
    return _read_texts(x, keys, required, what)


def prompts_of(arrays: Mapping[str, Any], keys: Keys) -> list[Prompt]:
    """Takes the padding off arrays of ids.

    Args:
        arrays: Ids and masks by their keys.
        keys: The names.

    Returns:
        A prompt for each row.

    Raises:
        TypeError: Ids are not whole numbers.
        ValueError: Ids and masks do not fit, or there are no columns.
    """
    arguments = {}
    for key in (*keys.ids, *keys.masks):
        if arrays.get(key) is None:
            continue
        array = as_ids(arrays[key], key)
        if array.ndim == 2 and array.shape[1] == 0 and key in keys.ids:
            raise ValueError(f"{key}: must have one column or more, got {list(array.shape)}")
        arguments[_argument(key)] = array
    try:
        return prompts_from_arrays(**arguments)
    except (TypeError, ValueError) as error:  # in the words of the keys
        text = str(error).removeprefix("prompts_from_arrays: ")
        for key in (*keys.ids, *keys.masks):
            text = text.replace(_argument(key), key)
        raise type(error)(text) from error


def as_ids(value: Any, key: str) -> npt.NDArray[Any]:  # noqa: ANN401
    """An array of ids or a mask; `key` names it in errors.

    Raises:
        ValueError: Its rows have several lengths.
    """
    try:
        return np.asarray(value)
    except ValueError as error:  # rows of several lengths
        raise ValueError(f"{key}: must have shape [B, T], got rows of several lengths") from error


def _argument(key: str) -> str:
    """An argument of prompts_from_arrays from a key: `encoder_padding_mask` is `encoder_mask`."""
    stack = "encoder" if key.startswith("encoder_") else "decoder"
    return f"{stack}_mask" if key.endswith("padding_mask") else f"{stack}_ids"


def _read_batch(item: object, keys: Keys, what: str) -> Batch:
    if isinstance(item, Mapping) and any(key in item for key in (*keys.ids, *keys.masks)):
        return Batch(arrays=_read_arrays(item, keys, what))
    texts, is_scalar = _read_texts(item, keys.texts, (), what)
    return Batch(texts=texts, is_scalar=is_scalar)


def _read_texts(
    x: object, keys: tuple[str, ...], required: tuple[str, ...], what: str
) -> tuple[Texts, bool]:
    if not isinstance(x, Mapping):
        if len(required) > 1:
            raise ValueError(f"{what}: must be a dict with {_names(required)}, got {_describe(x)}")
        column, is_scalar = _read_column(x, what)
        return {keys[0]: column}, is_scalar
    unknown = [key for key in x if key not in keys]
    if unknown:
        raise ValueError(f"{what}: must have keys of {_names(keys)}, got {_names(unknown)}")
    missing = [key for key in (required or keys[:1]) if key not in x]
    if missing:
        raise ValueError(f"{what}: must have {_names(missing)}, got {_names(list(x))}")
    columns = {key: _read_column(x[key], f"{what}[{key!r}]") for key in x}
    lengths = {len(column) for column, is_scalar in columns.values() if not is_scalar}
    if len(lengths) > 1:
        counts = ", ".join(f"{len(column)} in {key!r}" for key, (column, _) in columns.items())
        raise ValueError(f"{what}: lists must have one length, got {counts}")
    count = lengths.pop() if lengths else 1
    texts = {
        key: column * count if is_scalar else column for key, (column, is_scalar) in columns.items()
    }
    return texts, all(is_scalar for _, is_scalar in columns.values())


def _read_column(value: object, what: str) -> tuple[list[str], bool]:
    """Texts, and whether it was a single one."""
    if isinstance(value, str | bytes):
        return [_text(value, what)], True
    array = _as_array(value)
    if array is not None:
        if array.ndim > 1:
            raise ValueError(f"{what}: must have shape [B], got {list(array.shape)}")
        values = array.reshape(-1).tolist()
        return [_text(item, f"{what}[{i}]") for i, item in enumerate(values)], array.ndim == 0
    if isinstance(value, Sequence):
        return [_text(item, f"{what}[{i}]") for i, item in enumerate(value)], False
    raise TypeError(f"{what}: must be text or a list of texts, got {_describe(value)}")


def _text(value: object, what: str) -> str:
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{what}: must be UTF-8, got {value[:20]!r}") from error
    if not isinstance(value, str):
        raise TypeError(f"{what}: must be text, got {_describe(value)}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:  # half of a surrogate pair
        raise ValueError(f"{what}: must be UTF-8, got {value[:20]!r}") from error
    return str(value)


def _as_array(value: Any) -> npt.NDArray[Any] | None:  # noqa: ANN401
    """Arrays of texts, those of numpy and those that turn into numpy's; None for others."""
    if isinstance(value, np.generic | np.ndarray):
        return np.asarray(value)
    if hasattr(value, "numpy") and hasattr(value, "dtype"):
        return np.asarray(value.numpy())
    return None


def _read_arrays(item: Mapping[Any, Any], keys: Keys, what: str) -> Arrays:
    known = (*keys.ids, *keys.masks)
    unknown = [key for key in item if key not in known]
    if unknown:
        raise ValueError(f"{what}: must have keys of {_names(known)}, got {_names(unknown)}")
    if keys.ids[0] not in item:
        raise ValueError(f"{what}: must have {_names(keys.ids[:1])}, got {_names(list(item))}")
    return {key: as_ids(value, key) for key, value in item.items() if value is not None}


def _names(names: Iterable[object]) -> str:
    return ", ".join(repr(name) for name in names)


def _describe(value: object) -> str:
    array = _as_array(value)
    if array is not None:
        return f"an array of {array.dtype}, shape {list(array.shape)}"
    return type(value).__name__
