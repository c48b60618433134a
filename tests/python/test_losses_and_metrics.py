# SPDX-License-Identifier: Apache-2.0
"""Losses and metrics are those of hand computation, whatever padding is cut off."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from fuseq.models import CausalLM
from training_batches import TARGETS
from training_runs import (
    SGD,
    batches_of,
    cross_entropies,
    data_of,
    ids_of,
    make_bart,
    make_gpt2,
    without_texts,
)

MAKERS = [make_bart, make_gpt2]
CROSS_ENTROPY = "SparseCategoricalCrossentropy"
LOSS = "sparse_categorical_crossentropy"


@pytest.fixture(scope="module", params=MAKERS, ids=["bart", "gpt2"])
def task(request: pytest.FixtureRequest) -> CausalLM:
    made: CausalLM = request.param()
    return made


@pytest.fixture(scope="module")
def parts(task: CausalLM) -> tuple[Any, Any, Any]:
    """Logits, cross entropies and labels of the configured length, and weights."""
    x, y, weights = ids_of(task)
    inputs = {name: torch.as_tensor(np.asarray(value)) for name, value in x.items()}
    inputs = {name: v.bool() if "mask" in name else v.long() for name, v in inputs.items()}
    with torch.no_grad():  # `predict` gives 0 at padding, which some metrics look at
        logits = task.torch_module().eval()(inputs).numpy()
    return logits, cross_entropies(logits, y), (y, np.asarray(weights, np.float64))


def evaluate(task: CausalLM, **compiled: Any) -> dict[str, float]:
    task.compile(**compiled)
    logs: dict[str, float] = task.evaluate(data_of(task), batch_size=5, verbose=0, return_dict=True)
    return logs


def config(**options: Any) -> dict[str, Any]:
    return {"class_name": CROSS_ENTROPY, "config": options}


# ---- losses ----


def test_the_loss_divides_by_rows_times_configured_length(task: CausalLM, parts: Any) -> None:
    _, losses, (_, weights) = parts
    expected = (losses * weights).sum() / weights.size
    given: list[Any] = ["auto", LOSS, CROSS_ENTROPY, config(from_logits=True, ignore_class=None)]
    for loss in given:
        assert evaluate(task, loss=loss)["loss"] == pytest.approx(expected, rel=1e-5)
    assert weights.sum() < 0.8 * weights.size  # there is padding


def test_tokens_divides_by_the_weights_of_each_batch(task: CausalLM, parts: Any) -> None:
    _, losses, (_, weights) = parts
    means = []
    for start in range(0, len(weights), 5):
        rows = slice(start, start + 5)
        count = len(weights[rows])
        means.append((count, (losses[rows] * weights[rows]).sum() / weights[rows].sum()))
    expected = sum(count * mean for count, mean in means) / len(weights)  # by rows, as in Keras
    found = evaluate(task, loss_reduction="tokens")
    assert found["loss"] == pytest.approx(expected, rel=1e-5)
    keras = evaluate(task, loss=config(reduction="mean_with_sample_weight"))
    assert keras == found
    # What the loss says is overruled.
    assert evaluate(task, loss=config(reduction="sum"), loss_reduction="tokens") == found
    batch = evaluate(task, loss=config(reduction="sum"), loss_reduction="batch")
    assert batch == evaluate(task)


def test_sum_divides_by_nothing(task: CausalLM, parts: Any) -> None:
    _, losses, (_, weights) = parts
    sums = [
        (len(weights[start : start + 5]), (losses * weights)[start : start + 5].sum())
        for start in range(0, len(weights), 5)
    ]
    expected = sum(count * value for count, value in sums) / len(weights)
    found = evaluate(task, loss=config(reduction="sum"))["loss"]
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("sees_logits", [False, True])
def test_smoothing_changes_the_loss_and_no_metric(
    task: CausalLM, parts: Any, sees_logits: bool
) -> None:
    logits, losses, (_, weights) = parts
    shifted = logits - logits.max(-1, keepdims=True)
    over_all = (np.log(np.exp(shifted).sum(-1)) - shifted.mean(-1)) * (weights != 0)
    expected = ((0.8 * losses + 0.2 * over_all) * weights).sum() / weights.size
    metrics: list[Any] = ["perplexity"]
    if sees_logits:  # all logits are there then, and another computation
        metrics.append({"class_name": "SparseTopKCategoricalAccuracy", "config": {"k": 2}})
    found = evaluate(task, loss=config(label_smoothing=0.2), weighted_metrics=metrics)
    assert found["loss"] == pytest.approx(expected, rel=1e-5)
    plain = evaluate(task, loss=config(), weighted_metrics=metrics)
    assert found["perplexity"] == pytest.approx(plain["perplexity"], rel=1e-6)
    assert found["loss"] != pytest.approx(plain["loss"], rel=1e-3)


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "mean_with_sample_weight"])
def test_an_ignored_class_counts_nowhere(task: CausalLM, parts: Any, reduction: str) -> None:
    _, losses, (y, weights) = parts
    ignored = int(np.bincount(y[weights > 0]).argmax())
    kept = weights * (y != ignored)
    assert kept.sum() < weights.sum()
    task.compile(loss=config(ignore_class=ignored, reduction=reduction), weighted_metrics=None)
    # Keras 3.15 divides by the positions that are not ignored, with padding.
    divisor = (y != ignored).sum() if reduction == "sum_over_batch_size" else kept.sum()
    found = task.evaluate(data_of(task), batch_size=32, verbose=0)
    assert found == pytest.approx((losses * kept).sum() / divisor, rel=1e-5)


@pytest.mark.parametrize("label", [-100, -1])
def test_labels_may_be_marked_as_ignored(label: int) -> None:
    task = make_gpt2()
    ids = np.arange(1, 13).reshape(2, 6)
    y, weights = ids + 1, np.ones((2, 6), np.float32)
    y[0, 3:] = label
    weights[0, 3:] = 0
    x = {"token_ids": ids}
    if label == -100:  # as transformers marks them: without weight
        weighted = task.evaluate(x, np.maximum(y, 0), sample_weight=weights, verbose=0)
        assert task.evaluate(x, y, verbose=0) == pytest.approx(weighted, rel=1e-6)
    else:  # Keras' option: not divided by, either
        tokens = {"loss": "auto", "loss_reduction": "tokens", "weighted_metrics": None}
        task.compile(**tokens)
        expected = task.evaluate(x, np.maximum(y, 0), sample_weight=weights, verbose=0)
        task.compile(loss=config(ignore_class=label), weighted_metrics=None)
        assert task.evaluate(x, y, verbose=0) == pytest.approx(expected, rel=1e-6)


def plain_loss(y_true: Any, y_pred: Any) -> Any:
    return torch.nn.functional.cross_entropy(y_pred.transpose(1, 2), y_true, reduction="none")


@pytest.mark.parametrize("reduction", [None, "tokens"])
def test_a_function_of_each_position_trains_as_the_built_in_loss(
    task: CausalLM, reduction: str | None
) -> None:
    make = type(task).__name__
    maker = make_bart if make.startswith("Bart") else make_gpt2
    runs = []
    for loss in ("auto", plain_loss):
        made = maker(loss=loss, loss_reduction=reduction, optimizer=SGD)
        made.fit(data_of(made), batch_size=5, epochs=2, seed=1, verbose=0)
        runs.append(made)
    for name, values in runs[0].history.history.items():
        assert values == pytest.approx(runs[1].history.history[name], rel=1e-5)
    for a, b in zip(runs[0].get_weights(), runs[1].get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_scalar_loss_is_taken_as_it_is(task: CausalLM, parts: Any) -> None:
    _, losses, (_, weights) = parts

    def twice(y_true: Any, y_pred: Any) -> Any:
        assert tuple(y_true.shape) == weights.shape
        return 2 * plain_loss(y_true, y_pred).mean()

    # An unweighted metric keeps all columns in the batch.
    task.compile(loss=twice, metrics=["acc"], weighted_metrics=None)
    found = task.evaluate(data_of(task), batch_size=32, verbose=0)
    assert found[0] == pytest.approx(2 * losses.mean(), rel=1e-5)


def test_a_scalar_loss_of_accumulated_batches_is_their_mean() -> None:
    def mean(y_true: Any, y_pred: Any) -> Any:
        return plain_loss(y_true, y_pred).mean()

    weights = []
    for size, steps in ((10, 1), (5, 2)):
        task = make_gpt2(loss=mean, metrics=["acc"], weighted_metrics=None, optimizer=SGD)
        task.fit(
            TARGETS[:10], batch_size=size, gradient_accumulation_steps=steps, shuffle=False,
            verbose=0,
        )  # fmt: skip
        weights.append(task.get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_loss_must_return_a_tensor(task: CausalLM) -> None:
    task.compile(loss=lambda y_true, y_pred: 3.0)
    with pytest.raises(TypeError, match="loss: must return a tensor, got float"):
        task.evaluate(data_of(task), verbose=0)


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        (
            {"class_name": "MeanSquaredError"},
            ValueError,
            f'must be of class "{CROSS_ENTROPY}", got',
        ),
        (config(smoothing=0.1), ValueError, r"config must have .* got \['smoothing'\]"),
        (config(label_smoothing=1), ValueError, r"label_smoothing must be .* \[0, 1\), got 1"),
        (config(label_smoothing=float("nan")), ValueError, r"label_smoothing must be .*, got nan"),
        (config(label_smoothing=-0.1), ValueError, r"label_smoothing must be .*, got -0\.1"),
        (config(label_smoothing=True), ValueError, r"label_smoothing must be .*, got True"),
        (config(from_logits=False), ValueError, "from_logits must be True, got False"),
        (config(axis=1), ValueError, "axis must be -1, got 1"),
        (config(reduction="none"), ValueError, "reduction must be one of .*, got 'none'"),
        (3, TypeError, "loss must be a name, a dict or a function, got int"),
        (torch.nn.CrossEntropyLoss(), TypeError, "must take y_true and y_pred, got CrossEntropy"),
    ],
)
def test_a_loss_that_cannot_be_is_refused(
    task: CausalLM, loss: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        evaluate(task, loss=loss)


# ---- metrics ----


def metric(kind: str, **options: Any) -> dict[str, Any]:
    return {"class_name": kind, "config": options}


def test_weighted_metrics_are_means_by_weight(task: CausalLM, parts: Any) -> None:
    logits, losses, (y, weights) = parts
    mean = (losses * weights).sum() / weights.sum()
    hits = ((logits.argmax(-1) == y) * weights).sum() / weights.sum()
    own = np.take_along_axis(logits, y[..., None], -1)
    ranks = (logits > own).sum(-1)

    def top(k: int) -> float:
        return float(((ranks < k) * weights).sum() / weights.sum())

    found = evaluate(
        task,
        weighted_metrics=[
            "accuracy", "acc", "sparse_categorical_accuracy", "crossentropy", "perplexity", LOSS,
            "sparse_top_k_categorical_accuracy",
            metric("SparseTopKCategoricalAccuracy", k=20, name="top_20"),
            metric("SparseCategoricalAccuracy", name="named"),
            metric("Perplexity", from_logits=True, mask_token_id=None, name="again"),
        ],
    )  # fmt: skip
    expected = {
        "accuracy": hits, "acc": hits, "sparse_categorical_accuracy": hits, "named": hits,
        "crossentropy": mean, LOSS: mean, "perplexity": np.exp(mean), "again": np.exp(mean),
        "sparse_top_k_categorical_accuracy": top(5), "top_20": top(20),
    }  # fmt: skip
    assert found.keys() == {"loss", *expected}
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-5), name
    assert top(5) < top(20) < 1


def test_a_masked_token_does_not_count(task: CausalLM, parts: Any) -> None:
    _, losses, (y, weights) = parts
    masked = int(np.bincount(y[weights > 0]).argmax())
    kept = weights * (y != masked)
    found = evaluate(task, weighted_metrics=[metric("Perplexity", mask_token_id=masked)])
    expected = np.exp((losses * kept).sum() / kept.sum())
    assert found["perplexity"] == pytest.approx(expected, rel=1e-5)


def test_unweighted_metrics_count_padding_of_the_configured_length(
    task: CausalLM, parts: Any
) -> None:
    logits, losses, (y, weights) = parts
    hits = logits.argmax(-1) == y
    real = weights > 0
    found = evaluate(task, metrics=["acc", "crossentropy"], weighted_metrics=["accuracy"])
    assert found.keys() == {"loss", "acc", "crossentropy", "accuracy"}
    assert found["accuracy"] == pytest.approx(hits[real].mean(), rel=1e-5)
    assert found["acc"] == pytest.approx(hits.mean(), rel=1e-5)
    assert found["crossentropy"] == pytest.approx(losses.mean(), rel=1e-5)
    assert hits.mean() < hits[real].mean()
    for size in (1, 3, 32):  # other columns would be cut off
        again = task.evaluate(data_of(task), batch_size=size, verbose=0, return_dict=True)
        assert again == pytest.approx(found, rel=1e-5)


def accuracy_by_hand(y_true: Any, y_pred: Any) -> Any:
    return (y_pred.argmax(-1) == y_true).float()


def test_functions_are_metrics_by_their_names(task: CausalLM) -> None:
    def largest(y_true: Any, y_pred: Any) -> Any:
        return y_pred.shape[0]  # a scalar of each batch

    found = evaluate(task, weighted_metrics=["accuracy", accuracy_by_hand, largest])
    assert found["accuracy_by_hand"] == pytest.approx(found["accuracy"])
    assert found["largest"] == pytest.approx((5 + 5 + 5 + 5 + 3) / 5)


def test_metrics_may_be_one_or_none(task: CausalLM) -> None:
    assert evaluate(task, weighted_metrics="perplexity").keys() == {"loss", "perplexity"}
    assert evaluate(task, weighted_metrics=metric("Perplexity")).keys() == {"loss", "perplexity"}
    assert evaluate(task, weighted_metrics=None).keys() == {"loss"}
    assert evaluate(task, weighted_metrics=[]).keys() == {"loss"}


@pytest.mark.parametrize(
    ("metrics", "error", "message"),
    [
        (["f1"], ValueError, "weighted_metrics must be of accuracy, .*, got 'f1'"),
        ([metric("F1Score")], ValueError, "class_name must be one of .*, got 'F1Score'"),
        ([metric("Perplexity", top=1)], ValueError, r"config must have .*, got \['top'\]"),
        ([3], TypeError, "weighted_metrics must be names, dicts or functions, got int"),
        (["acc", "acc"], ValueError, r"names of their own, got \['acc'\] twice"),
    ],
)
def test_a_metric_that_cannot_be_is_refused(
    task: CausalLM, metrics: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        evaluate(task, weighted_metrics=metrics)


# ---- means ----


def test_an_epochs_loss_is_the_mean_over_rows_and_metrics_over_weights(task: CausalLM) -> None:
    logs = []
    for x, y, weights in batches_of(task, 5):
        other = without_texts(task)
        found = other.evaluate(x, y, sample_weight=weights, verbose=0)
        logs.append((len(y), float(np.sum(weights)), *found))
    counts, sums, losses, hits = (np.array(column) for column in zip(*logs, strict=True))
    found = evaluate(task)
    assert found["loss"] == pytest.approx((losses * counts).sum() / counts.sum(), rel=1e-5)
    expected = (hits * sums).sum() / sums.sum()
    assert found["sparse_categorical_accuracy"] == pytest.approx(expected, rel=1e-5)
    assert counts[-1] != counts[0]


def test_weights_of_positions_scale_the_loss_and_weigh_the_metric(
    task: CausalLM, parts: Any
) -> None:
    logits, losses, (y, weights) = parts
    own = weights * np.random.default_rng(0).uniform(0.5, 2, weights.shape).astype(np.float32)
    x, _, _ = ids_of(task)
    other = without_texts(task)
    loss, accuracy = other.evaluate(x, y, sample_weight=own, verbose=0)
    assert loss == pytest.approx((losses * own).sum() / own.size, rel=1e-5)
    assert accuracy == pytest.approx(((logits.argmax(-1) == y) * own).sum() / own.sum(), rel=1e-5)
