# SPDX-License-Identifier: Apache-2.0
"""What every kind of adapter shares: where adapters are, how they come and go."""

from collections.abc import Mapping
from numbers import Integral
from typing import Any

import torch
from torch import nn

from fuseq.training.layers import Linear
from fuseq.training.torch_module import TransformerModule


def linears(module: nn.Module) -> dict[str, Linear]:
    """The matrices of attention and feed-forward parts by our names, as "decoder.0.attn.q"."""
    return {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, Linear) and name.count(".") == 3
    }


def adapters(module: nn.Module) -> dict[str, Any]:
    """The adapters by the names of what they adapt."""
    return {
        name: layer.adapter for name, layer in linears(module).items() if layer.adapter is not None
    }


def check_bare(module: nn.Module, call: str) -> None:
    """Raises a ValueError where there are adapters already."""
    found = adapters(module)
    if found:
        raise ValueError(
            f"{call}: the model must have no adapters yet, got {len(found)}. Call merge_lora() "
            "first, or load the model again"
        )


def attach(module: nn.Module, made: Mapping[str, nn.Module], *, biases: bool) -> None:
    """Adds adapters and freezes all else.

    Args:
        module: Gets them.
        made: Adapters by the names of what they adapt.
        biases: Whether the biases of what is adapted stay trainable.
    """
    layers = linears(module)
    module.requires_grad_(False)
    for name, adapter in made.items():
        layer = layers[name]
        layer.adapter = adapter.to(layer.weight.device).train(layer.training)
        if biases and layer.bias is not None:
            layer.bias.requires_grad_(True)


def merge_lora(module: TransformerModule) -> None:
    """Adds what adapters add to the weights, and drops them; all parameters are trainable then.

    Raises:
        ValueError: There are no adapters.
    """
    if not adapters(module):
        raise ValueError("merge_lora: the model must have adapters, got none. Call enable_lora")
    with torch.no_grad():
        for name, adapter in adapters(module).items():
            linears(module)[name].weight += adapter.delta()
    for layer in linears(module).values():
        layer.adapter = None
    module.unfreeze()


def checked_rank(rank: object, call: str) -> int:
    """A rank that is a whole number above 0.

    Raises:
        ValueError: It is not.
    """
    if isinstance(rank, bool) or not isinstance(rank, Integral) or rank < 1:
        raise ValueError(f"{call}: rank must be a whole number above 0, got {rank!r}")
    return int(rank)


def checked_names(names: object, call: str, argument: str) -> list[str]:
    """Names in a list, a tuple or a set.

    Raises:
        ValueError: They are not.
    """
    if (
        not isinstance(names, list | tuple | set | frozenset)
        or not names
        or not all(isinstance(name, str) for name in names)
    ):
        raise ValueError(f"{call}: {argument} must be a list of names, got {names!r}")
    return list(names)
