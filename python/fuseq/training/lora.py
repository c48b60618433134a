# SPDX-License-Identifier: Apache-2.0
"""LoRA as KerasHub has it: its layers' names, its factors' shapes, what it trains.

The low rank lies between the inputs and one head's outputs; heads share the second factor. PEFT has
another form, see `peft_format.py`.
"""

import math
from collections.abc import Collection

import torch
from torch import Tensor, nn

from fuseq.training.adapters import attach, check_bare, checked_names, checked_rank, linears
from fuseq.training.torch_module import TransformerModule

DEFAULT_NAMES = ("query_dense", "value_dense", "query", "value")
KERAS_NAMES = {  # of our matrices by the last part of their names
    "q": "query",
    "k": "key",
    "v": "value",
    "o": "attention_output",
    "up": "feedforward_intermediate_dense",
    "down": "feedforward_output_dense",
}
_OTHER_NAMES = {"query_dense": "query", "key_dense": "key", "value_dense": "value"}


class LoraAdapter(nn.Module):
    """x A B for a kernel of Keras.

    Args:
        kernel: The kernel's shape: (I, H, E) of query, key and value, (H, E, O) of the output of
            attention, (I, O) of a dense layer.
        inputs: I, or H E.
        rank: The factors' common dimension.

    Attributes:
        lora_kernel_a: The kernel's axes but the last, then the rank; He-uniform, from torch's
            generator.
        lora_kernel_b: The rank, then the kernel's last axis; 0, so that nothing changes yet.
    """

    def __init__(self, kernel: tuple[int, ...], inputs: int, rank: int) -> None:
        """Draws the factors."""
        super().__init__()
        self.inputs, self.rank = inputs, rank
        # All axes but the last count as inputs in Keras, those of heads too.
        limit = math.sqrt(6 / math.prod(kernel[:-1]))
        self.lora_kernel_a = nn.Parameter(torch.empty(*kernel[:-1], rank).uniform_(-limit, limit))
        self.lora_kernel_b = nn.Parameter(torch.zeros(rank, kernel[-1]))

    def forward(self, x: Tensor) -> Tensor:
        """What is added to the layer's outputs [..., O], of its inputs x [..., I]."""
        low = x @ self.lora_kernel_a.reshape(self.inputs, -1)
        return (low.unflatten(-1, (-1, self.rank)) @ self.lora_kernel_b).flatten(-2)

    def delta(self) -> Tensor:
        """What is added to the layer's weight [O, I]."""
        kernel = self.lora_kernel_a.reshape(-1, self.rank) @ self.lora_kernel_b
        return kernel.reshape(self.inputs, -1).T


def enable_lora(module: TransformerModule, rank: int, target_layer_names: object = None) -> None:
    """Adds adapters to the layers of some names and freezes all else but those layers' biases.

    Args:
        module: Gets them.
        rank: Of all factors.
        target_layer_names: Keras' names of layers; None: the query's and the value's.

    Raises:
        ValueError: There are adapters already, the rank is not above 0, or a name is not known.
    """
    check_bare(module, "enable_lora")
    add_lora(module, checked_rank(rank, "enable_lora"), _words(target_layer_names))


def add_lora(module: TransformerModule, rank: int, words: Collection[str]) -> None:
    """Adds adapters to the layers with some of the names in `KERAS_NAMES`."""
    made = {
        name: LoraAdapter(kernel_shape(module, name), layer.weight.shape[1], rank)
        for name, layer in linears(module).items()
        if keras_name(name) in words
    }
    attach(module, made, biases=True)


def keras_name(name: str) -> str | None:
    """What Keras calls our layer; None: KerasHub has no such layer."""
    return KERAS_NAMES.get(name.rpartition(".")[2])


def kernel_shape(module: TransformerModule, name: str) -> tuple[int, ...]:
    """The shape in which Keras has the kernel of our layer."""
    outputs, inputs = linears(module)[name].weight.shape
    stack, _, _, part = name.split(".")
    width = int(module.spec[stack]["head_dim"])
    if part == "o":
        return inputs // width, width, outputs
    return (inputs, outputs // width, width) if part in "qkv" else (inputs, outputs)


def _words(names: object) -> set[str]:
    """Names of `KERAS_NAMES` for those that a user gave."""
    found = [
        _OTHER_NAMES.get(name, name)
        for name in checked_names(
            DEFAULT_NAMES if names is None else names, "enable_lora", "target_layer_names"
        )
    ]
    unknown = [name for name in found if name not in KERAS_NAMES.values()]
    if unknown:
        known = ", ".join((*KERAS_NAMES.values(), *_OTHER_NAMES))
        raise ValueError(
            f"enable_lora: target_layer_names must be among {known}, got {', '.join(unknown)}"
        )
    return set(found)
