# SPDX-License-Identifier: Apache-2.0
"""`predict`, `evaluate` and the calls on one batch."""

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fuseq.models import CausalLM

pytest.importorskip("torch")

from training_batches import COUNT, PAIRS, SOURCES, TARGETS, cut
from training_runs import (
    batches_of,
    data_of,
    ids_of,
    largest_difference,
    make_bart,
    make_gpt2,
    without_texts,
)

MAKERS = [make_bart, make_gpt2]


@pytest.fixture(params=MAKERS, ids=["bart", "gpt2"])
def make(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module", params=MAKERS, ids=["bart", "gpt2"])
def task(request: pytest.FixtureRequest) -> CausalLM:
    made: CausalLM = request.param()
    return made


def close(value: Any, expected: Any) -> None:
    np.testing.assert_allclose(value, expected, atol=1e-5)


# ---- predict ----


def test_logits_have_the_configured_length_and_are_those_of_a_call(task: CausalLM) -> None:
    x, _, weights = ids_of(task)
    found = task.predict(data_of(task), verbose=0)
    length = 12 if task.backbone.is_seq2seq else 10
    assert found.shape == (COUNT, length, task.backbone.vocabulary_size)
    assert found.dtype == np.float32
    real = np.asarray(x["decoder_padding_mask" if task.backbone.is_seq2seq else "padding_mask"])
    close(found[real != 0], np.asarray(task(x))[real != 0])
    assert (found[real == 0] == 0).all()
    assert weights.shape == real.shape


def test_every_form_of_data_gives_the_same_logits(task: CausalLM) -> None:
    x, _, _ = ids_of(task)
    texts, expected = data_of(task), task.predict(data_of(task), verbose=0)

    def generator() -> Iterator[Any]:
        yield from cut(texts)

    close(task.predict(texts, batch_size=7, verbose=0), expected)
    close(task.predict(x, verbose=0), expected)
    close(task.predict(cut(texts), verbose=0), expected)
    close(task.predict(generator(), verbose=0), expected)
    close(task.predict(batches_of(task), verbose=0), expected)  # labels are passed over
    close(without_texts(task).predict(x, verbose=0), expected)
    close(task.predict(texts, batch_size=7, steps=2, verbose=0), expected[:14])


def test_predict_shows_a_bar_or_a_line(task: CausalLM, capfd: pytest.CaptureFixture[str]) -> None:
    shown = []
    for verbose in (0, 1, 2):
        task.predict(data_of(task), verbose=verbose)  # type: ignore[arg-type]
        shown.append(capfd.readouterr().err)
    assert shown[0] == ""
    assert "Predict" in shown[1]
    assert shown[2].startswith("Predict: 1 steps")


@pytest.mark.parametrize("compiled", [False, True])
def test_predict_needs_no_torch_and_no_compile(
    task: CausalLM, monkeypatch: pytest.MonkeyPatch, compiled: bool
) -> None:
    preset = make_bart if task.backbone.is_seq2seq else make_gpt2
    other = preset()
    if not compiled:
        other = type(task)(other.backbone, other.preprocessor, compile=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert other.predict(data_of(task), verbose=0).shape[0] == COUNT


def test_the_errors_of_predict_say_what_is_wrong(task: CausalLM) -> None:
    x, _, _ = ids_of(task)
    short = {name: value[:, :4] for name, value in x.items()}
    for call, message in (
        (lambda: task.predict(data_of(task), batch_size=0), "predict: batch_size must be None or"),
        (lambda: task.predict(data_of(task), steps=True), "predict: steps must be None or"),
        (lambda: task.predict("the fox"), "predict: x must have a batch dimension, got one str"),
        (lambda: task.predict([x, short], verbose=0), "rows of one length, .* in batch 1. Pad"),
        (lambda: task.predict([], verbose=0), "predict: x must have one row or more, got none"),
        (
            lambda: type(task)(task.backbone).predict(data_of(task), verbose=0),
            "predict: texts must come with a preprocessor, got none",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_predict_of_a_seq2seq_task_needs_both_texts() -> None:
    task = make_bart()
    with pytest.raises(ValueError, match="must have 'encoder_text', 'decoder_text', got no 'decod"):
        task.predict({"encoder_text": SOURCES}, verbose=0)
    with pytest.raises(ValueError, match="must have a batch dimension, got one dict"):
        task.predict({"encoder_text": "the fox", "decoder_text": "a"}, verbose=0)


# ---- evaluate ----


def test_evaluate_returns_a_list_a_dict_or_a_number(task: CausalLM) -> None:
    data = data_of(task)
    task.compile()
    found = task.evaluate(data, verbose=0)
    logs = task.evaluate(data, verbose=0, return_dict=True)
    assert isinstance(found, list) and found == [logs["loss"], logs["sparse_categorical_accuracy"]]
    task.compile(weighted_metrics=None)
    assert task.evaluate(data, verbose=0) == logs["loss"]
    assert task.evaluate(data, verbose=0, return_dict=True) == {"loss": logs["loss"]}
    task.compile()


def test_evaluate_of_every_form_of_data_is_the_same(task: CausalLM) -> None:
    task.compile()
    x, y, weights = ids_of(task)
    expected = task.evaluate(data_of(task), verbose=0)
    for found in (
        task.evaluate(data_of(task), batch_size=3, verbose=0),
        task.evaluate(cut(data_of(task)), verbose=0),
        without_texts(task).evaluate(x, y, sample_weight=weights, verbose=0),
        without_texts(task).evaluate(batches_of(task), verbose=0),
    ):
        assert found == pytest.approx(expected, rel=1e-5)
    first = task.evaluate(cut(data_of(task), 10)[:1], verbose=0)
    assert task.evaluate(data_of(task), batch_size=5, steps=2, verbose=0) == pytest.approx(first)


def test_evaluate_drops_nothing_out_and_changes_nothing(make: Any) -> None:
    task, other = make(dropout=True), make()
    assert task.evaluate(data_of(task), verbose=0) == other.evaluate(data_of(task), verbose=0)
    assert largest_difference(task, other) == 0


def test_evaluate_shows_a_line(task: CausalLM, capfd: pytest.CaptureFixture[str]) -> None:
    task.compile()
    task.evaluate(data_of(task), verbose=2)
    shown = capfd.readouterr().err
    assert shown.startswith("Evaluate: 1 steps") and "sparse_categorical_accuracy=" in shown


# ---- one batch ----


def test_batches_one_by_one_train_as_fit_does(make: Any) -> None:
    task, other = make(), make()
    batches = cut(data_of(task))
    task.fit(batches, verbose=0)
    for batch in batches:
        other.train_on_batch(batch)
    assert largest_difference(task, other) == 0
    assert other.optimizer.iterations == len(batches)


def test_the_calls_on_one_batch_return_what_evaluate_does(make: Any) -> None:
    for compiled, kind in (({}, list), ({"weighted_metrics": None}, float)):
        task = make(**compiled)
        expected = task.evaluate(data_of(task), verbose=0)
        tested = task.test_on_batch(data_of(task))
        task = make(**compiled)
        trained = task.train_on_batch(data_of(task))
        assert isinstance(tested, kind) and isinstance(trained, kind)
        assert tested == pytest.approx(expected, rel=1e-5)
        assert trained == pytest.approx(expected, rel=1e-5)
    logs = make().train_on_batch(data_of(task), return_dict=True)
    assert logs.keys() == {"loss", "sparse_categorical_accuracy"}
    other = without_texts(make())
    x, y, weights = ids_of(make())
    assert other.test_on_batch(x, y, sample_weight=weights, return_dict=True) == pytest.approx(
        logs, rel=1e-5
    )


def test_test_on_batch_changes_nothing(make: Any) -> None:
    task, other = make(dropout=True), make()
    task.test_on_batch(PAIRS if task.backbone.is_seq2seq else TARGETS)
    assert largest_difference(task, other) == 0
