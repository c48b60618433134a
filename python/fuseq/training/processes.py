# SPDX-License-Identifier: Apache-2.0
"""Processes that train together, as torchrun starts them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Processes:
    """This process among others.

    Attributes:
        rank: Of this process.
        world_size: How many there are.
        device: Where this one computes.
    """

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this one prints and writes files."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Adds numbers over all processes; all of them must call it."""
        if self.world_size == 1:
            return list(values)
        tensor = torch.tensor(list(values), dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return [float(value) for value in tensor.tolist()]

    def from_main(self, value: Any) -> Any:  # noqa: ANN401
        """The main process's value; all of them must call it."""
        if self.world_size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, device=self.device)
        return values[0]

    def gather(self, value: Any) -> list[Any]:  # noqa: ANN401
        """The values of all processes, by rank; all of them must call it."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def generator_state(self) -> dict[str, torch.Tensor]:
        """The states of torch's random generators that dropout draws from."""
        state = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self.device)
        return state

    def set_generator_state(self, state: dict[str, torch.Tensor]) -> None:
        """Goes on from where `generator_state` was called."""
        torch.set_rng_state(state["cpu"])
        if self.device.type == "cuda" and "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"], self.device)

    def wait(self) -> None:
        """Until all processes are here."""
        if self.world_size > 1:
            dist.barrier()


def join_processes(device: str | None = None) -> Processes:
    """Joins the processes that torchrun has started, or finds that there is one.

    Args:
        device: "cpu", "cuda", "cuda:N"; None: a GPU where there is one.

    Returns:
        This process among the others.

    Raises:
        ValueError: There is no such device.
    """
    chosen = _device(device)
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if not dist.is_available():
        return Processes(0, 1, chosen)
    if not dist.is_initialized():
        if world_size == 1 or "RANK" not in os.environ:
            return Processes(0, 1, chosen)
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    return Processes(dist.get_rank(), dist.get_world_size(), chosen)


def _device(name: str | None) -> torch.device:
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f'fit: device must be "cpu" or "cuda", got {name!r}') from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f'fit: device must be "cpu" or "cuda", got {name!r}')
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"fit: device must be there, got {name!r} where torch finds no GPU")
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return device
