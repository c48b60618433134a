# SPDX-License-Identifier: Apache-2.0
"""fuseq.training.optimizers: Keras' numbers, what compile takes, states."""

import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from fuseq.training import keras_adam  # noqa: E402
from fuseq.training.keras_config import KERAS_OPTIMIZERS  # noqa: E402
from fuseq.training.optimizers import TrainingOptimizer, make_optimizer  # noqa: E402
from fuseq.training.schedules import make_schedule  # noqa: E402

RECORD = json.loads(
    (Path(__file__).parents[1] / "golden" / "keras_optimizers.json").read_text(encoding="utf-8")
)
CASES = RECORD["optimizers"]
SOME_CASES = ["adam", "adam amsgrad", "adamw options", "clipnorm", "lamb", "nadam", "rmsprop"]


def parameters(dtype: Any = torch.float64) -> list[Any]:
    return [torch.nn.Parameter(torch.tensor(each, dtype=dtype)) for each in RECORD["values"]]


def give_gradients(tensors: list[Any], step: int, late: bool = False) -> None:
    """Adds the recorded gradients of a step, as backward does."""
    absent = {len(tensors) - 1} if late and step in RECORD["absent"] else set()
    for index, (tensor, values) in enumerate(zip(tensors, RECORD["gradients"][step], strict=True)):
        if index not in absent:
            gradient = torch.tensor(values, dtype=tensor.dtype)
            tensor.grad = gradient if tensor.grad is None else tensor.grad + gradient


def replay(case: str, dtype: Any = torch.float64) -> list[list[Any]]:
    """The values after the recorded steps."""
    tensors = parameters(dtype)
    optimizer = make_optimizer(CASES[case]["choice"], tensors)
    batches = optimizer.gradient_accumulation_steps
    shown = []
    for step in range(len(RECORD["gradients"])):
        give_gradients(tensors, step, late=case.startswith("late "))
        if (step + 1) % batches == 0:
            for tensor in tensors:
                if tensor.grad is not None:
                    tensor.grad /= batches
            optimizer.step()
            optimizer.zero_grad()
        if step + 1 in RECORD["steps"]:
            shown.append([tensor.detach().clone() for tensor in tensors])
    return shown


def assert_recorded(case: str, shown: list[list[Any]], tolerance: float) -> None:
    for values, expected in zip(shown, CASES[case]["values"], strict=True):
        for value, keras in zip(values, expected, strict=True):
            keras = torch.tensor(keras, dtype=value.dtype)
            torch.testing.assert_close(value, keras, rtol=tolerance, atol=tolerance * 0.01)


def update(optimizer: TrainingOptimizer, tensors: list[Any], steps: range) -> None:
    for step in steps:
        give_gradients(tensors, step)
        optimizer.step()
        optimizer.zero_grad()


def saved_and_loaded(state: Any) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("case", CASES)
def test_values_are_those_of_keras_from_the_config_that_keras_writes(case: str) -> None:
    # There Keras computes with limits and decays rounded to float32.
    rounded = any(word in case for word in ("clipnorm", "accumulation", "adafactor"))
    assert_recorded(case, replay(case), 1e-6 if rounded else 1e-9)


# Without Lion: a sign that turns with rounding is a whole step.
@pytest.mark.parametrize("case", [case for case in CASES if "lion" not in case])
def test_float32_values_are_near_those_of_keras_in_float64(case: str) -> None:
    assert_recorded(case, replay(case, torch.float32), 2e-5)


@pytest.mark.parametrize("case", [case for case in CASES if "adam" in case])
def test_adam_without_the_fused_kernel_has_the_same_numbers(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keras_adam, "has_fused_kernel", lambda *lists: False)
    assert_recorded(case, replay(case), 1e-9)


def test_adam_of_mixed_dtypes_updates_each_as_if_alone() -> None:
    tensors = [parameters(torch.float32)[0], parameters(torch.float64)[1]]
    optimizer = make_optimizer("adam", tensors)
    for tensor in tensors:
        tensor.grad = torch.ones_like(tensor)
    starts = [tensor.detach().clone() for tensor in tensors]
    optimizer.step()
    for tensor, start in zip(tensors, starts, strict=True):
        torch.testing.assert_close(tensor.detach(), start - 0.001, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", ["adam", "adamw options"])
def test_gradients_of_other_strides_count_the_same(case: str) -> None:
    def after_one_step(turn: Callable[[Any], Any]) -> Any:
        tensor = parameters()[1]
        optimizer = make_optimizer(CASES[case]["choice"], [tensor])
        tensor.grad = turn(torch.tensor(RECORD["gradients"][0][1], dtype=tensor.dtype))
        optimizer.step()
        return tensor.detach()

    expected = after_one_step(lambda gradient: gradient)
    assert torch.equal(after_one_step(lambda gradient: gradient.t().contiguous().t()), expected)


@pytest.mark.parametrize("case", RECORD["schedules"])
def test_schedules_have_the_rates_of_keras(case: str) -> None:
    schedule = make_schedule(RECORD["schedules"][case]["choice"])
    rates = [schedule(step) for step in RECORD["rate_steps"]]
    assert rates == pytest.approx(RECORD["schedules"][case]["rates"], rel=1e-12, abs=1e-15)


def test_restarts_begin_exactly_at_their_steps() -> None:
    config = {"initial_learning_rate": 1.0, "first_decay_steps": 1, "t_mul": 3.0}
    schedule = make_schedule({"class_name": "CosineDecayRestarts", "config": config})
    assert [schedule(start) for start in (0, 1, 4, 13, 40, 121, 364)] == [1.0] * 7


def test_auto_is_adam_with_the_rate_of_keras_hub() -> None:
    optimizer = make_optimizer("auto", parameters())
    assert type(optimizer.torch) is KERAS_OPTIMIZERS["adam"]
    assert optimizer.torch.options == {
        "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7, "amsgrad": False,
    }  # fmt: skip
    assert optimizer.learning_rate == 2e-5
    assert optimizer.torch.weight_decay == 0.0
    assert optimizer.gradient_accumulation_steps == 1
    assert optimizer.iterations == 0


@pytest.mark.parametrize("name", ["adamw", "AdamW", "ADAMW"])
def test_names_are_found_in_any_case_with_the_defaults_of_keras(name: str) -> None:
    optimizer = make_optimizer(name, parameters())
    assert type(optimizer.torch) is KERAS_OPTIMIZERS["adamw"]
    assert optimizer.torch.weight_decay == 0.004
    assert optimizer.learning_rate == 0.001


def test_what_older_keras_writes_at_neutral_values_is_accepted() -> None:
    config = {
        "name": "Adam", "learning_rate": 1, "decay": 0.0, "jit_compile": True, "use_ema": False,
        "ema_momentum": 0.99, "ema_overwrite_frequency": 100, "is_legacy_optimizer": False,
        "loss_scale_factor": None, "weight_decay": None, "gradient_accumulation_steps": None,
    }  # fmt: skip
    optimizer = make_optimizer({"class_name": "Adam", "config": config}, parameters())
    assert optimizer.learning_rate == 1.0


def test_a_parameter_given_twice_is_updated_once() -> None:
    tensor = torch.nn.Parameter(torch.ones(2))
    optimizer = make_optimizer("sgd", [tensor, tensor])
    tensor.grad = torch.ones(2)
    optimizer.step()
    assert tensor.tolist() == pytest.approx([0.99, 0.99])


def test_frozen_parameters_and_those_without_a_gradient_stay_and_take_no_memory() -> None:
    tensors = parameters()
    tensors[0].requires_grad_(False)
    optimizer = make_optimizer("adamw", tensors)
    tensors[2].grad = torch.ones_like(tensors[2])
    before = [tensor.detach().clone() for tensor in tensors]
    optimizer.step()
    kept = [torch.equal(old, new) for old, new in zip(before, tensors, strict=True)]
    assert kept == [True, True, False]
    assert list(optimizer.torch.state) == [tensors[2]]


def test_zero_grad_drops_the_gradients() -> None:
    tensors = parameters()
    optimizer = make_optimizer("sgd", tensors)
    give_gradients(tensors, 0)
    optimizer.zero_grad()
    assert [tensor.grad for tensor in tensors] == [None] * 3


def test_a_step_calls_a_closure_with_gradients_on_as_torch_does() -> None:
    tensor = torch.nn.Parameter(torch.ones(1))
    optimizer = make_optimizer("sgd", [tensor])

    def closure() -> Any:
        loss = (3 * tensor).sum()
        loss.backward()
        return loss

    assert optimizer.torch.step(closure).item() == 3.0
    assert tensor.item() == pytest.approx(0.97)


@pytest.mark.parametrize("limit", ["clipnorm", "clipvalue", "global_clipnorm"])
def test_gradients_within_the_limit_keep_their_bits(limit: str) -> None:
    tensors = parameters(torch.float32)
    choice = {"class_name": "SGD", "config": {limit: 1000.0}}
    optimizer = make_optimizer(choice, tensors)
    give_gradients(tensors, 0)
    before = [tensor.grad.clone() for tensor in tensors]
    optimizer.step()
    assert all(torch.equal(old, new.grad) for old, new in zip(before, tensors, strict=True))


def test_one_infinite_gradient_shows_everywhere_with_global_clipnorm() -> None:
    tensors = parameters()
    optimizer = make_optimizer({"class_name": "SGD", "config": {"global_clipnorm": 1.0}}, tensors)
    give_gradients(tensors, 0)
    tensors[0].grad[0] = torch.inf
    optimizer.step()
    assert all(tensor.isnan().all() for tensor in tensors)


@pytest.mark.parametrize("limit", ["clipnorm", "clipvalue", "global_clipnorm"])
def test_clipping_nothing_is_nothing(limit: str) -> None:
    optimizer = make_optimizer({"class_name": "SGD", "config": {limit: 1.0}}, parameters())
    optimizer.step()
    assert optimizer.iterations == 1


def test_the_learning_rate_can_be_set() -> None:
    tensor = torch.nn.Parameter(torch.ones(1))
    optimizer = make_optimizer("sgd", [tensor])
    optimizer.learning_rate = 0.25
    tensor.grad = torch.ones(1)
    optimizer.step()
    assert tensor.item() == 0.75
    assert float(optimizer.learning_rate) == 0.25


def test_a_schedule_gives_the_rate_of_the_next_step_until_a_rate_is_set() -> None:
    rates = [0.5, 0.25, 0.125]
    tensor = torch.nn.Parameter(torch.ones(1))
    choice = {"class_name": "SGD", "config": {"learning_rate": lambda step: rates[step]}}
    optimizer = make_optimizer(choice, [tensor])
    values = []
    for step in range(2):
        assert optimizer.learning_rate == rates[step]
        tensor.grad = torch.ones(1)
        optimizer.step()
        values.append(tensor.item())
    assert values == [0.5, 0.25]
    optimizer.learning_rate = 1.0
    optimizer.step()
    assert optimizer.learning_rate == 1.0
    assert tensor.item() == -0.75


def test_a_rate_may_be_a_function_of_nothing_as_in_keras() -> None:
    choice = {"class_name": "SGD", "config": {"learning_rate": lambda: 0.5}}
    assert make_optimizer(choice, parameters()).learning_rate == 0.5


@pytest.mark.parametrize("case", [*SOME_CASES, "scheduled adamw", "sgd nesterov"])
def test_a_loaded_state_goes_on_bit_for_bit(case: str) -> None:
    straight = parameters(torch.float32)
    update(make_optimizer(CASES[case]["choice"], straight), straight, range(7))

    tensors = parameters(torch.float32)
    before = make_optimizer(CASES[case]["choice"], tensors)
    update(before, tensors, range(3))
    after = make_optimizer(CASES[case]["choice"], tensors)
    after.load_state_dict(saved_and_loaded(before.state_dict()))
    assert after.iterations == 3
    assert after.learning_rate == before.learning_rate
    update(after, tensors, range(3, 7))
    assert all(torch.equal(old, new) for old, new in zip(straight, tensors, strict=True))


def scheduled_torch(tensors: list[Any]) -> Any:
    optimizer = torch.optim.AdamW(tensors, lr=0.1)
    return optimizer, torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 4])


@pytest.mark.parametrize(
    "choice", [scheduled_torch, partial(torch.optim.SGD, lr=0.1, momentum=0.9)]
)
def test_the_state_of_a_torch_optimizer_goes_on_bit_for_bit(choice: Any) -> None:
    straight = parameters(torch.float32)
    update(make_optimizer(choice, straight), straight, range(7))
    tensors = parameters(torch.float32)
    before = make_optimizer(choice, tensors)
    update(before, tensors, range(3))
    after = make_optimizer(choice, tensors)
    after.load_state_dict(saved_and_loaded(before.state_dict()))
    update(after, tensors, range(3, 7))
    assert all(torch.equal(old, new) for old, new in zip(straight, tensors, strict=True))


@pytest.mark.parametrize("choice", [scheduled_torch, CASES["scheduled adamw"]["choice"]])
def test_a_rate_that_was_set_stays_set_in_a_loaded_state(choice: Any) -> None:
    before = make_optimizer(choice, parameters())
    before.learning_rate = 0.7
    after = make_optimizer(choice, parameters())
    after.load_state_dict(saved_and_loaded(before.state_dict()))
    update(after, parameters(), range(3))
    assert after.learning_rate == 0.7
    again = make_optimizer(choice, parameters())
    again.load_state_dict(saved_and_loaded(after.state_dict()))
    assert again.learning_rate == 0.7


def test_a_state_with_a_scheduler_needs_one() -> None:
    state = make_optimizer(scheduled_torch, parameters()).state_dict()
    with pytest.raises(ValueError, match="without a torch scheduler, got one with it"):
        make_optimizer(torch.optim.AdamW, parameters()).load_state_dict(state)
    state = make_optimizer(torch.optim.AdamW, parameters()).state_dict()
    with pytest.raises(ValueError, match="with a torch scheduler, got one without it"):
        make_optimizer(scheduled_torch, parameters()).load_state_dict(state)


@pytest.mark.parametrize(
    "choice",
    [torch.optim.AdamW, partial(torch.optim.AdamW, lr=0.001), lambda p: torch.optim.AdamW(p)],
)
def test_a_function_of_the_parameters_makes_a_torch_optimizer(choice: Any) -> None:
    tensors, expected = parameters(), parameters()
    update(make_optimizer(choice, tensors), tensors, range(4))
    reference = torch.optim.AdamW(expected, lr=0.001)
    for step in range(4):
        give_gradients(expected, step)
        reference.step()
        reference.zero_grad()
    assert all(torch.equal(old, new) for old, new in zip(expected, tensors, strict=True))


def test_a_torch_optimizer_is_used_as_it_is_with_more_parameters_than_are_trained() -> None:
    tensors = parameters()
    tensors[0].requires_grad_(False)
    given = torch.optim.SGD(tensors, lr=0.5)
    optimizer = make_optimizer(given, tensors)
    assert optimizer.torch is given
    assert optimizer.learning_rate == 0.5


def test_the_scheduler_of_torch_steps_after_each_update_until_a_rate_is_set() -> None:
    tensors = parameters()
    optimizer = make_optimizer(scheduled_torch, tensors)
    rates = []
    for step in range(4):
        rates.append(optimizer.learning_rate)
        update(optimizer, tensors, range(step, step + 1))
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01])
    optimizer.learning_rate = 0.3
    update(optimizer, tensors, range(3))
    assert optimizer.learning_rate == 0.3


def test_groups_with_rates_of_their_own_keep_the_ratio_when_a_rate_is_set() -> None:
    tensors = parameters()
    groups = [
        {"params": tensors[:1], "lr": 0.1},
        {"params": tensors[1:], "lr": torch.tensor(0.2)},
    ]
    given = torch.optim.AdamW(groups, foreach=False)
    optimizer = make_optimizer(given, tensors)
    optimizer.learning_rate = 0.05
    assert [float(group["lr"]) for group in given.param_groups] == pytest.approx([0.05, 0.1])
    assert isinstance(given.param_groups[1]["lr"], torch.Tensor)


def test_a_rate_of_zero_keeps_the_values_and_can_be_left() -> None:
    tensors = parameters()
    optimizer = make_optimizer({"class_name": "AdamW", "config": {"learning_rate": 0}}, tensors)
    update(optimizer, tensors, range(2))
    assert all(torch.equal(old, new) for old, new in zip(parameters(), tensors, strict=True))
    optimizer.learning_rate = 0.1
    assert optimizer.learning_rate == 0.1
