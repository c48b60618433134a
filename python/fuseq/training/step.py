# SPDX-License-Identifier: Apache-2.0
"""TrainingStep: from a batch to its loss and the sums of its metrics."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fuseq.training.batches import TrainingBatch
from fuseq.training.linear_cross_entropy import linear_cross_entropy
from fuseq.training.losses import Loss
from fuseq.training.metrics import Metric, Outputs, on_positions
from fuseq.training.rows_of_tokens import Layout, TokenRows
from fuseq.training.torch_module import TransformerModule

_FULL = 0.95  # of a batch's cells: from here on padding is computed with


class TrainingStep(nn.Module):
    """The forward pass of training, in one module, so that processes can share its gradients.

    Only positions whose weight is not 0 reach the output matrix, unless something looks at all.

    Args:
        module: The model.
        loss: Of one position.
        metrics: What else is summed.
    """

    def __init__(self, module: TransformerModule, loss: Loss, metrics: Sequence[Metric]) -> None:
        """Keeps the arguments."""
        super().__init__()
        self.module = module
        self.loss = loss
        self.metrics = metrics
        self.counts_padding = not all(metric.is_weighted for metric in metrics)
        self.looks_at_all = loss.function is not None or any(
            not metric.is_weighted or metric.needs_logits for metric in metrics
        )

    def tensors(self, batch: TrainingBatch, device: torch.device) -> dict[str, Any]:
        """The arguments of `forward` for a batch, on a device; padding is left out."""
        weights = batch.weights
        counted = weights != 0
        start = "decoder_" if "decoder_token_ids" in batch.inputs else ""
        source = None
        if start:
            mask = batch.inputs["encoder_padding_mask"]
            source = self._rows(batch.inputs["encoder_token_ids"], mask, mask, device)
        mask = batch.inputs[f"{start}padding_mask"]
        needed = np.ones_like(mask) if self.looks_at_all else mask | counted
        # A causal stack's padding behind the last real token is seen by padding alone.
        ends_in_padding = bool((mask[:, 1:] <= mask[:, :-1]).all())
        padding_counts = self.counts_padding or bool((counted & ~mask).any())
        seen = None if ends_in_padding and not padding_counts else mask
        rows = self._rows(batch.inputs[f"{start}token_ids"], seen, needed, device)
        kept = slice(None) if rows.layout.kept is None else np.flatnonzero(needed)
        looked_at = None
        if not self.looks_at_all:
            counted_rows = counted.reshape(-1)[kept]
            if not counted_rows.all():
                looked_at = _move(np.flatnonzero(counted_rows), device)
        return {
            "rows": rows,
            "source": source,
            "targets": _move(batch.targets.reshape(-1)[kept], device),
            "weights": _move(weights.reshape(-1)[kept], device),
            "looked_at": looked_at,
        }

    def _rows(
        self,
        ids: Any,  # noqa: ANN401
        mask: Any,  # noqa: ANN401
        needed: Any,  # noqa: ANN401
        device: torch.device,
    ) -> TokenRows:
        """The needed ids [B, T] as rows; a mask that hides nothing is left out."""
        shape = (ids.shape[0], ids.shape[1])
        kept = None
        # A few cells of padding cost less than copying rows to and fro.
        if needed.mean() < _FULL and needed.any():
            kept = np.flatnonzero(needed)
            ids = ids.reshape(-1)[kept]
        seen = None if mask is None or mask.all() else _move(mask, device)
        layout = Layout(shape, None if kept is None else _move(kept, device), seen)
        return TokenRows(_move(ids.reshape(-1), device), layout)

    def forward(
        self,
        rows: TokenRows,
        source: TokenRows | None,
        targets: Tensor,
        weights: Tensor,
        looked_at: Tensor | None,
        divisor: float,
        share: float,
    ) -> tuple[Tensor, Tensor]:
        """Computes the loss.

        Args:
            rows: N tokens, of the decoder.
            source: Those of the encoder, or None.
            targets: int64 [N].
            weights: float32 [N].
            looked_at: int64, which of the N rows reach the output matrix; None: all.
            divisor: What the weighted sum is divided by.
            share: This batch's of those whose gradients are added; for losses that are scalars.

        Returns:
            The loss, and float64 [2 M]: a sum and a count for each metric.
        """
        module, shape = self.module, rows.layout.shape
        # The head gives a tied table a dense gradient, to which a sparse one is added in place.
        is_tied = module.head.weight is None and module.embed.tokens.requires_grad
        hidden = module.hidden_rows(rows, source, sparse=is_tied and not module.is_sharded)
        if looked_at is not None:
            hidden, targets, weights = hidden[looked_at], targets[looked_at], weights[looked_at]
        logits = None
        if self.looks_at_all:
            logits = module.logits(hidden).float()
            losses = nn.functional.cross_entropy(logits, targets, reduction="none")
            values = losses
            if self.loss.function is not None:
                values = self._own(logits, targets, shape)
            elif self.loss.label_smoothing:
                values = nn.functional.cross_entropy(
                    logits, targets, reduction="none", label_smoothing=self.loss.label_smoothing
                )
            loss = values * share if values.ndim == 0 else (values * weights).sum() / divisor
            predictions = logits.argmax(-1)
        else:
            head = module.head
            result = linear_cross_entropy(
                head(hidden), module.output_matrix, head.bias, targets, weights / divisor,
                cap=head.cap, label_smoothing=self.loss.label_smoothing,
            )  # fmt: skip
            loss, losses, predictions = result.loss, result.losses, result.predictions
        outputs = Outputs(
            targets, weights, losses.detach(), predictions,
            None if logits is None else logits.detach(), shape if self.looks_at_all else None,
        )  # fmt: skip
        pairs = [sums for metric in self.metrics for sums in metric.sums(outputs)]
        sums = torch.stack(pairs) if pairs else torch.zeros(0, dtype=torch.float64)
        return loss, sums

    def _own(self, logits: Tensor, targets: Tensor, shape: tuple[int, int]) -> Tensor:
        """The values of a loss of the user's: [B * T], or a scalar."""
        assert self.loss.function is not None
        values = self.loss.function(targets.unflatten(0, shape), logits.unflatten(0, shape))
        if not isinstance(values, Tensor):
            raise TypeError(f"loss: must return a tensor, got {type(values).__name__}")
        return values if values.ndim == 0 else on_positions(values, shape, "loss")


def _move(array: Any, device: torch.device) -> Tensor:  # noqa: ANN401
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)
