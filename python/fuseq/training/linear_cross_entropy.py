# SPDX-License-Identifier: Apache-2.0
"""Output matrix and cross entropy in one, without the logits of all rows in memory.

Logits of a few rows at a time become the gradient at once, in place: of N x V floats only one block
is ever there, where a matrix product followed by a cross entropy keeps three or four. The idea is
that of Hsu et al. 2024, "Liger Kernel", https://arxiv.org/abs/2410.10989, section 3.2.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_BLOCK_BYTES = {"cpu": 64 << 20, "cuda": 512 << 20}
_FEWEST_ROWS = 128  # below, the matrix products become slow


@dataclass(frozen=True)
class CrossEntropy:
    """What `linear_cross_entropy` computes.

    Attributes:
        loss: Scalar float32, the weighted sum, smoothed where asked for; it has a gradient.
        losses: float32 [N], the cross entropy of each row, without its weight or a gradient.
        predictions: int64 [N], the id of the largest logit of each row.
    """

    loss: Tensor
    losses: Tensor
    predictions: Tensor


def linear_cross_entropy(
    hidden: Tensor,
    matrix: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    weights: Tensor,
    *,
    cap: float = 0.0,
    label_smoothing: float = 0.0,
    block_rows: int | None = None,
) -> CrossEntropy:
    """Computes sum_n weights[n] * (logsumexp(z_n) - z_n[targets[n]]), z_n = W hidden_n + b.

    With label smoothing e the target is a distribution: 1 - e + e/V at the target, e/V elsewhere;
    z_n[targets[n]] becomes (1 - e) z_n[targets[n]] + e mean(z_n).

    Args:
        hidden: [N, D].
        matrix: W, [V, D].
        bias: b, [V], or None.
        targets: int64 [N], in 0 ... V - 1.
        weights: float32 [N], no gradient.
        cap: c > 0: logits become c tanh(z / c).
        label_smoothing: e, in [0, 1); in the loss and its gradient, not in the rows' losses.
        block_rows: Rows of logits at a time; None: as many as fill a block of memory.

    Returns:
        The loss, the rows' losses, and predictions. Under autocast the products are of its dtype;
        the softmax is always float32.
    """
    dtype = hidden.dtype
    if torch.is_autocast_enabled(hidden.device.type):
        dtype = torch.get_autocast_dtype(hidden.device.type)
    if block_rows is None:
        bytes_of_block = _BLOCK_BYTES.get(hidden.device.type, 64 << 20)
        block_rows = max(_FEWEST_ROWS, bytes_of_block // (4 * matrix.shape[0]))
    loss, losses, predictions = _LinearCrossEntropy.apply(
        hidden,
        matrix,
        bias,
        targets,
        weights,
        cap,
        label_smoothing,
        block_rows,
        dtype,
        torch.is_grad_enabled(),
    )
    return CrossEntropy(loss, losses, predictions)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,  # noqa: ANN401
        hidden: Tensor,
        matrix: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        weights: Tensor,
        cap: float,
        smoothing: float,
        block_rows: int,
        dtype: torch.dtype,
        has_gradient: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        needs = [need and has_gradient for need in context.needs_input_grad[:3]]
        needs_hidden, needs_matrix, needs_bias = needs
        with torch.autocast(hidden.device.type, enabled=False):
            rows, table = hidden.to(dtype), matrix.to(dtype)
            hidden_gradient = torch.empty_like(hidden) if needs_hidden else None
            matrix_gradient: Tensor | None = None
            bias_gradient = torch.zeros_like(bias) if needs_bias and bias is not None else None
            losses = torch.empty_like(weights)
            smoothed = losses if smoothing == 0 else torch.empty_like(weights)
            predictions = torch.empty_like(targets)
            for first in range(0, len(rows), block_rows):
                block = slice(first, first + block_rows)
                logits = (rows[block] @ table.t()).float()
                if bias is not None:
                    logits += bias
                slope = None
                if cap:
                    logits = torch.tanh(logits / cap)
                    slope = 1 - logits.square() if any(needs) else None
                    logits *= cap
                wanted = targets[block, None]
                top, predictions[block] = logits.max(-1)
                wanted_logits = logits.gather(-1, wanted)[:, 0]
                losses[block] = top - wanted_logits
                # The largest probability is at least 1/V, so that its logarithm is safe.
                probabilities = logits.softmax(-1)
                losses[block] -= probabilities.gather(-1, predictions[block, None])[:, 0].log()
                if smoothing:
                    excess = wanted_logits - logits.mean(-1)
                    smoothed[block] = losses[block] + smoothing * excess
                if not any(needs):
                    continue
                gradient = probabilities
                gradient.scatter_add_(-1, wanted, gradient.new_full(wanted.shape, smoothing - 1))
                if smoothing:
                    gradient -= smoothing / len(table)
                gradient *= weights[block, None]
                if slope is not None:
                    gradient *= slope
                if bias_gradient is not None:
                    bias_gradient += gradient.sum(0)
                gradient = gradient.to(dtype)
                if hidden_gradient is not None:
                    hidden_gradient[block] = gradient @ table
                if needs_matrix:
                    if matrix_gradient is None:
                        matrix_gradient = (gradient.t() @ rows[block]).to(matrix.dtype)
                    elif dtype == matrix.dtype:
                        matrix_gradient.addmm_(gradient.t(), rows[block])
                    else:
                        matrix_gradient += gradient.t() @ rows[block]
        if needs_matrix and matrix_gradient is None:  # no rows
            matrix_gradient = torch.zeros_like(matrix)
        context.gradients = [hidden_gradient, matrix_gradient, bias_gradient]
        context.mark_non_differentiable(losses, predictions)
        return (smoothed * weights).sum(), losses, predictions

    @staticmethod
    def backward(context: Any, outer: Tensor, *unused: Any) -> tuple[Any, ...]:  # noqa: ANN401
        gradients, context.gradients = context.gradients, None  # so that sums reuse their memory
        if gradients is None:
            raise RuntimeError(
                "backward: must be called once for a linear_cross_entropy, got another call, and "
                "the gradients are freed. Compute the loss again"
            )
        is_one = outer.device.type == "cpu" and float(outer) == 1.0
        for gradient in gradients:
            if gradient is not None and not is_one:
                gradient *= outer
        return (*gradients, *[None] * 7)
