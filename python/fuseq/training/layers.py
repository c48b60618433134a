# SPDX-License-Identifier: Apache-2.0
"""Linear, norm and the activations, as fields of a spec name them."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": functional.relu,
    "gelu": functional.gelu,
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
    "silu": functional.silu,
    "tanh": torch.tanh,
}


class Linear(nn.Module):
    """y = x W^T + b, and what an adapter adds.

    Attributes:
        weight: [O, I].
        bias: [O], or None.
        adapter: A module from x [..., I] to what is added to y [..., O]; None: there is none.
    """

    def __init__(self, inputs: int, outputs: int, bias: bool) -> None:
        """Makes the parameters, not yet filled."""
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.empty(outputs)) if bias else None
        self.adapter: nn.Module | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Computes y [..., O] of x [..., I]."""
        y = functional.linear(x, self.weight, self.bias)
        return y if self.adapter is None else y + self.adapter(x)


class Norm(nn.Module):
    """A norm over the last dimension, computed in float32.

    Attributes:
        kind: "layer", "rms" or "rms_plus_one", as `StackSpec.norm` says.
        weight: [D].
        bias: [D], or None for the RMS norms.
    """

    def __init__(self, width: int, kind: str, eps: float) -> None:
        """Makes the parameters, not yet filled."""
        super().__init__()
        self.kind = kind
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(width))
        self.bias = nn.Parameter(torch.empty(width)) if kind == "layer" else None

    def forward(self, x: Tensor) -> Tensor:
        """Computes the norm of x [..., D]."""
        width = self.weight.shape
        if self.kind == "layer":
            return functional.layer_norm(x, width, self.weight, self.bias, self.eps)
        weight = self.weight + 1 if self.kind == "rms_plus_one" else self.weight
        values = x.float()
        scale = torch.rsqrt(values.square().mean(-1, keepdim=True) + self.eps)
        return (values * scale * weight).to(x.dtype)
