# SPDX-License-Identifier: Apache-2.0
"""Clipping of gradients by Keras' formulas."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Clipping:
    """At most one way to keep gradients small; None or 0 is no way.

    Attributes:
        clipnorm: The greatest length of each tensor.
        clipvalue: The greatest absolute value of each number.
        global_clipnorm: The greatest length of all tensors together.
    """

    clipnorm: float | None = None
    clipvalue: float | None = None
    global_clipnorm: float | None = None

    @torch.no_grad()
    def apply(self, gradients: list[Tensor]) -> None:
        """Clips in place; gradients that are small enough keep their bits.

        Args:
            gradients: All gradients of one update.
        """
        if not gradients:
            return
        if self.clipnorm:
            limit = self.clipnorm
            norms = torch._foreach_norm(gradients)
            torch._foreach_mul_(gradients, [limit / norm.clamp(min=limit) for norm in norms])
        elif self.global_clipnorm:
            limit = self.global_clipnorm
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
            # A gradient that is not finite must show in all of them, and not set others to 0.
            torch._foreach_mul_(gradients, limit / norm.clamp(min=limit) + (norm - norm))
        elif self.clipvalue:
            torch._foreach_clamp_min_(gradients, -self.clipvalue)
            torch._foreach_clamp_max_(gradients, self.clipvalue)


@torch.no_grad()
def clip_norm(parameters: Iterable[Tensor], limit: float) -> float:
    """Scales all gradients so that their common norm is at most a limit, as torch does.

    Args:
        parameters: Those without a gradient are passed over.
        limit: Above 0; infinity: nothing is scaled.

    Returns:
        The norm before.
    """
    found = [parameter for parameter in parameters if parameter.grad is not None]
    gradients = [parameter.grad for parameter in found if parameter.grad is not None]
    if any(gradient.device.type != "cpu" or _is_cut(gradient) for gradient in gradients):
        norm = torch.nn.utils.clip_grad_norm_(found, limit)
        return float(norm.full_tensor() if _is_cut(norm) else norm)
    if not gradients:
        return 0.0
    value = float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))))
    if value > limit:  # gradients that are small enough are not written again
        torch._foreach_mul_(gradients, limit / (value + 1e-6))
    return value


def _is_cut(tensor: Tensor) -> bool:
    """Whether it is one process's part of a tensor."""
    return hasattr(tensor, "full_tensor")
