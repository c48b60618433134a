# SPDX-License-Identifier: Apache-2.0
"""Evaluation by what a task generates: `evaluate(generate=True)` and the callback TextMetrics."""

from typing import Any

import fuseq
import numpy as np
import pytest
import tiny_tasks
from fuseq.callbacks import Callback, LambdaCallback, TextMetrics

pytest.importorskip("torch")

SOURCES = tiny_tasks.SOURCES


@pytest.fixture
def task() -> Any:
    made = tiny_tasks.bart()
    made.compile(optimizer="sgd", sampler="greedy")
    return made


def pairs_of(task: Any, wrong: int = 0) -> dict[str, list[str]]:
    """Sources, and the texts that the task writes, of which the first ones are replaced."""
    texts = task.generate(SOURCES)
    return {"encoder_text": SOURCES, "decoder_text": ["another"] * wrong + texts[wrong:]}


def evaluate(task: Any, *arguments: Any, **keywords: Any) -> Any:
    return task.evaluate(*arguments, verbose=0, return_dict=True, device="cpu", **keywords)


# ---- evaluate ----


def test_generated_texts_are_compared_with_those_of_the_decoder(task: Any) -> None:
    pairs = pairs_of(task, wrong=1)
    plain = evaluate(task, pairs)
    found = evaluate(task, pairs, generate=True)
    assert found == {**plain, "exact_match": pytest.approx(2 / 3)}
    names = ["loss", "sparse_categorical_accuracy", "exact_match"]
    listed = task.evaluate(pairs, verbose=0, device="cpu", generate=True)
    assert listed == [found[name] for name in names]


def test_metrics_are_called_with_predictions_and_references(task: Any) -> None:
    seen = []

    def count(predictions: Any, references: Any) -> int:
        seen.append((predictions, references))
        return len(predictions)

    pairs = {"encoder_text": SOURCES, "decoder_text": ["a", "b", "c"]}
    found = evaluate(task, pairs, generate=True, text_metrics=[count, "exact_match"])
    assert (found["count"], found["exact_match"]) == (3, 0)
    assert seen == [(task.generate(SOURCES), ["a", "b", "c"])]
    assert evaluate(task, pairs, generate=True, text_metrics=count)["count"] == 3


def test_named_metrics_are_those_of_their_packages(task: Any) -> None:
    pytest.importorskip("sacrebleu")
    pytest.importorskip("rouge_score")
    numbers = task.evaluate_texts(pairs_of(task), ["bleu", "chrf", "rouge"])
    assert list(numbers) == ["bleu", "chrf", "rouge1", "rouge2", "rougeL"]
    assert numbers["chrf"] == pytest.approx(100)


def test_max_length_and_sampler_are_those_of_generate(task: Any) -> None:
    texts: list[Any] = []

    def keep(predictions: Any, references: Any) -> float:
        texts.append(predictions)
        return 0.0

    pairs = pairs_of(task)
    evaluate(task, pairs, generate=True, text_metrics=keep, max_length=5, sampler="beam")
    task.evaluate_texts(pairs, keep, max_new_tokens=2)
    assert texts[0] == task.generate(SOURCES, max_length=5, sampler="beam")
    assert texts[1] == task.generate(SOURCES, max_new_tokens=2)
    assert texts[0] != texts[1]


def test_a_sampler_that_fills_rows_itself_is_compared_without_a_seed(task: Any) -> None:
    def best(next: Any, prompt: Any, cache: Any, index: int, mask: Any, **call: Any) -> Any:
        prompt = prompt.copy()
        for at in range(index, prompt.shape[1]):
            logits, _, cache = next(prompt, cache, at)
            prompt[:, at] = np.where(mask[:, at], prompt[:, at], logits.argmax(-1))
        return prompt

    pairs = {"encoder_text": SOURCES, "decoder_text": task.generate(SOURCES)}
    assert task.evaluate_texts(pairs, sampler=best) == {"exact_match": 1}


def test_draws_are_the_same_in_each_call_unless_seeds_differ(task: Any) -> None:
    texts: list[Any] = []

    def keep(predictions: Any, references: Any) -> float:
        texts.append(predictions)
        return 0.0

    task.compile(sampler="random")
    for arguments in ({}, {}, {"seed": 1}):
        task.evaluate_texts(pairs_of(task), keep, **arguments)
    assert texts[0] == texts[1] != texts[2]


def test_columns_of_numpy_are_texts_too(task: Any) -> None:
    pairs = {key: np.array(texts) for key, texts in pairs_of(task).items()}
    assert task.evaluate_texts(pairs) == {"exact_match": 1.0}


def test_a_task_without_an_encoder_has_no_reference_text() -> None:
    task = tiny_tasks.gpt2()
    with pytest.raises(ValueError, match=r"must have an encoder.* got GPT2CausalLM.*no reference"):
        evaluate(task, ["a fox"], generate=True)


def test_a_task_without_a_preprocessor_has_no_text(task: Any) -> None:
    task.preprocessor = None
    with pytest.raises(ValueError, match=r"must have a preprocessor.* got preprocessor=None"):
        evaluate(task, {"encoder_text": ["a"], "decoder_text": ["b"]}, generate=True)


def test_ids_and_streams_are_named_in_the_error(task: Any) -> None:
    pairs = pairs_of(task)
    ids, labels, weights = task.preprocessor(pairs)
    with pytest.raises(ValueError, match=r"must be a dict of lists of texts.* got ids"):
        evaluate(task, ids, labels, sample_weight=weights, generate=True)
    with pytest.raises(ValueError, match=r"evaluate: x must be .* got list, which is no dict"):
        evaluate(task, [pairs], generate=True)
    with pytest.raises(ValueError, match=r"evaluate_texts: x must be .* got list, which is no"):
        task.evaluate_texts(SOURCES)


def test_texts_must_be_there_for_both_sides(task: Any) -> None:
    with pytest.raises(ValueError, match="must have 'decoder_text'"):
        evaluate(task, {"encoder_text": SOURCES}, generate=True)
    for texts in ("a", []):
        with pytest.raises(ValueError, match="must have lists of one text or more"):
            task.evaluate_texts({"encoder_text": texts, "decoder_text": texts})


def test_wrong_metrics_are_found_before_anything_is_computed(task: Any) -> None:
    begun: list[Any] = []
    watcher = LambdaCallback(on_test_begin=begun.append)
    for metric, kind in (("meteor", ValueError), (3, TypeError)):
        with pytest.raises(kind, match="text_metrics: must be"):
            evaluate(
                task, pairs_of(task), generate=True, text_metrics=[metric], callbacks=[watcher]
            )
    assert begun == []


def test_arguments_that_would_have_no_effect_are_errors(task: Any) -> None:
    with pytest.raises(ValueError, match="max_length, sampler must come with generate=True"):
        evaluate(task, pairs_of(task), max_length=5, sampler="beam")
    with pytest.raises(ValueError, match="steps must be None with generate=True, got 2"):
        evaluate(task, pairs_of(task), steps=2, generate=True)


def test_several_texts_for_a_source_are_an_error(task: Any) -> None:
    for arguments in ({"return_scores": True}, {"num_return_sequences": 2, "sampler": "beam"}):
        with pytest.raises(ValueError, match=r"must give one text for each source, got (Gen|list)"):
            task.evaluate_texts(pairs_of(task), **arguments)


# ---- the callback ----


class Seen(Callback):
    """Keeps the names of logs."""

    def __init__(self) -> None:
        self.names: list[list[str]] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.names.append(list(logs or {}))


def test_text_metrics_adds_numbers_to_the_logs_of_those_behind_it(task: Any) -> None:
    before, behind = Seen(), Seen()
    pairs = pairs_of(task, wrong=1)
    task.optimizer.learning_rate = 0.0
    callbacks = [before, TextMetrics(pairs, freq=2), behind]
    history = task.fit(pairs, epochs=4, verbose=0, device="cpu", callbacks=callbacks)
    assert history.history["val_exact_match"] == [pytest.approx(2 / 3)] * 2
    assert ["val_exact_match" in names for names in behind.names] == [False, True, False, True]
    assert not any("val_exact_match" in names for names in before.names)


def test_text_metrics_generates_with_the_weights_of_the_epoch(task: Any) -> None:
    texts: list[Any] = []

    def keep(predictions: Any, references: Any) -> float:
        texts.append(predictions)
        return 0.0

    pairs = {"encoder_text": SOURCES, "decoder_text": ["fox", "fox", "fox"]}
    before = task.generate(SOURCES, max_length=6)
    task.compile(optimizer="adam", sampler="greedy")
    task.optimizer.learning_rate = 0.05
    callback = TextMetrics(pairs, [keep], prefix="", max_length=6)
    history = task.fit(pairs, epochs=3, verbose=0, seed=1, device="cpu", callbacks=callback)
    assert history.history["keep"] == [0.0] * 3
    assert texts[-1] == task.generate(SOURCES, max_length=6)
    assert texts[-1] != before


def test_frequency_must_be_a_positive_whole_number() -> None:
    for freq in (0, 1.5, True):
        with pytest.raises(ValueError, match=f"TextMetrics: freq must be .* got {freq}"):
            TextMetrics({}, freq=freq)  # type: ignore[arg-type]


def test_callback_is_among_those_of_the_package() -> None:
    assert fuseq.callbacks.TextMetrics is TextMetrics
