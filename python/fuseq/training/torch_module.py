# SPDX-License-Identifier: Apache-2.0
"""TransformerModule: one torch module for every spec, with the engine's names for its weights."""

import json
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from fuseq.training.attention import Attention
from fuseq.training.layers import ACTIVATIONS, Linear, Norm
from fuseq.training.rows_of_tokens import Layout, TokenRows

Spec = Mapping[str, Any]


class FeedForward(nn.Module):
    """down(act(up(x))), or down(act(gate(x)) up(x))."""

    def __init__(self, spec: Spec, dropout: float) -> None:
        """Makes the parameters, not yet filled."""
        super().__init__()
        width, inner, bias = int(spec["dim"]), int(spec["ffn_dim"]), bool(spec["ffn_bias"])
        self.gate = Linear(width, inner, bias) if spec["gated_ffn"] else None
        self.up = Linear(width, inner, bias)
        self.down = Linear(inner, width, bias)
        self.act = ACTIVATIONS[spec["act"]]
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """Computes [..., D] of x [..., D]."""
        if self.gate is not None:
            hidden = self.act(self.gate(x)) * self.up(x)
        else:
            hidden = self.act(self.up(x))
        return self.down(functional.dropout(hidden, self.dropout, self.training))


class Layer(nn.Module):
    """One transformer layer; every difference between families is a field of the spec."""

    def __init__(
        self, spec: Spec, index: int, encoder_width: int, rates: Mapping[str, float]
    ) -> None:
        """Makes the parameters, not yet filled; encoder_width 0: no cross attention."""
        super().__init__()
        self.place = spec["place"]
        self.dropout = rates["dropout"]
        attention = rates["attention_dropout"]
        self.attn = Attention(spec, index, int(spec["dim"]), True, attention)
        self._add_norms("attn", spec)
        self.cross_attn = None
        if encoder_width:
            self.cross_attn = Attention(spec, index, encoder_width, False, attention)
            self._add_norms("cross_attn", spec)
        self.ffn = FeedForward(spec, rates["activation_dropout"])
        self._add_norms("ffn", spec)

    def _add_norms(self, name: str, spec: Spec) -> None:
        names = [f"{name}_norm"] + ([f"{name}_post_norm"] if self.place == "both" else [])
        for each in names:
            self.add_module(each, Norm(int(spec["dim"]), spec["norm"], spec["norm_eps"]))

    def forward(
        self,
        x: Tensor,
        layout: Layout,
        is_causal: bool,
        bias: Tensor | None,
        states: Tensor | None,
        states_layout: Layout | None,
    ) -> Tensor:
        """Computes rows [N, D] of rows x [N, D]; states [M, D] are the encoder's."""
        own = {"layout": layout, "source_layout": layout, "is_causal": is_causal, "bias": bias}
        x = self._around("attn", x, lambda y: self.attn(y, y, **own))
        if self.cross_attn is not None:
            cross, where = self.cross_attn, {"layout": layout, "source_layout": states_layout}
            x = self._around("cross_attn", x, lambda y: cross(y, states, **where))
        return self._around("ffn", x, self.ffn)

    def _around(self, name: str, x: Tensor, function: Any) -> Tensor:  # noqa: ANN401
        norm = getattr(self, f"{name}_norm")
        y = function(x if self.place == "post" else norm(x))
        y = functional.dropout(y, self.dropout, self.training)
        if self.place == "both":
            y = getattr(self, f"{name}_post_norm")(y)
        return norm(x + y) if self.place == "post" else x + y


class Stack(nn.Module):
    """The encoder or the decoder, without token embeddings."""

    def __init__(self, spec: Spec, encoder_width: int, rates: Mapping[str, float]) -> None:
        """Makes the parameters, not yet filled."""
        super().__init__()
        self.spec = spec
        self.is_causal = False
        self.dropout = rates["dropout"]
        width = int(spec["dim"])
        if spec["positions"] == "table":
            rows = int(spec["position_offset"]) + int(spec["max_positions"])
            self.positions = nn.Parameter(torch.empty(rows, width))
        if spec["positions"] == "relative":
            buckets = int(spec["relative"]["buckets"])
            self.relative_bias = nn.Parameter(torch.empty(buckets, int(spec["heads"])))
        norm = (width, spec["norm"], float(spec["norm_eps"]))
        self.embed_norm = Norm(*norm) if spec["embed_norm"] else None
        self.num_layers = int(spec["layers"])
        for index in range(self.num_layers):
            layer = Layer(spec, index, encoder_width, rates)
            layer.attn.has_bias = spec["positions"] == "relative"
            self.add_module(str(index), layer)
        self.final_norm = Norm(*norm) if spec["final_norm"] else None
        self.activation_checkpointing = False

    def layers(self) -> list[nn.Module]:
        """The layers in order."""
        return [self.get_submodule(str(index)) for index in range(self.num_layers)]

    def forward(
        self,
        x: Tensor,
        layout: Layout,
        states: Tensor | None = None,
        states_layout: Layout | None = None,
    ) -> Tensor:
        """Runs the stack.

        Args:
            x: Embedded tokens [N, D], scaled.
            layout: Where they lie in a batch [B, T].
            states: The encoder's rows [M, D], or None.
            states_layout: Where those lie in a batch [B, S].

        Returns:
            [N, D] after the last norm.
        """
        T = layout.shape[1]
        if self.spec["positions"] == "table":
            offset = int(self.spec["position_offset"])
            table = self.positions[offset : offset + T]
            if layout.kept is None:
                x = (x.unflatten(0, layout.shape) + table).flatten(0, 1)
            else:
                x = x + functional.embedding(layout.kept % T, table)
        if self.embed_norm is not None:
            x = self.embed_norm(x)
        x = functional.dropout(x, self.dropout, self.training)
        bias = self._position_bias(T, x.device) if self.spec["positions"] == "relative" else None
        arguments = (layout, self.is_causal, bias, states, states_layout)
        for layer in self.layers():
            if self.activation_checkpointing and self.training:
                x = checkpoint(layer, x, *arguments, use_reentrant=False)
            else:
                x = layer(x, *arguments)
        return x if self.final_norm is None else self.final_norm(x)

    def _position_bias(self, T: int, device: torch.device) -> Tensor:
        """T5's bias [1, H, T, T] (Raffel et al. 2020, section 2.1), as the engine's buckets say."""
        relative = self.spec["relative"]
        positions = torch.arange(T, device=device)
        distance = positions[None, :] - positions[:, None]
        buckets = int(relative["buckets"])
        first = torch.zeros_like(distance)
        if relative["bidirectional"]:
            buckets //= 2
            first = torch.where(distance > 0, buckets, 0)
            steps = distance.abs()
        else:
            steps = (-distance).clamp(min=0)
        exact = buckets // 2
        share = torch.log(steps.clamp(min=1).float() / exact)
        share = share / math.log(int(relative["max_distance"]) / exact)
        far = (exact + (share * (buckets - exact)).long()).clamp(max=buckets - 1)
        bucket = first + torch.where(steps < exact, steps, far)
        return self.relative_bias[bucket].permute(2, 0, 1)[None]


class Embeddings(nn.Module):
    """Rows of tokens, and of the first token type where a model has types."""

    def __init__(self, vocab: int, width: int, types: int) -> None:
        """Makes the parameters, not yet filled."""
        super().__init__()
        self.tokens = nn.Parameter(torch.empty(vocab, width))
        self.types = nn.Parameter(torch.empty(types, width)) if types else None


class Head(nn.Module):
    """What lies between the last hidden rows and the logits."""

    def __init__(self, spec: Spec) -> None:
        """Makes the parameters, not yet filled."""
        super().__init__()
        head, decoder = spec["head"], spec["decoder"]
        width, vocab = int(decoder["dim"]), int(spec["vocab"])
        self.dense = self.norm = None
        if head["transform"]:
            self.dense = Linear(width, width, True)
            self.norm = Norm(width, decoder["norm"], decoder["norm_eps"])
        self.act = ACTIVATIONS[head["transform_act"]]
        self.weight = None if head["tied"] else nn.Parameter(torch.empty(vocab, width))
        self.bias = nn.Parameter(torch.empty(vocab)) if head["bias"] else None
        # BART's and Marian's `final_logits_bias`, which transformers does not train either.
        self.bias_is_fixed = head["tied"] and not head["transform"]
        self.scale, self.cap = float(head["scale"]), float(head["cap"])

    def forward(self, hidden: Tensor) -> Tensor:
        """What the output matrix multiplies, [..., D]."""
        if self.dense is not None and self.norm is not None:
            hidden = self.norm(self.act(self.dense(hidden)))
        return hidden if self.scale == 1 else hidden * self.scale


class TransformerModule(nn.Module):
    """A model in torch, made from its spec.

    The names of the parameters are those of the engine's weight table; `weights.py` moves values
    from and to the engine.

    Args:
        spec: The spec, every field given (`Backbone.spec`).

    Attributes:
        encoder: A `Stack`, or None.
        decoder: A `Stack`.
    """

    def __init__(self, spec: Spec) -> None:
        """Makes the parameters, not yet filled."""
        super().__init__()
        self.spec = json.loads(json.dumps(spec))
        rates = {k: float(spec[k]) for k in ("dropout", "attention_dropout", "activation_dropout")}
        encoder, decoder = spec["encoder"], spec["decoder"]
        has_encoder = encoder["layers"] > 0
        width = int(spec["embed_dim"]) or int((encoder if has_encoder else decoder)["dim"])
        self.embed = Embeddings(int(spec["vocab"]), width, int(spec["token_types"]))
        self.embed_scale = float(spec["embed_scale"])
        self.encoder = Stack(encoder, 0, rates) if has_encoder else None
        self.decoder = Stack(decoder, int(encoder["dim"]) if has_encoder else 0, rates)
        self.decoder.is_causal = True
        self.pooler = Linear(encoder["dim"], encoder["dim"], True) if spec["pooler"] else None
        self.head = Head(spec)
        self.unfreeze()

    def unfreeze(self) -> None:
        """Makes all parameters trainable, but for a bias of the logits that nobody trains."""
        self.requires_grad_(True)
        if self.head.bias is not None and self.head.bias_is_fixed:
            self.head.bias.requires_grad_(False)

    def set_activation_checkpointing(self, value: bool) -> None:
        """Whether the activations inside layers are computed again in the backward pass."""
        for stack in (self.encoder, self.decoder):
            if stack is not None:
                stack.activation_checkpointing = value

    @property
    def output_matrix(self) -> Tensor:
        """[V, D]: the head's own, or the token table."""
        return self.embed.tokens if self.head.weight is None else self.head.weight

    def embed_tokens(self, ids: Tensor, *, sparse: bool = False) -> Tensor:
        """Rows [N, D] of ids [N], scaled; the table's gradient may be a sparse tensor."""
        x = functional.embedding(ids, self.embed.tokens, sparse=sparse)
        if self.embed_scale != 1:
            x = x * self.embed_scale
        return x if self.embed.types is None else x + self.embed.types[0]

    is_sharded: bool = False  # set where parameters are cut over processes

    def hidden_rows(
        self, rows: TokenRows, source: TokenRows | None = None, *, sparse: bool = False
    ) -> Tensor:
        """Runs the stacks over rows, which is how padding is left out.

        Args:
            rows: What a model without an encoder, or the decoder, reads.
            source: What the encoder reads.
            sparse: Whether the gradient of the token table may be a sparse tensor.

        Returns:
            The last hidden rows [N, D], before the head.
        """
        states = source_layout = None
        if self.encoder is not None:
            assert source is not None
            source_layout = source.layout
            states = self.encoder(self.embed_tokens(source.ids, sparse=sparse), source_layout)
        x = self.embed_tokens(rows.ids, sparse=sparse)
        return self.decoder(x, rows.layout, states, source_layout)

    def encode(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """The encoder's states [B, S, D] of ids [B, S]; mask bool [B, S], None: all are real."""
        assert self.encoder is not None
        rows = TokenRows.of(ids, mask)
        return self.encoder(self.embed_tokens(rows.ids), rows.layout).unflatten(0, ids.shape)

    def hidden(self, inputs: Mapping[str, Tensor | None]) -> Tensor:
        """The last hidden rows [B, T, D], before the head; inputs as `forward` takes them."""
        start = "" if self.encoder is None else "decoder_"
        ids, source_ids = inputs[f"{start}token_ids"], inputs.get("encoder_token_ids")
        assert ids is not None
        source = None
        if self.encoder is not None:
            assert source_ids is not None
            source = TokenRows.of(source_ids, inputs.get("encoder_padding_mask"))
        rows = TokenRows.of(ids, inputs.get(f"{start}padding_mask"))
        return self.hidden_rows(rows, source).unflatten(0, ids.shape)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [..., V] of the last hidden rows [..., D]."""
        y = functional.linear(self.head(hidden), self.output_matrix, self.head.bias)
        return y if not self.head.cap else self.head.cap * torch.tanh(y / self.head.cap)

    def forward(self, inputs: Mapping[str, Tensor | None]) -> Tensor:
        """Computes logits.

        Args:
            inputs: `token_ids` and `padding_mask` [B, T]; with an encoder `encoder_token_ids`,
                `encoder_padding_mask` [B, S], `decoder_token_ids`, `decoder_padding_mask` [B, T].
                Masks are bool and may be None or absent.

        Returns:
            [B, T, V].
        """
        return self.logits(self.hidden(inputs))
