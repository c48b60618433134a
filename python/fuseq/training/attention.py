# SPDX-License-Identifier: Apache-2.0
"""Attention in training: torch's fused kernel, with what a spec adds to the scores."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fuseq.training.layers import Linear, Norm
from fuseq.training.rows_of_tokens import Layout

# The score of a key that is not seen; finite, also in bfloat16: padding may see no key at all, and
# must not become NaN, which would reach real rows as 0 * NaN.
_HIDDEN = -1e30


class Attention(nn.Module):
    """Self or cross attention of one layer; its parts are called as in the engine's weight table.

    Args:
        spec: A stack's fields.
        layer: Its index, which chooses the window and the rotary frequencies.
        key_width: Width of what keys and values come from.
        is_self: Whether keys come from the rows themselves; only then there are positions.
        dropout: Of the probabilities.
    """

    def __init__(
        self, spec: Mapping[str, Any], layer: int, key_width: int, is_self: bool, dropout: float
    ) -> None:
        """Makes the parameters, not yet filled."""
        super().__init__()
        self.heads, self.kv_heads = int(spec["heads"]), int(spec["kv_heads"])
        self.head_dim = int(spec["head_dim"])
        self.scale = float(spec["score_scale"]) or 1 / math.sqrt(self.head_dim)
        self.cap = float(spec["score_cap"])
        self.dropout = dropout
        width, bias = int(spec["dim"]), bool(spec["qkv_bias"])
        self.q = Linear(width, self.heads * self.head_dim, bias)
        self.k = Linear(key_width, self.kv_heads * self.head_dim, bias)
        self.v = Linear(key_width, self.kv_heads * self.head_dim, bias)
        self.o = Linear(self.heads * self.head_dim, width, bool(spec["out_bias"]))
        self.q_norm = self.k_norm = None
        self.frequencies: list[float] = []
        self.window = 0
        if is_self:
            if spec["qk_norm"]:
                self.q_norm = Norm(self.head_dim, spec["norm"], spec["norm_eps"])
                self.k_norm = Norm(self.head_dim, spec["norm"], spec["norm_eps"])
            if spec["rope"]:
                self.frequencies = spec["rope"][layer % len(spec["rope"])]
            self.window = int(spec["windows"][layer % len(spec["windows"])])

    def forward(
        self,
        x: Tensor,
        source: Tensor,
        *,
        layout: Layout,
        source_layout: Layout,
        is_causal: bool = False,
        bias: Tensor | None = None,
    ) -> Tensor:
        """Attends.

        Args:
            x: [N, D], rows of a batch [B, T].
            source: [M, D'], what keys and values come from, rows of a batch [B, S]; x itself in
                self attention.
            layout: Where x lies.
            source_layout: Where the source lies, and which of it may be seen.
            is_causal: Whether a row sees no row after it.
            bias: float32 [1, H, T, S], added to the scores; None: nothing.

        Returns:
            [N, D].
        """
        q = self._heads(layout.spread(self.q(x)), self.heads)
        k = self._heads(source_layout.spread(self.k(source)), self.kv_heads)
        v = self._heads(source_layout.spread(self.v(source)), self.kv_heads)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if self.frequencies:
            q, k = self._rotate(q), self._rotate(k)
        if self.kv_heads != self.heads:
            k = k.repeat_interleave(self.heads // self.kv_heads, dim=1)
            v = v.repeat_interleave(self.heads // self.kv_heads, dim=1)
        v = v.to(q.dtype)
        seen = self._seen(q.shape[2], k.shape[2], is_causal, source_layout.key_mask, q.device)
        dropout = self.dropout if self.training else 0.0
        if self.cap:
            mixed = self._capped(q, k, v, seen, bias, dropout)
        elif bias is None:
            mixed = functional.scaled_dot_product_attention(
                q, k, v, seen, dropout, is_causal=is_causal and seen is None, scale=self.scale
            )
        else:
            scores = bias if seen is None else bias.masked_fill(~seen, _HIDDEN)
            mixed = functional.scaled_dot_product_attention(
                q, k, v, scores.to(q.dtype), dropout, scale=self.scale
            )
        return self.o(layout.pack(mixed.transpose(1, 2).flatten(2)))

    def _heads(self, rows: Tensor, heads: int) -> Tensor:
        """[B, T, H * E] as [B, H, T, E]."""
        return rows.unflatten(-1, (heads, self.head_dim)).transpose(1, 2)

    def _rotate(self, x: Tensor) -> Tensor:
        """Rotary positions over halves, as the engine turns them."""
        frequencies = torch.tensor(self.frequencies, device=x.device)
        positions = torch.arange(x.shape[2], device=x.device, dtype=torch.float32)
        angles = positions[:, None] * frequencies
        cosine, sine = angles.cos(), angles.sin()
        a, b = x.float().chunk(2, dim=-1)
        return torch.cat([a * cosine - b * sine, b * cosine + a * sine], -1).to(x.dtype)

    def _seen(
        self, T: int, S: int, is_causal: bool, key_mask: Tensor | None, device: torch.device
    ) -> Tensor | None:
        """bool, broadcast over [B, H, T, S]; None where `is_causal` alone says it."""
        seen = None if key_mask is None else key_mask[:, None, None, :]
        has_window = 0 < self.window < S
        # A bias or a cap has to have the causal part written out.
        if is_causal and (seen is not None or has_window or self._writes_scores):
            causal = torch.ones(T, S, dtype=torch.bool, device=device).tril()
            seen = causal if seen is None else seen & causal
        if has_window:
            near = torch.ones(T, S, dtype=torch.bool, device=device).triu(1 - self.window)
            seen = near if seen is None else seen & near
        return seen

    @property
    def _writes_scores(self) -> bool:
        return self.cap > 0 or self.has_bias

    has_bias: bool = False  # set by a stack with relative positions

    def _capped(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        seen: Tensor | None,
        bias: Tensor | None,
        dropout: float,
    ) -> Tensor:
        """Attention whose scores are c tanh(score / c), which no fused kernel has."""
        scores = (q @ k.transpose(-1, -2)).float() * self.scale
        scores = self.cap * torch.tanh(scores / self.cap)
        if bias is not None:
            scores = scores + bias
        if seen is not None:
            scores = scores.masked_fill(~seen, _HIDDEN)
        probabilities = functional.dropout(scores.softmax(-1), dropout, training=dropout > 0)
        return probabilities.to(v.dtype) @ v
