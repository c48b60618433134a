# SPDX-License-Identifier: Apache-2.0
"""fuseq.training.optimizers: what is refused, and with which words."""

import re
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from fuseq.training.optimizers import make_optimizer  # noqa: E402


def parameters() -> list[Any]:
    return [torch.nn.Parameter(torch.ones(size)) for size in (5, 3, 1)]


class KerasLike:
    """What an optimizer of Keras looks like from outside."""

    def __call__(self, tensors: Any) -> None:
        """Callable, and still not a function of the parameters."""


def keras_like(name: str, module: str) -> Any:
    return type(name, (KerasLike,), {"__module__": module})


@pytest.mark.parametrize("module", ["keras.src.optimizers.adam", "tf_keras.x", "tensorflow.y"])
@pytest.mark.parametrize(("name", "near"), [("Adam", "Adam"), ("Ftrl", "AdamW")])
def test_objects_and_classes_of_keras_are_refused_with_what_to_use(
    module: str, name: str, near: str
) -> None:
    kind = keras_like(name, module)
    own = type("Mine", (kind,), {"__module__": "mine"})
    for choice in (kind, kind()):
        with pytest.raises(TypeError, match="must not be an object of Keras") as caught:
            make_optimizer(choice, parameters())
        assert f"got {module}.{name}. Use keras.optimizers.serialize" in str(caught.value)
        assert f"functools.partial(torch.optim.{near}, lr=...)" in str(caught.value)
    with pytest.raises(TypeError, match=re.escape("got mine.Mine")):
        make_optimizer(own(), parameters())


def adam(**config: Any) -> dict[str, Any]:
    return {"class_name": "Adam", "config": config}


def rate(name: str, **config: Any) -> dict[str, Any]:
    return adam(learning_rate={"class_name": name, "config": config})


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("adamn", "optimizer: must be one of auto, adadelta, .*, sgd, got 'adamn'. A function"),
        ({}, "optimizer: must be one of .*, got 'None'"),
        (adam(lr=1.0), "Adam: must have options of learning_rate, .*, amsgrad, got lr$"),
        (adam(momentum=0.9), "Adam: must have options of .*, got momentum"),
        (adam(use_ema=True), "Adam: use_ema must be off, got True"),
        (adam(loss_scale_factor=2.0), "Adam: loss_scale_factor must be off, got 2.0"),
        (adam(decay=0.1), "Adam: decay must be off, got 0.1"),
        (adam(learning_rate=-1.0), "Adam: learning_rate must be a finite .* 0, got -1.0"),
        (adam(learning_rate=float("nan")), "Adam: learning_rate must be a finite .*, got nan"),
        (adam(epsilon=-1e-7), "Adam: epsilon must be a finite number of at least 0"),
        (adam(beta_1=1.0), "Adam: beta_1 must be from 0 to 1, got 1.0"),
        (adam(clipnorm=1.0, clipvalue=2.0), "must have one of .*, got clipnorm=1, clipvalue=2"),
        (adam(gradient_accumulation_steps=0), "gradient_accumulation_steps must be a whole .* 0"),
        ({"class_name": "SGD", "config": {"momentum": 1.5}}, "SGD: momentum must be from 0 to 1"),
        (rate("Cosine"), "learning_rate: must be one of CosineDecay, .*, got 'Cosine'"),
        (rate("CosineDecay", steps=1), r"CosineDecay: must have options of .*, got \['steps'\]"),
        (
            rate("CosineDecay", decay_steps=1),
            "CosineDecay: must have decay_steps, initial.* got no",
        ),
        (
            rate("CosineDecay", initial_learning_rate=1.0, decay_steps=0),
            "CosineDecay: decay_steps must be above 0, got 0",
        ),
        (
            rate("CosineDecayRestarts", initial_learning_rate=1.0, first_decay_steps=-1),
            "CosineDecayRestarts: first_decay_steps must be above 0, got -1",
        ),
        (
            rate("CosineDecayRestarts", initial_learning_rate=1.0, first_decay_steps=1, t_mul=0.5),
            "CosineDecayRestarts: t_mul must be at least 1, got 0.5",
        ),
        (
            rate("PiecewiseConstantDecay", boundaries=[1], values=[1.0]),
            "PiecewiseConstantDecay: values must be one more than boundaries, got 1 and 1",
        ),
        (
            lambda tensors: (
                optimizer := torch.optim.SGD(tensors),
                torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer),
            ),
            "scheduler must step without a value, got ReduceLROnPlateau. Give fit a callback",
        ),
        (lambda tensors: torch.optim.SGD(tensors[1:]), "got one without 1 of 3. Make it over lm"),
        (
            torch.optim.SGD([torch.nn.Parameter(torch.ones(1))]),
            "must hold all parameters that are trained, got one without 3 of 3",
        ),
    ],
)
def test_values_that_cannot_be_are_refused(choice: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_optimizer(choice, parameters())


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (3, "optimizer: must be a name, a dict, a torch optimizer or a function .*, got int"),
        (lambda tensors: None, "the function must return a torch optimizer, .*, got NoneType"),
        (adam(learning_rate=True), "Adam: learning_rate must be a number, got True"),
        (adam(learning_rate=None), "Adam: learning_rate must be a number, got None"),
        (adam(clipnorm="1"), "Adam: clipnorm must be a number, got '1'"),
        (adam(amsgrad=1), "Adam: amsgrad must be True or False, got 1"),
        (
            {"class_name": "AdamW", "config": {"weight_decay": None}},
            "AdamW: weight_decay must be a number, got None",
        ),
    ],
)
def test_types_that_cannot_be_are_refused(choice: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        make_optimizer(choice, parameters())


def test_there_must_be_something_to_train() -> None:
    frozen = torch.nn.Parameter(torch.ones(1), requires_grad=False)
    with pytest.raises(ValueError, match="got none that requires gradients"):
        make_optimizer("auto", [frozen])


@pytest.mark.parametrize("value", [-0.1, float("inf"), float("nan")])
def test_a_rate_that_cannot_be_is_not_set(value: float) -> None:
    optimizer = make_optimizer("auto", parameters())
    with pytest.raises(ValueError, match="learning_rate: must be a finite number from 0"):
        optimizer.learning_rate = value
    assert optimizer.learning_rate == 2e-5
