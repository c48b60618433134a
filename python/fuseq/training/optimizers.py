# SPDX-License-Identifier: Apache-2.0
"""TrainingOptimizer: one update of the parameters, whoever's optimizer computes it."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from fuseq.training.clipping import Clipping
from fuseq.training.keras_config import read_keras_config
from fuseq.training.schedules import Schedule

# What KerasHub's tasks compile with.
_AUTO = {"class_name": "Adam", "config": {"learning_rate": 2e-5}}
_KERAS_PACKAGES = ("keras", "tf_keras", "tensorflow")


class TrainingOptimizer:
    """A torch optimizer with what is done around its step: schedule, clipping, counting.

    Attributes:
        torch: The torch optimizer.
        iterations: Updates so far.
        gradient_accumulation_steps: Batches to one update; whoever calls `step` sees to it.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        schedule: Schedule | None = None,
        scheduler: LRScheduler | None = None,
        clipping: Clipping | None = None,
        gradient_accumulation_steps: int = 1,
    ) -> None:
        """Puts the parts together; `make_optimizer` makes them.

        Args:
            optimizer: The torch optimizer.
            schedule: Rate by the number of batches done; None leaves the optimizer's rate.
            scheduler: A scheduler of torch, stepped after each update.
            clipping: None is none.
            gradient_accumulation_steps: Batches to one update.
        """
        self.torch = optimizer
        self.iterations = 0
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self._schedule = schedule
        self._scheduler = scheduler
        self._clipping = clipping or Clipping()
        self._rate_was_set = False

    @property
    def learning_rate(self) -> float:
        """The rate of the next update; a number put here holds from then on, without a schedule.

        Groups of parameters with rates of their own keep their ratios to the first group's.
        """
        if self._schedule is None:
            return float(self.torch.param_groups[0]["lr"])
        # Keras counts batches here, also those that only add to the gradients.
        batches = (self.iterations + 1) * self.gradient_accumulation_steps - 1
        return float(self._schedule(batches))

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        rate = float(value)
        if not (math.isfinite(rate) and rate >= 0.0):
            raise ValueError(f"learning_rate: must be a finite number from 0, got {value!r}")
        self._schedule = self._scheduler = None
        self._rate_was_set = True
        self._write_rate(rate)

    def step(self) -> None:
        """Updates the parameters from their gradients, which it may clip in place."""
        if self._schedule is not None:
            self._write_rate(self.learning_rate)
        self._clipping.apply(
            [
                parameter.grad
                for group in self.torch.param_groups
                for parameter in group["params"]
                if parameter.grad is not None
            ]
        )
        self.torch.step()
        if self._scheduler is not None:
            self._scheduler.step()
        self.iterations += 1

    def zero_grad(self) -> None:
        """Drops the gradients."""
        self.torch.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """What training needs to go on elsewhere.

        Returns:
            Tensors and plain values, which `torch.load(..., weights_only=True)` reads.
        """
        return {
            "iterations": self.iterations,
            "rate_was_set": self._rate_was_set,
            "optimizer": self.torch.state_dict(),
            "scheduler": None if self._scheduler is None else self._scheduler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state.

        The learning rate comes with it; one that was set in place of a schedule stays set.

        Args:
            state: What `state_dict` of an optimizer made from the same choice returned.

        Raises:
            ValueError: The state has other parameters or another scheduler.
        """
        if state["rate_was_set"]:
            self._schedule = self._scheduler = None
        elif (state["scheduler"] is None) != (self._scheduler is None):
            raise ValueError(
                "load_state_dict: must be of an optimizer "
                f"{'without' if self._scheduler is None else 'with'} a torch scheduler, "
                f"got one {'without' if state['scheduler'] is None else 'with'} it"
            )
        self.torch.load_state_dict(dict(state["optimizer"]))
        if self._scheduler is not None:
            self._scheduler.load_state_dict(dict(state["scheduler"]))
        self.iterations = int(state["iterations"])
        self._rate_was_set = bool(state["rate_was_set"])

    def _write_rate(self, rate: float) -> None:
        first = float(self.torch.param_groups[0]["lr"])
        for group in self.torch.param_groups:
            new = rate * (float(group["lr"]) / first) if first else rate
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(new)
            else:
                group["lr"] = new


def make_optimizer(choice: object, parameters: Iterable[torch.nn.Parameter]) -> TrainingOptimizer:
    """Makes an optimizer from what `compile` takes.

    Args:
        choice: "auto", KerasHub's Adam(2e-5); a name of Keras in any case; a dict of class_name and
            config as `keras.optimizers.serialize` writes it; a function of the parameters that
            returns a torch optimizer, or one and its scheduler; or a torch optimizer.
        parameters: What is to be trained; those without requires_grad are passed over.

    Returns:
        The optimizer.

    Raises:
        ValueError: There is no such name, option or value; the torch optimizer has not all of the
            parameters; there is nothing to train.
        TypeError: The choice is of another type, such as an optimizer of Keras.

    Example:
        >>> make_optimizer("sgd", [torch.nn.Parameter(torch.zeros(1))]).learning_rate
        0.01
    """
    trainable = list({id(each): each for each in parameters if each.requires_grad}.values())
    if not trainable:
        raise ValueError(
            "optimizer: must have parameters to train, got none that requires gradients. "
            "Set requires_grad of some."
        )
    if isinstance(choice, str | Mapping):
        return _from_keras(_AUTO if choice == "auto" else choice, trainable)
    if not isinstance(choice, torch.optim.Optimizer):
        _refuse_keras_objects(choice)
        if not callable(choice):
            raise TypeError(
                "optimizer: must be a name, a dict, a torch optimizer or a function that makes one "
                f"from the parameters, got {type(choice).__name__}"
            )
        return _from_function(choice, trainable)
    return _from_torch(choice, None, trainable)


def _from_keras(
    choice: str | Mapping[str, Any], parameters: list[torch.nn.Parameter]
) -> TrainingOptimizer:
    """An optimizer that Keras names."""
    config = read_keras_config(choice)
    optimizer = config.kind(
        parameters,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        **config.options,
    )
    return TrainingOptimizer(
        optimizer,
        schedule=config.schedule,
        clipping=config.clipping,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
    )


def _from_function(
    choice: Callable[..., object], parameters: list[torch.nn.Parameter]
) -> TrainingOptimizer:
    """An optimizer that the user's function makes, with a scheduler or without."""
    made = choice(parameters)
    optimizer, scheduler = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(
            "optimizer: the function must return a torch optimizer, or one and its scheduler, "
            f"got {type(optimizer).__name__}"
        )
    return _from_torch(optimizer, scheduler, parameters)


def _from_torch(
    optimizer: torch.optim.Optimizer,
    scheduler: LRScheduler | None,
    parameters: list[torch.nn.Parameter],
) -> TrainingOptimizer:
    """A torch optimizer, which must update everything that is to be trained."""
    held = {id(each) for group in optimizer.param_groups for each in group["params"]}
    missing = sum(id(parameter) not in held for parameter in parameters)
    if missing:
        raise ValueError(
            "optimizer: must hold all parameters that are trained, "
            f"got one without {missing} of {len(parameters)}. Make it over "
            "lm.torch_module().parameters(), and set requires_grad = False where values must stay."
        )
    if isinstance(scheduler, ReduceLROnPlateau):
        raise ValueError(
            "optimizer: the scheduler must step without a value, got ReduceLROnPlateau. "
            "Give fit a callback that lowers optimizer.learning_rate."
        )
    return TrainingOptimizer(optimizer, scheduler=scheduler)


def _refuse_keras_objects(choice: object) -> None:
    """Says what to use in place of an optimizer or a class of Keras, which needs Keras' tensors."""
    kind = choice if isinstance(choice, type) else type(choice)
    if any(base.__module__.split(".")[0] in _KERAS_PACKAGES for base in kind.__mro__):
        name = kind.__name__
        near = name if hasattr(torch.optim, name) else "AdamW"
        raise TypeError(
            f"optimizer: must not be an object of Keras, got {kind.__module__}.{name}. Use "
            f"keras.optimizers.serialize(optimizer), the same as a dict "
            f'{{"class_name": "{name}", "config": {{...}}}}, '
            f"or functools.partial(torch.optim.{near}, lr=...)."
        )
