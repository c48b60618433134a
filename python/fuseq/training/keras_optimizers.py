# SPDX-License-Identifier: Apache-2.0
"""KerasOptimizer, a torch optimizer that updates by Keras' formulas, and the rules without Adam."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

Options = Mapping[str, float | bool]


class KerasOptimizer(torch.optim.Optimizer):
    """What Keras' optimizers share: options, decoupled weight decay, one step count for all.

    A rule names its options with Keras' defaults and says in `update` how parameters change.

    Attributes:
        options: The options of this rule, by Keras' names.
        weight_decay: Each parameter loses learning rate x this part of itself before the update.
    """

    default_options: ClassVar[Options] = {}
    default_learning_rate: ClassVar[float] = 0.001
    default_weight_decay: ClassVar[float | None] = None

    def __init__(
        self,
        parameters: Iterable[torch.nn.Parameter],
        *,
        learning_rate: float | None = None,
        weight_decay: float | None = None,
        **options: float | bool,
    ) -> None:
        """Makes the optimizer.

        Args:
            parameters: What it updates.
            learning_rate: None is Keras' default for this rule.
            weight_decay: None is none.
            **options: Values for some of `default_options`.
        """
        rate = self.default_learning_rate if learning_rate is None else learning_rate
        # In the group, for there torch saves and loads it.
        super().__init__(parameters, {"lr": rate, "iterations": 0})
        self.options: dict[str, Any] = {**self.default_options, **options}
        self.weight_decay = weight_decay or 0.0

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # noqa: ANN401
        """Updates every parameter that has a gradient.

        Args:
            closure: Called first, with gradients on; None is nothing.

        Returns:
            What the closure returns.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            group["iterations"] += 1
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                self.decay_and_update(parameters, [p.grad for p in parameters], group)
        return loss

    def decay_and_update(
        self, parameters: list[Tensor], gradients: list[Tensor], group: dict[str, Any]
    ) -> None:
        """Takes the weight decay off, then updates.

        Args:
            parameters: At least one.
            gradients: Theirs.
            group: The rate is `lr`, the number of this step, from 1, is `iterations`.
        """
        if self.weight_decay:
            torch._foreach_mul_(parameters, 1.0 - self.weight_decay * float(group["lr"]))
        self.update(parameters, gradients, group)

    def update(
        self, parameters: list[Tensor], gradients: list[Tensor], group: dict[str, Any]
    ) -> None:
        """Changes the parameters in place; each rule has its own.

        Args:
            parameters: At least one.
            gradients: Theirs; must not be changed.
            group: The rate is `lr`, the number of this step, from 1, is `iterations`.
        """
        raise NotImplementedError(f"{type(self).__name__}: must override update")

    def slots(self, name: str, parameters: list[Tensor], initial: float = 0.0) -> list[Tensor]:
        """The tensors of one name that go with the parameters, made where there are none yet.

        Args:
            name: What they are.
            parameters: Whose.
            initial: What new ones are filled with.

        Returns:
            One tensor of its shape and dtype for each parameter.
        """
        for parameter in parameters:
            state = self.state[parameter]
            if name not in state:
                state[name] = torch.full_like(parameter, initial)
        return [self.state[parameter][name] for parameter in parameters]


class SGD(KerasOptimizer):
    """p -= lr * g, with momentum m = momentum * m - lr * g and p += m."""

    default_options: ClassVar[Options] = {"momentum": 0.0, "nesterov": False}
    default_learning_rate = 0.01

    def update(
        self, parameters: list[Tensor], gradients: list[Tensor], group: dict[str, Any]
    ) -> None:
        """One step; Nesterov's looks one step of momentum ahead."""
        rate, momentum = float(group["lr"]), self.options["momentum"]
        if not momentum:
            torch._foreach_add_(parameters, gradients, alpha=-rate)
            return
        moments = self.slots("momentum", parameters)
        torch._foreach_mul_(moments, momentum)
        torch._foreach_add_(moments, gradients, alpha=-rate)
        if self.options["nesterov"]:
            torch._foreach_add_(parameters, moments, alpha=momentum)
            torch._foreach_add_(parameters, gradients, alpha=-rate)
        else:
            torch._foreach_add_(parameters, moments)


class RMSprop(KerasOptimizer):
    """p -= lr * g / sqrt(v + epsilon), v the mean square of gradients, or their variance."""

    default_options: ClassVar[Options] = {
        "rho": 0.9,
        "momentum": 0.0,
        "epsilon": 1e-7,
        "centered": False,
    }

    def update(
        self, parameters: list[Tensor], gradients: list[Tensor], group: dict[str, Any]
    ) -> None:
        """One step; with momentum m = momentum * m + step and p -= m."""
        rate, rho = float(group["lr"]), self.options["rho"]
        squares = self.slots("velocity", parameters)
        _average(squares, rho, torch._foreach_mul(gradients, gradients))
        bottoms = torch._foreach_add(squares, self.options["epsilon"])
        if self.options["centered"]:
            means = self.slots("average_gradient", parameters)
            _average(means, rho, gradients)
            torch._foreach_addcmul_(bottoms, means, means, value=-1.0)
        torch._foreach_sqrt_(bottoms)
        if not self.options["momentum"]:
            torch._foreach_addcdiv_(parameters, gradients, bottoms, value=-rate)
            return
        moments = self.slots("momentum", parameters)
        torch._foreach_mul_(moments, self.options["momentum"])
        torch._foreach_addcdiv_(moments, gradients, bottoms, value=rate)
        torch._foreach_sub_(parameters, moments)


class Adagrad(KerasOptimizer):
    """p -= lr * g / sqrt(sum of g² + epsilon)."""

    default_options: ClassVar[Options] = {"initial_accumulator_value": 0.1, "epsilon": 1e-7}

    def update(
        self, parameters: list[Tensor], gradients: list[Tensor], group: dict[str, Any]
    ) -> None:
        """One step; the sum starts at initial_accumulator_value."""
        sums = self.slots("accumulator", parameters, self.options["initial_accumulator_value"])
        torch._foreach_addcmul_(sums, gradients, gradients)
        bottoms = torch._foreach_add(sums, self.options["epsilon"])
        torch._foreach_sqrt_(bottoms)
        torch._foreach_addcdiv_(parameters, gradients, bottoms, value=-float(group["lr"]))


class Adadelta(KerasOptimizer):
    """p -= lr * g * rms(steps before) / rms(gradients)."""

    default_options: ClassVar[Options] = {"rho": 0.95, "epsilon": 1e-7}

    def update(
        self, parameters: list[Tensor], gradients: list[Tensor], group: dict[str, Any]
    ) -> None:
        """One step; rms(x) = sqrt(mean of x² + epsilon)."""
        rho, epsilon = self.options["rho"], self.options["epsilon"]
        squares = self.slots("accumulated_grad", parameters)
        steps_before = self.slots("accumulated_delta_var", parameters)
        _average(squares, rho, torch._foreach_mul(gradients, gradients))
        steps = torch._foreach_add(steps_before, epsilon)
        torch._foreach_sqrt_(steps)
        torch._foreach_mul_(steps, gradients)
        bottoms = torch._foreach_add(squares, epsilon)
        torch._foreach_sqrt_(bottoms)
        torch._foreach_div_(steps, bottoms)
        _average(steps_before, rho, torch._foreach_mul(steps, steps))
        torch._foreach_add_(parameters, steps, alpha=-float(group["lr"]))


class Lion(KerasOptimizer):
    """p -= lr * sign(beta_1 * m + (1 - beta_1) * g), then m turns to g by beta_2."""

    default_options: ClassVar[Options] = {"beta_1": 0.9, "beta_2": 0.99}

    def update(
        self, parameters: list[Tensor], gradients: list[Tensor], group: dict[str, Any]
    ) -> None:
        """One step."""
        moments = self.slots("momentum", parameters)
        directions = torch._foreach_mul(moments, self.options["beta_1"])
        torch._foreach_add_(directions, gradients, alpha=1.0 - self.options["beta_1"])
        torch._foreach_sign_(directions)
        torch._foreach_add_(parameters, directions, alpha=-float(group["lr"]))
        _average(moments, self.options["beta_2"], gradients)


class Adafactor(KerasOptimizer):
    """Keeps of g² a mean per row and per column, and takes steps relative to the parameter's size.

    Keras' relative_step changes nothing there, as the rate is held below 1 / sqrt(step) either way.
    """

    default_options: ClassVar[Options] = {
        "beta_2_decay": -0.8,
        "epsilon_1": 1e-30,
        "epsilon_2": 1e-3,
        "clip_threshold": 1.0,
        "relative_step": True,
    }

    def update(
        self, parameters: list[Tensor], gradients: list[Tensor], group: dict[str, Any]
    ) -> None:
        """One step, parameter by parameter."""
        step = group["iterations"]
        rate = min(float(group["lr"]), step**-0.5)
        keep = 1.0 - step ** self.options["beta_2_decay"]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            roots = self._mean_squares(parameter, gradient, keep).sqrt()
            change = gradient / roots
            size = _root_mean_square(parameter).clamp_(min=self.options["epsilon_2"])
            excess = _root_mean_square(change).div_(self.options["clip_threshold"]).clamp_(min=1.0)
            parameter.sub_(change.mul_(rate * size / excess))

    def _mean_squares(self, parameter: Tensor, gradient: Tensor, keep: float) -> Tensor:
        """A new tensor of the mean of g², for matrices from the means of rows and columns."""
        state = self.state[parameter]
        squares = gradient.square().add_(self.options["epsilon_1"])
        parts = {"velocity": squares}
        if parameter.dim() > 1:
            parts = {"row": squares.mean(-1), "column": squares.mean(-2)}
        for name, part in parts.items():
            state.setdefault(name, torch.zeros_like(part)).mul_(keep).add_(part, alpha=1.0 - keep)
        if parameter.dim() <= 1:
            return state["velocity"].clone()
        rows = state["row"] / state["row"].mean(-1, keepdim=True)
        return rows.unsqueeze(-1) * state["column"].unsqueeze(-2)


def _average(averages: list[Tensor], keep: float, values: Iterable[Tensor]) -> None:
    """Average = keep * average + (1 - keep) * value, in place."""
    torch._foreach_mul_(averages, keep)
    torch._foreach_add_(averages, list(values), alpha=1.0 - keep)


def _root_mean_square(values: Tensor) -> Tensor:
    return values.square().mean().sqrt()
