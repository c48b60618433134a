# SPDX-License-Identifier: Apache-2.0
"""Rows of ids as padded arrays: start ids, tokens, end ids, padding."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]


def join(
    tokens: Sequence[int], length: int, start: Sequence[int] = (), end: Sequence[int] = ()
) -> list[int]:
    """One row without padding.

    Args:
        tokens: Cut so that all fits.
        length: The longest row, in tokens.
        start: Ids in front.
        end: Ids behind; they stay where tokens are cut.

    Returns:
        At most `length` ids.
    """
    room = max(length - len(start) - len(end), 0)
    return [*start, *tokens[:room], *end][:length]


def pad(rows: Sequence[Sequence[int]], length: int, pad_id: int) -> tuple[Ids, Mask]:
    """Puts rows into an array.

    Args:
        rows: B rows of at most `length` ids.
        length: Columns T.
        pad_id: Fills rows on the right.

    Returns:
        Ids [B, T] and the mask [B, T], True at ids of a row.
    """
    ids = np.full((len(rows), length), pad_id, np.int32)
    mask = np.zeros(ids.shape, np.bool_)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = True
    return ids, mask
