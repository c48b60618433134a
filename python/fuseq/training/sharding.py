# SPDX-License-Identifier: Apache-2.0
"""Sharding: parameters, gradients and the optimizer's state cut over processes (FSDP).

A sharded copy of the module is trained; the task's own module stays whole, in main memory, and
takes the parameters over after each epoch, which is when something may save them or generate.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from fuseq.training.processes import Processes
from fuseq.training.step import TrainingStep
from fuseq.training.torch_module import TransformerModule


def copy_to_shard(module: TransformerModule) -> TransformerModule:
    """A copy, to be cut by `shard`.

    Raises:
        ImportError: torch is too old.
    """
    _fully_shard()
    made = copy.deepcopy(module)  # each layer goes to the device when it is cut
    made.is_sharded = True
    return made


def shard(step: TrainingStep, processes: Processes) -> None:
    """Cuts the parameters of a step's module, layer by layer, then what is left."""
    from torch.distributed.device_mesh import init_device_mesh

    fully_shard = _fully_shard()
    mesh = init_device_mesh(processes.device.type, (processes.world_size,))
    for stack in (step.module.encoder, step.module.decoder):
        for layer in [] if stack is None else stack.layers():
            fully_shard(layer, mesh=mesh)
    fully_shard(step, mesh=mesh)


def copy_whole(sharded: nn.Module, whole: nn.Module) -> None:
    """Gathers parameters into a whole module; all processes must call it."""
    with torch.no_grad():
        for (_, source), (_, target) in zip(
            sharded.named_parameters(), whole.named_parameters(), strict=True
        ):
            target.copy_(gathered(source))


def gathered(value: Any, *, keep: bool = True) -> Any:  # noqa: ANN401
    """Tensors, or dicts and lists of them, whole and on the CPU; all processes must call it.

    Args:
        value: What is gathered.
        keep: Whether this process wants them; else it gets None in their places.
    """
    if isinstance(value, dict):
        return {key: gathered(item, keep=keep) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [gathered(item, keep=keep) for item in value]
    if not isinstance(value, Tensor):
        return value
    whole = value.full_tensor() if hasattr(value, "full_tensor") else value
    return whole.detach().cpu() if keep else None


def cut_like(value: Tensor, like: Tensor) -> Tensor:
    """This process's part of a whole tensor, cut as another one is."""
    from torch.distributed.tensor import distribute_tensor

    like_: Any = like
    device = like_.to_local().device
    return distribute_tensor(value.to(device), like_.device_mesh, like_.placements)


def _fully_shard() -> Any:  # noqa: ANN401
    try:
        from torch.distributed.fsdp import fully_shard
    except ImportError as error:
        raise ImportError(
            f"fit: sharded needs torch 2.6 or newer, got {torch.__version__}"
        ) from error
    return fully_shard
