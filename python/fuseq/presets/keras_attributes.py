# SPDX-License-Identifier: Apache-2.0
"""Short texts at the objects of an HDF5 file, read with every length and address checked.

The HDF5 library trusts the lengths and types that stand in the file: a damaged attribute can make
it allocate gigabytes or crash. Keras writes object headers of version 1 and texts of variable
length, which lie in global heaps; these are read here by hand.
"""

from collections.abc import Iterator
from typing import Any, BinaryIO

_MAX_LENGTH = 1024  # bytes of a text
_MAX_BLOCK = 1 << 20  # bytes of a header's block
_MAX_BLOCKS = 64
_CONTINUATION, _ATTRIBUTE = 0x10, 0x0C
_FIXED, _VARIABLE = 3, 9  # classes of types
_SCALAR_RANK = 0


class OtherHeaderError(Exception):
    """The object's header has a form that Keras does not write."""


def read_text(raw: BinaryIO, item: Any, name: str) -> str | None:  # noqa: ANN401
    """Reads an attribute that is one text.

    Args:
        raw: The file, opened a second time.
        item: The group or dataset of h5py.
        name: The attribute's name.

    Returns:
        The text; None where there is no such attribute.

    Raises:
        ValueError: The attribute is not one short text.
    """
    import h5py

    start = item.file.userblock_size
    try:
        for data in _attributes(raw, start, int(h5py.h5o.get_info(item.id).addr)):
            found = _split(data)
            if found is not None and found[0] == name.encode():
                return _text(raw, start, name, *found[1:])
    except OtherHeaderError:
        return _read_with_library(item, name)
    return None


def _attributes(raw: BinaryIO, start: int, address: int) -> Iterator[bytes]:
    """The messages of a header that are attributes."""
    head = _read(raw, start + address, 16)
    if head[0] != 1:
        raise OtherHeaderError
    blocks = [(address + 16, _number(head, 8, 4))]
    for number in range(_MAX_BLOCKS):
        if number == len(blocks):
            return
        place, length = blocks[number]
        if length > _MAX_BLOCK:
            raise ValueError(f"an object's header must be short, got {length} bytes")
        block = _read(raw, start + place, length)
        position = 0
        while position + 8 <= length:
            kind, size = _number(block, position, 2), _number(block, position + 2, 2)
            data = block[position + 8 : position + 8 + size]
            if kind == _ATTRIBUTE:
                yield data
            elif kind == _CONTINUATION:
                blocks.append((_number(data, 0, 8), _number(data, 8, 8)))
            position += 8 + size
    raise ValueError(f"an object's header must have at most {_MAX_BLOCKS} parts, got more")


def _split(data: bytes) -> tuple[bytes, bytes, bytes, bytes] | None:
    """Name, type, space and value of an attribute's message; None in a form that is not known."""
    version = _number(data, 0, 1)
    if version not in (1, 2, 3) or (version > 1 and data[1]):
        return None
    position = 9 if version == 3 else 8
    parts = []
    for place in (2, 4, 6):
        size = _number(data, place, 2)
        parts.append(data[position : position + size])
        position += -(-size // 8) * 8 if version == 1 else size
    name, kind, space = parts
    return name.rstrip(b"\0"), kind, space, data[position:]


def _text(raw: BinaryIO, start: int, name: str, kind: bytes, space: bytes, value: bytes) -> str:
    """The text of an attribute's parts."""
    class_, is_text = _number(kind, 0, 1) & 15, _number(kind, 1, 1) & 15 == 1
    if class_ == _FIXED and _number(space, 1, 1) == _SCALAR_RANK:
        length = _number(kind, 4, 4)
        text = value[:length]
    elif class_ == _VARIABLE and is_text and _number(space, 1, 1) == _SCALAR_RANK:
        length, address, index = (_number(value, a, b) for a, b in ((0, 4), (4, 8), (12, 4)))
        text = _heap_object(raw, start + address, index, length)
    else:
        raise ValueError(f'the attribute "{name}" must be one text, got another type')
    if length > _MAX_LENGTH or len(text) < length:
        raise ValueError(f'the attribute "{name}" must be a short text, got {length} bytes')
    return text.rstrip(b"\0").decode("utf-8")


def _heap_object(raw: BinaryIO, place: int, index: int, length: int) -> bytes:
    """One object of a global heap."""
    head = _read(raw, place, 16)
    size = _number(head, 8, 8)
    if head[:5] != b"GCOL\x01" or size > _MAX_BLOCK:
        raise ValueError("a text must lie in a heap, got none there")
    heap = _read(raw, place, size)
    position = 16
    while position + 16 <= size:
        found, length_there = _number(heap, position, 2), _number(heap, position + 8, 8)
        if found == index and found != 0:
            if length_there != length:
                break
            return heap[position + 16 : position + 16 + length]
        if found == 0:  # the free space at the end
            break
        position += 16 + -(-length_there // 8) * 8
    raise ValueError(f"object {index} of a heap must have {length} bytes, got none such")


def _read_with_library(item: Any, name: str) -> str | None:  # noqa: ANN401
    """The same by h5py, for files that tools have written anew; the type is checked first."""
    import h5py

    key = name.encode()
    if not h5py.h5a.exists(item.id, key):
        return None
    attribute = h5py.h5a.open(item.id, key)
    kind = attribute.get_type()
    is_text = kind.get_class() == h5py.h5t.STRING and attribute.shape == ()
    if not is_text or kind.get_size() > _MAX_LENGTH:
        raise ValueError(f'the attribute "{name}" must be one short text, got another type')
    value = item.attrs[name]
    return value.decode() if isinstance(value, bytes) else str(value)


def _read(raw: BinaryIO, place: int, length: int) -> bytes:
    if not 0 <= place < 1 << 62:
        raise ValueError(f"an address must lie in the file, got {place}")
    raw.seek(place)
    data = raw.read(length)
    if len(data) < length:
        raise ValueError(f"{length} bytes must be there at {place}, got {len(data)}")
    return data


def _number(data: bytes, place: int, length: int) -> int:
    if place + length > len(data):
        raise ValueError(f"{length} bytes must be there, got {max(len(data) - place, 0)}")
    return int.from_bytes(data[place : place + length], "little")
