# SPDX-License-Identifier: Apache-2.0
"""TokenRows: the tokens of a batch as rows, without the padding between them."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """Where rows [N, …] lie in a batch [B, T, …].

    Attributes:
        shape: (B, T).
        kept: int64 [N], increasing, the cells of the batch, counted row by row, that there are rows
            of; None: N = B * T, all of them.
        key_mask: bool [B, T], True at cells that may be attended to; None: all.
    """

    shape: tuple[int, int]
    kept: Tensor | None = None
    key_mask: Tensor | None = None

    def spread(self, rows: Tensor) -> Tensor:
        """Rows [N, W] as a batch [B, T, W], 0 where there is no row."""
        if self.kept is not None:
            rows = _Spread.apply(rows, self.kept, self.shape[0] * self.shape[1])
        return rows.unflatten(0, self.shape)

    def pack(self, batch: Tensor) -> Tensor:
        """The rows [N, W] of a batch [B, T, W]."""
        rows = batch.flatten(0, 1)
        return rows if self.kept is None else _Pack.apply(rows, self.kept)


@dataclass(frozen=True)
class TokenRows:
    """What a stack reads.

    Attributes:
        ids: int64 [N].
        layout: Where they lie.
    """

    ids: Tensor
    layout: Layout

    @classmethod
    def of(cls, ids: Tensor, mask: Tensor | None = None) -> "TokenRows":
        """All cells of ids [B, T], with padding; the mask says what may be attended to."""
        return cls(ids.flatten(), Layout((ids.shape[0], ids.shape[1]), None, mask))


# Rows are copied to cells, and back, each by the gradient of the other: torch's own gradients of
# indexing add rows one by one, as if two could fall on one cell.


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, rows: Tensor, kept: Tensor, count: int) -> Tensor:  # noqa: ANN401
        context.save_for_backward(kept)
        return _to_cells(rows, kept, count)

    @staticmethod
    def backward(context: Any, outer: Tensor) -> tuple[Any, ...]:  # noqa: ANN401
        (kept,) = context.saved_tensors
        return outer.index_select(0, kept), None, None


class _Pack(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, cells: Tensor, kept: Tensor) -> Tensor:  # noqa: ANN401
        context.save_for_backward(kept)
        context.count = cells.shape[0]
        return cells.index_select(0, kept)

    @staticmethod
    def backward(context: Any, outer: Tensor) -> tuple[Any, ...]:  # noqa: ANN401
        (kept,) = context.saved_tensors
        return _to_cells(outer, kept, context.count), None


def _to_cells(rows: Tensor, kept: Tensor, count: int) -> Tensor:
    return rows.new_zeros(count, *rows.shape[1:]).index_copy_(0, kept, rows)
