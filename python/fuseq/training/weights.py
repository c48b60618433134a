# SPDX-License-Identifier: Apache-2.0
"""Weights between the engine and a torch module."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from fuseq._core import Model
from fuseq.models.engine_weights import EngineWeights
from fuseq.training.adapters import adapters
from fuseq.training.torch_module import TransformerModule


class ModuleWeights:
    """The weights of a module in training, as the engine takes them.

    Attributes:
        module: Holds them, in float32.
    """

    def __init__(self, module: TransformerModule, model: Model) -> None:
        """Fills the module's parameters from the engine's."""
        self.module = module
        self.assign(model)

    def version(self) -> object:
        """Changes with every change in place of a parameter, and with adapters."""
        return versions(self.module)

    def weights(self) -> dict[str, Any]:
        """float32 arrays by the engine's names, adapters merged; views where nothing is merged."""
        return {name: tensor.numpy() for name, tensor in merged_weights(self.module)}

    def set_trainable(self, value: bool) -> None:
        """Whether optimizers change the parameters."""
        if value:
            self.module.unfreeze()
        else:
            self.module.requires_grad_(False)

    def assign(self, model: Model) -> None:
        """Takes all weights over from the engine; adapters stay, and add nothing for now."""
        with torch.no_grad():
            for name, tensor in base_parameters(self.module):
                tensor.copy_(torch.from_numpy(model.weight(name).float().numpy()))
            for adapter in adapters(self.module).values():
                adapter.lora_kernel_b.zero_()  # what it added may be in the weights already


def _count_writes(optimizer: torch.optim.Optimizer, *unused: object) -> None:
    """Counts what fused kernels write, which torch leaves out, so that `version` sees it."""
    written = [
        parameter
        for group in optimizer.param_groups
        if group.get("fused")
        for parameter in group["params"]
        if parameter.requires_grad
    ]
    for parameter in written:
        torch.autograd.graph.increment_version(parameter)


register_optimizer_step_post_hook(_count_writes)


def versions(module: nn.Module) -> tuple[tuple[int, int, int], ...]:
    """Changes with every write to a parameter, but for those through `.data`."""
    return tuple((id(p), p.data_ptr(), p._version) for p in module.parameters())


def module_of(engine: EngineWeights) -> TransformerModule:
    """The torch module of a backbone; made and filled when first asked for.

    Raises:
        ValueError: The weights were int8.
    """
    if engine.is_quantized:
        raise ValueError(
            "weights: must be floats to be trained, got int8. Load the preset "
            'that was quantised, or this one with dtype="float32"'
        )
    with engine.lock:
        if engine.holder is None:
            held = ModuleWeights(TransformerModule(engine.spec), engine.model)
            held.set_trainable(engine.is_trainable)
            engine.share_with(held)
        assert isinstance(engine.holder, ModuleWeights)
        return engine.holder.module


def base_parameters(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters that the engine knows, without those of adapters."""
    for name, tensor in module.named_parameters():
        if ".adapter." not in name:
            yield name, tensor


def merged_weights(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The engine's weights in float32 on the CPU, adapters added to what they adapt."""
    found = {f"{name}.weight": adapter for name, adapter in adapters(module).items()}
    for name, tensor in base_parameters(module):
        value = tensor.detach()
        adapter = found.get(name)
        if adapter is not None:
            value = value + adapter.delta().detach()
        yield name, value.to("cpu", torch.float32)
