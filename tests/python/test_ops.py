# SPDX-License-Identifier: Apache-2.0
"""fuseq.ops against plain numpy."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fuseq import Tensor, ops

RANDOM = np.random.default_rng(0)
TOLERANCE = {"rtol": 2e-5, "atol": 2e-5}


def random(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def plain_layer_norm(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray) -> np.ndarray:
    variance = x.var(-1, keepdims=True)
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(variance + 1e-5) * gamma + beta


@pytest.mark.parametrize("shape", [(1, 1), (3, 17), (2, 5, 64), (7,)])
def test_layer_norm_and_rms_norm_are_right(shape: tuple[int, ...]) -> None:
    x, residual = random(*shape), random(*shape)
    gamma, beta = random(shape[-1]), random(shape[-1])
    expected = plain_layer_norm(x + residual, gamma, beta)
    np.testing.assert_allclose(
        ops.layer_norm(x, gamma, beta, residual=residual), expected, **TOLERANCE
    )
    square = ((x + residual) ** 2).mean(-1, keepdims=True)
    np.testing.assert_allclose(
        ops.rms_norm(x, gamma, residual=residual),
        (x + residual) / np.sqrt(square + 1e-5) * gamma,
        **TOLERANCE,
    )


@pytest.mark.parametrize("activation", ["none", "relu", "silu", "tanh"])
def test_linear_is_right(activation: str) -> None:
    act: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "none": lambda x: x,
        "relu": lambda x: np.maximum(x, 0),
        "silu": lambda x: x / (1 + np.exp(-x)),
        "tanh": np.tanh,
    }
    x, weight, bias = random(2, 3, 33), random(45, 33), random(45)
    gate, residual = random(2, 3, 45), random(2, 3, 45)
    expected = act[activation](x @ weight.T + bias) * gate + residual
    packed = ops.pack(weight)
    assert (packed.shape, packed.dtype) == ((45, 33), "float32")
    for w in (weight, packed):
        y = ops.linear(x, w, bias, activation, gate, residual)
        np.testing.assert_allclose(y, expected, **TOLERANCE)


def test_linear_takes_transposed_and_bfloat16_weights() -> None:
    x, weight = random(4, 32), random(32, 20)
    expected = ops.linear(x, np.ascontiguousarray(weight.T))
    assert np.array_equal(ops.linear(x, weight.T), expected)
    rounded = ops.linear(x, ops.pack(weight.T, "bfloat16"))
    np.testing.assert_allclose(rounded, expected, atol=0.2)
    assert not np.array_equal(rounded, expected)


def plain_attention(q: Any, k: Any, v: Any, visible: Any) -> np.ndarray:
    repeat = q.shape[2] // k.shape[2]
    k, v = np.repeat(k, repeat, 2), np.repeat(v, repeat, 2)
    scores = np.einsum("bthe,bshe->bhts", q, k) / np.sqrt(q.shape[-1])
    scores = np.where(visible, scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("bhts,bshe->bthe", weights / weights.sum(-1, keepdims=True), v)


def test_attention_is_right() -> None:
    q, k, v = random(2, 3, 4, 8), random(2, 19, 2, 8), random(2, 19, 2, 8)
    keys, queries = np.arange(19), np.arange(3)[:, None] + 19 - 3
    all_keys = np.ones((1, 1, 1, 19), bool)
    np.testing.assert_allclose(
        ops.attention(q, k, v), plain_attention(q, k, v, all_keys), **TOLERANCE
    )
    np.testing.assert_allclose(
        ops.attention(q, k, v, causal=True), plain_attention(q, k, v, keys <= queries), **TOLERANCE
    )
    lengths = np.array([5, 19], np.int32)
    np.testing.assert_allclose(
        ops.attention(q, k, v, lengths=lengths),
        plain_attention(q, k, v, keys < lengths[:, None, None, None]),
        **TOLERANCE,
    )
    windowed = (keys <= queries) & (keys > queries - 4)
    np.testing.assert_allclose(
        ops.attention(q, k, v, causal=True, window=4),
        plain_attention(q, k, v, windowed),
        **TOLERANCE,
    )


@pytest.mark.parametrize(
    "zero", [{"scale": 0.0}, {"scale": np.float32(0)}, {"window": 0}, {"cap": 0.0}]
)
def test_attention_does_not_take_zero_for_its_default(zero: dict[str, Any]) -> None:
    q = random(1, 2, 2, 4)
    with pytest.raises(ValueError, match=rf"attention: {next(iter(zero))} must be None or other"):
        ops.attention(q, q, q, **zero)
    ops.attention(q, q, q, **dict.fromkeys(zero))


def test_log_softmax_is_right() -> None:
    x = 30 * random(3, 2, 101)
    expected = x - np.log(np.exp(x.astype(np.float64)).sum(-1, keepdims=True))
    np.testing.assert_allclose(ops.log_softmax(x), expected, rtol=1e-5, atol=1e-5)


def test_out_receives_the_result_and_is_returned() -> None:
    x, gamma, beta = random(4, 8), random(8), random(8)
    expected = ops.layer_norm(x, gamma, beta)
    out = np.empty_like(x)
    assert ops.layer_norm(x, gamma, beta, out=out) is out
    assert np.array_equal(out, expected)
    assert ops.layer_norm(x, gamma, beta, out=x) is x
    assert np.array_equal(x, expected)


def test_the_result_is_of_the_kind_of_the_input() -> None:
    x = random(2, 6)
    assert isinstance(ops.log_softmax(x), np.ndarray)
    assert isinstance(ops.log_softmax(Tensor(x)), Tensor)
    assert isinstance(ops.log_softmax(memoryview(x)), memoryview)


def test_torch_tensors_give_torch_tensors_of_equal_values() -> None:
    torch = pytest.importorskip("torch")
    x, weight, bias = random(3, 16), random(10, 16), random(10)
    y = ops.linear(torch.tensor(x), torch.tensor(weight), torch.tensor(bias), "gelu")
    assert isinstance(y, torch.Tensor)
    expected = torch.nn.functional.gelu(torch.tensor(x @ weight.T + bias))
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
    half = torch.tensor(weight).bfloat16()
    out = torch.empty(3, 10)
    assert ops.linear(torch.tensor(x), half, out=out) is out
    torch.testing.assert_close(out, torch.tensor(x) @ half.float().T, rtol=0, atol=0.1)


def test_threads_do_not_share_a_context() -> None:
    x = random(50, 300)
    expected = ops.log_softmax(x)
    results: list[np.ndarray] = []

    def work() -> None:
        results.extend(ops.log_softmax(x) for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 80
    assert all(np.array_equal(result, expected) for result in results)


def test_a_context_of_ones_own_is_used() -> None:
    x = random(5, 40)
    context = ops.Context(num_threads=3)
    assert context.num_threads == 3
    assert np.array_equal(ops.log_softmax(x, context=context), ops.log_softmax(x))
    with pytest.raises(ValueError, match="num_threads"):
        ops.Context(num_threads=-1)
    with pytest.raises(ValueError, match="cpu_isa"):
        ops.Context(cpu_isa="avx9000")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ops.layer_norm(random(2, 4), random(5), random(4)), ValueError, "gamma"),
        (lambda: ops.layer_norm(random(2, 4), random(4), random(3)), ValueError, "beta"),
        (lambda: ops.layer_norm(random(2, 4).astype("f8"), random(4), random(4)), TypeError, "x"),
        (lambda: ops.linear(random(2, 4), random(3, 5)), ValueError, r"\[2, 4\]"),
        (lambda: ops.linear(random(2, 4), random(3, 4), activation="x"), ValueError, "activation"),
        (lambda: ops.linear(random(2, 4), random(4)), ValueError, "weight"),
        (lambda: ops.pack(random(2, 4), "int16"), TypeError, "int16"),
        (lambda: ops.pack(random(2, 4), "int9"), ValueError, "int9"),
        (lambda: ops.attention(random(1, 2, 3, 4), random(1, 2, 2, 4), random(1, 2, 2, 4)),
         ValueError, "heads|H|divide"),
        (lambda: ops.log_softmax(random(2, 4), out=random(2, 5)), ValueError, r"\[2, 5\]"),
        (lambda: ops.log_softmax(np.float32(3)), ValueError, "axis"),
        (lambda: ops.log_softmax([1.0]), TypeError, "list"),
    ],
)  # fmt: skip
def test_bad_operands_are_named(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
