# SPDX-License-Identifier: Apache-2.0
"""Adam and its relatives by Keras' formulas."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from fuseq.training.keras_optimizers import KerasOptimizer, Options


class Adam(KerasOptimizer):
    """p -= lr * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) + epsilon).

    Keras adds epsilon to sqrt(v) as it is, torch to sqrt(v) / sqrt(1 - beta_2^t). Torch's kernel,
    which reads every tensor once, does as Keras does with epsilon divided by that root too.
    """

    default_options: ClassVar[Options] = {
        "beta_1": 0.9,
        "beta_2": 0.999,
        "epsilon": 1e-7,
        "amsgrad": False,
    }

    def decay_and_update(
        self, parameters: list[Tensor], gradients: list[Tensor], group: dict[str, Any]
    ) -> None:
        """One step, by torch's kernel where there is one for these parameters."""
        if not has_fused_kernel(parameters, gradients):
            super().decay_and_update(parameters, gradients, group)
            return
        options = self.options
        step = group["iterations"]
        count = torch.tensor(float(step), device=parameters[0].device)
        torch._fused_adamw_(
            parameters,
            # The kernel walks through memory and does not look at strides.
            [
                gradient
                if gradient.stride() == parameter.stride()
                else torch.empty_like(parameter).copy_(gradient)
                for parameter, gradient in zip(parameters, gradients, strict=True)
            ],
            self.slots("momentum", parameters),
            self.slots("velocity", parameters),
            self.slots("velocity_hat", parameters) if options["amsgrad"] else [],
            [count] * len(parameters),
            lr=float(group["lr"]),
            beta1=options["beta_1"],
            beta2=options["beta_2"],
            weight_decay=self.weight_decay,
            eps=options["epsilon"] / (1.0 - options["beta_2"] ** step) ** 0.5,
            amsgrad=options["amsgrad"],
            maximize=False,
        )
        torch.autograd.graph.increment_version(parameters)  # the kernel does not count its writes

    def update(
        self, parameters: list[Tensor], gradients: list[Tensor], group: dict[str, Any]
    ) -> None:
        """One step, in plain tensor operations."""
        step, options = group["iterations"], self.options
        moments, squares = _moments(self, parameters, gradients)
        if options["amsgrad"]:
            highest = self.slots("velocity_hat", parameters)
            torch._foreach_maximum_(highest, squares)
            squares = highest
        bottoms = torch._foreach_sqrt(squares)
        torch._foreach_add_(bottoms, options["epsilon"])
        rate = group["lr"] * (1.0 - options["beta_2"] ** step) ** 0.5
        rate /= 1.0 - options["beta_1"] ** step
        torch._foreach_addcdiv_(parameters, moments, bottoms, value=-float(rate))


class AdamW(Adam):
    """Adam with weight decay, which in Keras any optimizer can have."""

    default_weight_decay = 0.004


class Adamax(KerasOptimizer):
    """p -= lr / (1 - beta_1^t) * m / (u + epsilon), u = max(beta_2 * u, |g|)."""

    default_options: ClassVar[Options] = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}

    def update(
        self, parameters: list[Tensor], gradients: list[Tensor], group: dict[str, Any]
    ) -> None:
        """One step."""
        options = self.options
        moments, norms = self.slots("momentum", parameters), self.slots("norm", parameters)
        torch._foreach_lerp_(moments, gradients, 1.0 - options["beta_1"])
        torch._foreach_mul_(norms, options["beta_2"])
        torch._foreach_maximum_(norms, torch._foreach_abs(gradients))
        bottoms = torch._foreach_add(norms, options["epsilon"])
        rate = float(group["lr"]) / (1.0 - options["beta_1"] ** group["iterations"])
        torch._foreach_addcdiv_(parameters, moments, bottoms, value=-rate)


class Nadam(KerasOptimizer):
    """Adam that looks one step of momentum ahead, beta_1 growing from half of itself."""

    default_options: ClassVar[Options] = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}

    def update(
        self, parameters: list[Tensor], gradients: list[Tensor], group: dict[str, Any]
    ) -> None:
        """One step."""
        step, options = group["iterations"], self.options
        now, following = (
            options["beta_1"] * (1.0 - 0.5 * 0.96**count) for count in (step, step + 1)
        )
        # In the group, for there torch saves and loads it.
        product = group["momentum_product"] = group.get("momentum_product", 1.0) * now
        moments, squares = _moments(self, parameters, gradients)
        tops = torch._foreach_mul(moments, following / (1.0 - product * following))
        torch._foreach_add_(tops, gradients, alpha=(1.0 - now) / (1.0 - product))
        bottoms = torch._foreach_div(squares, 1.0 - options["beta_2"] ** step)
        torch._foreach_sqrt_(bottoms)
        torch._foreach_add_(bottoms, options["epsilon"])
        torch._foreach_addcdiv_(parameters, tops, bottoms, value=-float(group["lr"]))


class Lamb(KerasOptimizer):
    """Adam whose step is as long as the parameter, tensor by tensor, times the rate."""

    default_options: ClassVar[Options] = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}

    def update(
        self, parameters: list[Tensor], gradients: list[Tensor], group: dict[str, Any]
    ) -> None:
        """One step; where one of both lengths is 0 their ratio counts as 1."""
        step, options = group["iterations"], self.options
        moments, squares = _moments(self, parameters, gradients)
        bottoms = torch._foreach_div(squares, 1.0 - options["beta_2"] ** step)
        torch._foreach_sqrt_(bottoms)
        torch._foreach_add_(bottoms, options["epsilon"])
        changes = torch._foreach_div(moments, 1.0 - options["beta_1"] ** step)
        torch._foreach_div_(changes, bottoms)
        lengths = zip(torch._foreach_norm(parameters), torch._foreach_norm(changes), strict=True)
        ratios = [
            torch.where((own > 0) & (change > 0), own / change, torch.ones_like(own))
            for own, change in lengths
        ]
        torch._foreach_mul_(changes, ratios)
        torch._foreach_add_(parameters, changes, alpha=-float(group["lr"]))


def has_fused_kernel(parameters: list[Tensor], gradients: list[Tensor]) -> bool:
    """Whether torch's kernel for Adam can update these parameters in one call.

    Args:
        parameters: At least one.
        gradients: Theirs.

    Returns:
        True for dense floating point tensors of one dtype on one CPU or CUDA device.
    """
    kinds = {(each.dtype, each.device, each.layout) for each in (*parameters, *gradients)}
    dtype, device, layout = next(iter(kinds))
    return (
        len(kinds) == 1
        and dtype.is_floating_point
        and device.type in ("cpu", "cuda")
        and layout == torch.strided
    )


def _moments(
    optimizer: KerasOptimizer, parameters: list[Tensor], gradients: list[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """The means of g by beta_1 and of g² by beta_2, this step's gradients counted in."""
    options = optimizer.options
    moments = optimizer.slots("momentum", parameters)
    squares = optimizer.slots("velocity", parameters)
    torch._foreach_lerp_(moments, gradients, 1.0 - options["beta_1"])
    torch._foreach_mul_(squares, options["beta_2"])
    torch._foreach_addcmul_(squares, gradients, gradients, value=1.0 - options["beta_2"])
    return moments, squares
