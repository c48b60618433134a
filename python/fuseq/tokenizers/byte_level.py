# SPDX-License-Identifier: Apache-2.0
"""The alphabet of byte-level BPE: one printable symbol for each of the 256 bytes."""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

_PRINTABLE = (range(0x21, 0x7F), range(0xA1, 0xAD), range(0xAE, 0x100))


@cache
def byte_symbols() -> tuple[str, ...]:
    """The symbol of each byte, as GPT-2 chose them.

    A byte that is a printable Latin-1 letter stands for itself, the others take the letters from
    U+0100 on, in order; so a blank is "Ġ".

    Returns:
        256 letters.

    Example:
        >>> byte_symbols()[ord(" ")]
        'Ġ'
    """
    symbols = []
    for byte in range(256):
        if any(byte in letters for letters in _PRINTABLE):
            symbols.append(chr(byte))
        else:
            moved = sum(not any(b in letters for letters in _PRINTABLE) for b in range(byte))
            symbols.append(chr(256 + moved))
    return tuple(symbols)


@cache
def _bytes_of_symbols() -> Mapping[str, int]:
    return MappingProxyType({symbol: byte for byte, symbol in enumerate(byte_symbols())})


def token_to_bytes(token: str) -> bytes:
    """What a token stands for.

    Args:
        token: Symbols of the alphabet; a token with any other letter stands for itself, in UTF-8.

    Returns:
        The bytes; they need not be whole letters.

    Example:
        >>> token_to_bytes("Ġcaf")
        b' caf'
    """
    symbols = _bytes_of_symbols()
    try:
        return bytes([symbols[symbol] for symbol in token])
    except KeyError:
        return token.encode("utf-8")
