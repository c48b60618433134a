# SPDX-License-Identifier: Apache-2.0
"""ShardedTrainer: a trainer whose parameters are cut over the processes."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fuseq.training.losses import Loss
from fuseq.training.metrics import Metric
from fuseq.training.optimizers import TrainingOptimizer
from fuseq.training.processes import Processes
from fuseq.training.sharding import copy_whole, cut_like, shard
from fuseq.training.torch_module import TransformerModule
from fuseq.training.trainer import Trainer, check_same_model
from fuseq.training.weights import versions


class ShardedTrainer(Trainer):
    """A trainer whose parameters are cut over the processes.

    Args:
        whole: The task's module, which takes the parameters over in `publish`.
        module: A copy of it on the processes' device.
        make_optimizer: From the cut parameters.
        others: As `Trainer` takes them.
    """

    def __init__(
        self,
        whole: TransformerModule,
        module: TransformerModule,
        loss: Loss,
        metrics: Sequence[Metric],
        make_optimizer: Callable[[list[nn.Parameter]], TrainingOptimizer],
        processes: Processes,
        **others: Any,  # noqa: ANN401
    ) -> None:
        """Cuts the parameters, then makes the optimizer."""
        super().__init__(module, loss, metrics, None, processes, **others)
        self._whole = whole
        self._published = versions(whole)
        shard(self.step, processes)
        self.optimizer = make_optimizer([p for p in self.step.parameters() if p.requires_grad])

    def load_state(self, state: dict[str, Any]) -> None:
        """Goes on from what `state` returned; each process takes its part."""
        assert self.optimizer is not None
        parameters = dict(self.step.module.named_parameters())
        check_same_model(parameters, state["parameters"])
        with torch.no_grad():
            for name, value in state["parameters"].items():
                parameters[name].copy_(cut_like(value, parameters[name]))
        ordered = [p for group in self.optimizer.torch.param_groups for p in group["params"]]
        optimizer = dict(state["optimizer"])
        optimizer["optimizer"] = dict(optimizer["optimizer"])
        optimizer["optimizer"]["state"] = {
            index: {
                key: cut_like(value, ordered[index]) if _is_like(value, ordered[index]) else value
                for key, value in values.items()
            }
            for index, values in optimizer["optimizer"]["state"].items()
        }
        self.optimizer.load_state_dict(optimizer)

    def publish(self) -> None:  # noqa: D102
        copy_whole(self.step.module, self._whole)
        self._published = versions(self._whole)

    def take_over(self) -> None:  # noqa: D102
        if versions(self._whole) == self._published:
            return
        with torch.no_grad():
            for cut, whole in zip(
                self.step.module.parameters(), self._whole.parameters(), strict=True
            ):
                cut.copy_(cut_like(whole.detach(), cut))
        self._published = versions(self._whole)


def _is_like(value: Any, parameter: Tensor) -> bool:  # noqa: ANN401
    return isinstance(value, Tensor) and value.shape == parameter.shape and value.ndim > 0
