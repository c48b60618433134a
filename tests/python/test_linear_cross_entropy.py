# SPDX-License-Identifier: Apache-2.0
"""Output matrix and cross entropy in one equal the plain computation in float64."""

from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from fuseq.training.linear_cross_entropy import linear_cross_entropy

D, V = 24, 53
TOLERANCE = 1e-6


def make(N: int, has_bias: bool = True, spread: float = 1.0) -> tuple[Any, ...]:
    """Hidden rows, matrix, bias, targets, and weights of which every third is 0."""
    generator = torch.Generator().manual_seed(N)
    hidden = torch.randn(N, D, generator=generator)
    matrix = torch.randn(V, D, generator=generator) * spread / D**0.5
    bias = torch.randn(V, generator=generator) if has_bias else None
    targets = torch.randint(0, V, (N,), generator=generator)
    weights = torch.rand(N, generator=generator)
    weights[2::3] = 0
    return hidden, matrix, bias, targets, weights


def leaves(*tensors: Any, dtype: Any = None) -> list[Any]:
    copies = [None if t is None else t.detach().to(dtype).clone() for t in tensors]
    return [None if t is None else t.requires_grad_() for t in copies]


def plain(
    hidden: Any,
    matrix: Any,
    bias: Any,
    targets: Any,
    weights: Any,
    cap: float = 0.0,
    smoothing: float = 0.0,
) -> tuple[Any, Any]:
    """The loss and the rows' losses, of all logits."""
    logits = torch.nn.functional.linear(hidden, matrix, bias)
    if cap:
        logits = cap * torch.tanh(logits / cap)
    cross_entropy = torch.nn.functional.cross_entropy
    smoothed = cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
    return (smoothed * weights).sum(), cross_entropy(logits, targets, reduction="none")


def assert_near(got: Any, expected: Any, tolerance: float = TOLERANCE) -> None:
    assert got.shape == expected.shape
    difference = float((got.detach().double() - expected.detach().double()).norm())
    assert difference <= tolerance * float(expected.detach().double().norm())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("cap", [0.0, 2.5])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("N", [1, 7, 14, 23])
def test_value_and_gradients_equal_those_of_all_logits(
    N: int, has_bias: bool, cap: float, smoothing: float
) -> None:
    *tensors, targets, weights = make(N, has_bias)
    expected = leaves(*tensors, dtype=torch.float64)
    loss, losses = plain(*expected, targets, weights.double(), cap, smoothing)
    loss.backward()
    got = leaves(*tensors)
    found = linear_cross_entropy(
        *got, targets, weights, cap=cap, label_smoothing=smoothing, block_rows=7
    )
    found.loss.backward()
    assert_near(found.loss, loss)
    assert_near(found.losses, losses)
    for ours, theirs in zip(got, expected, strict=True):
        if ours is not None:
            assert ours.grad.dtype == torch.float32
            assert_near(ours.grad, theirs.grad)


def test_predictions_are_the_largest_logits() -> None:
    hidden, matrix, bias, targets, weights = make(23)
    found = linear_cross_entropy(hidden, matrix, bias, targets, weights, block_rows=7)
    assert torch.equal(found.predictions, (hidden @ matrix.t() + bias).argmax(-1))
    assert not found.losses.requires_grad


def test_no_rows_give_zero_and_gradients_of_zero() -> None:
    *tensors, targets, weights = make(0)
    hidden, matrix, bias = leaves(*tensors)
    found = linear_cross_entropy(hidden, matrix, bias, targets, weights)
    found.loss.backward()
    assert float(found.loss.detach()) == 0
    assert found.losses.shape == found.predictions.shape == (0,)
    assert hidden.grad.shape == (0, D)
    assert not matrix.grad.any()
    assert not bias.grad.any()


def test_rows_of_weight_zero_have_no_gradient() -> None:
    *tensors, targets, weights = make(9)
    hidden, matrix, bias = leaves(*tensors)
    linear_cross_entropy(hidden, matrix, bias, targets, weights * 0).loss.backward()
    assert not hidden.grad.any()
    assert not matrix.grad.any()
    assert not bias.grad.any()


@pytest.mark.parametrize("factor", [0.37, -2.0])
def test_an_outer_factor_scales_the_gradients(factor: float) -> None:
    *tensors, targets, weights = make(11)
    expected, got = leaves(*tensors, dtype=torch.float64), leaves(*tensors)
    (factor * plain(*expected, targets, weights.double())[0]).backward()
    (factor * linear_cross_entropy(*got, targets, weights, block_rows=7).loss).backward()
    for ours, theirs in zip(got, expected, strict=True):
        assert_near(ours.grad, theirs.grad)


@pytest.mark.parametrize("needed", [0, 1, 2])
def test_one_gradient_can_be_asked_for_alone(needed: int) -> None:
    *tensors, targets, weights = make(11)
    expected = leaves(*tensors, dtype=torch.float64)
    plain(*expected, targets, weights.double(), 2.5)[0].backward()
    got = [tensor.requires_grad_(index == needed) for index, tensor in enumerate(leaves(*tensors))]
    linear_cross_entropy(*got, targets, weights, cap=2.5, block_rows=4).loss.backward()
    for index, (ours, theirs) in enumerate(zip(got, expected, strict=True)):
        if index == needed:
            assert_near(ours.grad, theirs.grad)
        else:
            assert ours.grad is None


@pytest.mark.parametrize("has_head", [False, True])
def test_a_tied_table_gets_both_gradients(has_head: bool) -> None:
    _, table, bias, targets, weights = make(23)
    ids = torch.arange(23) % 9  # some rows often, most never
    found = []
    for dtype, is_plain in ((torch.float64, True), (torch.float32, False)):
        (matrix,) = leaves(table, dtype=dtype)
        hidden = torch.nn.functional.embedding(ids, matrix, sparse=not is_plain)
        hidden = torch.tanh(hidden) if has_head else hidden
        arguments = (hidden, matrix, bias.to(dtype), targets, weights.to(dtype))
        loss = plain(*arguments)[0] if is_plain else linear_cross_entropy(*arguments).loss
        loss.backward()
        assert not matrix.grad.is_sparse
        found.append(matrix.grad)
    assert_near(found[1], found[0])


def test_gradients_add_up_over_two_backward_passes() -> None:
    *tensors, targets, weights = make(12)
    expected, got = leaves(*tensors, dtype=torch.float64), leaves(*tensors)
    plain(*expected, targets, weights.double())[0].backward()
    hidden, matrix, bias = got
    for half in (slice(0, 6), slice(6, 12)):
        linear_cross_entropy(
            hidden[half], matrix, bias, targets[half], weights[half]
        ).loss.backward()
    for ours, theirs in zip(got, expected, strict=True):
        assert_near(ours.grad, theirs.grad)


def test_bfloat16_under_autocast_is_near() -> None:
    *tensors, targets, weights = make(40)
    expected, got = leaves(*tensors, dtype=torch.float64), leaves(*tensors)
    loss, losses = plain(*expected, targets, weights.double())
    loss.backward()
    with torch.autocast("cpu", torch.bfloat16):
        found = linear_cross_entropy(*got, targets, weights, block_rows=7)
    found.loss.backward()
    assert found.loss.dtype == torch.float32
    assert 0 < float((found.losses - losses.detach()).abs().max()) < 0.05
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.grad.dtype == torch.float32
        assert_near(ours.grad, theirs.grad, 1e-2)


@pytest.mark.parametrize("cap", [0.0, 30.0])
def test_huge_logits_stay_finite(cap: float) -> None:
    *tensors, targets, weights = make(9, spread=1e4)
    expected, got = leaves(*tensors, dtype=torch.float64), leaves(*tensors)
    _, losses = plain(*expected, targets, weights.double(), cap)
    found = linear_cross_entropy(*got, targets, weights, cap=cap)
    found.loss.backward()
    assert float(losses.detach().max()) > (1e3 if not cap else 10)
    assert_near(found.losses, losses, 1e-5)
    assert all(bool(tensor.grad.isfinite().all()) for tensor in got)


def test_the_loss_of_a_certain_prediction_is_not_below_zero() -> None:
    hidden, matrix = torch.eye(3) * 100, torch.eye(3)
    found = linear_cross_entropy(hidden, matrix, None, torch.arange(3), torch.ones(3))
    assert found.losses.tolist() == [0, 0, 0]


def test_nothing_is_kept_for_a_backward_pass_that_does_not_come() -> None:
    *tensors, targets, weights = make(9)
    with torch.no_grad():
        found = linear_cross_entropy(*leaves(*tensors), targets, weights)
    assert not found.loss.requires_grad
    assert_near(found.loss, plain(*tensors, targets, weights)[0])


def test_a_second_backward_pass_is_an_error() -> None:
    *tensors, targets, weights = make(9)
    found = linear_cross_entropy(*leaves(*tensors), targets, weights)
    found.loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="backward: must be called once"):
        found.loss.backward()
