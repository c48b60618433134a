# SPDX-License-Identifier: Apache-2.0
"""`fit` takes every form of data, and the same seed gives the same run."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from fuseq.callbacks import Callback, History
from fuseq.models import CausalLM
from training_batches import COUNT, PAIRS, SOURCES, TARGETS, cut
from training_runs import (
    SGD,
    BatchLogs,
    assert_same_weights,
    batches_of,
    data_of,
    ids_of,
    largest_difference,
    make_bart,
    make_gpt2,
    without_texts,
)

MAKERS = [make_bart, make_gpt2]
SIZE = 5
EPOCHS = 2
PLAIN: dict[str, Any] = {"epochs": EPOCHS, "shuffle": False, "verbose": 0}


@pytest.fixture(params=MAKERS, ids=["bart", "gpt2"])
def make(request: pytest.FixtureRequest) -> Any:
    return request.param


def fit_texts(make: Any, **options: Any) -> CausalLM:
    task: CausalLM = make()
    task.fit(data_of(task), batch_size=SIZE, **PLAIN, **options)
    return task


def assert_same_run(task: CausalLM, other: CausalLM) -> None:
    assert task.history.history == other.history.history
    assert_same_weights(task, other)


# ---- forms of data ----


def test_the_loss_falls_and_history_has_a_number_an_epoch(make: Any) -> None:
    task = make()
    history = task.fit(data_of(task), batch_size=SIZE, epochs=12, verbose=0, seed=1)
    assert isinstance(history, History) and history is task.history
    assert list(history.history) == ["loss", "sparse_categorical_accuracy"]
    assert history.epoch == list(range(12))
    assert history.params == {"verbose": 0, "epochs": 12, "steps": 5}
    assert history.history["loss"][-1] < 0.7 * history.history["loss"][0]


def test_ids_train_as_their_texts_do(make: Any) -> None:
    expected = fit_texts(make)
    task = make()
    x, y, weights = ids_of(task)
    other = without_texts(task)
    other.fit(x, y, sample_weight=weights, batch_size=SIZE, **PLAIN)
    assert_same_run(other, expected)


def test_batches_of_texts_train_as_the_texts_do(make: Any) -> None:
    expected = fit_texts(make)
    task = make()
    task.fit(cut(data_of(task), SIZE), **PLAIN)
    assert_same_run(task, expected)


def test_batches_of_ids_train_as_the_texts_do(make: Any) -> None:
    expected = fit_texts(make)
    task = make()
    other = without_texts(task)
    other.fit(batches_of(task, SIZE), **PLAIN)
    assert_same_run(other, expected)


def test_a_generator_goes_on_from_epoch_to_epoch(make: Any) -> None:
    expected = fit_texts(make)
    task = make()
    batches = cut(data_of(task), SIZE)

    def forever() -> Iterator[Any]:
        while True:
            yield from batches

    task.fit(forever(), steps_per_epoch=len(batches), **PLAIN)
    assert_same_run(task, expected)
    assert task.history.params["steps"] == len(batches)


def test_a_generator_gives_no_batch_more_than_is_trained_on() -> None:
    task = make_gpt2()
    taken = []

    def source() -> Iterator[Any]:
        for index, batch in enumerate(cut(TARGETS * 3, SIZE)):
            taken.append(index)
            yield batch

    task.fit(source(), steps_per_epoch=2, epochs=2, verbose=0, gradient_accumulation_steps=2)
    assert taken == [0, 1, 2, 3]


def test_a_data_loader_of_torch_trains_as_the_texts_do() -> None:
    expected = fit_texts(make_gpt2)
    task = make_gpt2()
    loader = torch.utils.data.DataLoader(TARGETS, batch_size=SIZE)
    task.fit(loader, **PLAIN)
    assert_same_run(task, expected)
    assert task.history.params["steps"] == len(loader)


def test_a_data_set_of_hugging_face_trains_as_the_texts_do() -> None:
    datasets = pytest.importorskip("datasets")
    expected = fit_texts(make_bart)
    task = make_bart()
    task.fit(datasets.Dataset.from_dict(PAIRS), batch_size=SIZE, **PLAIN)
    assert_same_run(task, expected)


# ---- how long ----


def test_initial_epoch_counts_from_it() -> None:
    task = make_gpt2()
    history = task.fit(TARGETS, epochs=5, initial_epoch=3, verbose=0)
    assert history.epoch == [3, 4]
    assert len(history.history["loss"]) == 2


def test_the_order_of_an_epoch_is_that_of_its_number() -> None:
    task, other = make_gpt2(), make_gpt2()
    task.fit(TARGETS, batch_size=SIZE, epochs=4, seed=2, verbose=0)
    other.fit(TARGETS, batch_size=SIZE, epochs=2, seed=2, verbose=0)
    other.fit(TARGETS, batch_size=SIZE, epochs=4, initial_epoch=2, seed=2, verbose=0)
    assert_same_weights(task, other)


def test_steps_per_epoch_ends_an_epoch() -> None:
    task = make_gpt2()
    logs = BatchLogs()
    history = task.fit(
        TARGETS, batch_size=SIZE, steps_per_epoch=2, epochs=2, callbacks=[logs], verbose=0
    )
    assert len(logs.losses) == 4
    assert history.params["steps"] == 2
    assert task.optimizer.iterations == 4


# ---- validation ----


def test_every_form_of_validation_data_gives_the_same_numbers(make: Any) -> None:
    task = make()
    texts, (x, y, weights) = data_of(task), ids_of(task)
    forms = [texts, (texts,), cut(texts, SIZE), (cut(texts, SIZE),)]
    found = [make().fit(texts, validation_data=form, **PLAIN).history for form in forms]
    other = without_texts(make())
    forms_of_ids = [(x, y, weights), batches_of(task, SIZE), (batches_of(task, SIZE),)]
    for form in forms_of_ids:
        other = without_texts(make())
        found.append(other.fit(x, y, sample_weight=weights, validation_data=form, **PLAIN).history)
    assert list(found[0]) == [
        "loss",
        "sparse_categorical_accuracy",
        "val_loss",
        "val_sparse_categorical_accuracy",
    ]
    for history in found:
        for name, values in found[0].items():
            assert history[name] == pytest.approx(values, rel=1e-5)
    evaluated = other.evaluate(x, y, sample_weight=weights, verbose=0)
    assert found[0]["val_loss"][-1] == pytest.approx(evaluated[0], rel=1e-5)


def test_validation_data_without_weights_counts_all_labels() -> None:
    task = make_gpt2()
    x, y, weights = ids_of(task)
    other = without_texts(task)
    history = other.fit(x, y, validation_data=(x, y), **PLAIN).history
    expected = other.evaluate(x, y, verbose=0, return_dict=True)
    assert history["val_loss"][-1] == pytest.approx(expected["loss"])
    assert expected["loss"] > other.evaluate(x, y, sample_weight=weights, verbose=0)[0]


def test_validation_split_takes_the_last_rows_whatever_the_order() -> None:
    count = int(COUNT * 0.7)
    task, other = make_bart(), make_bart()
    options: dict[str, Any] = {"batch_size": SIZE, "seed": 4, "epochs": 2, "verbose": 0}
    first = {key: column[:count] for key, column in PAIRS.items()}
    last = {key: column[count:] for key, column in PAIRS.items()}
    task.fit(PAIRS, validation_split=0.3, **options)
    other.fit(first, validation_data=last, **options)
    assert_same_run(task, other)


@pytest.mark.parametrize("split", [False, True])
def test_validation_batch_size_and_steps_are_those_of_validation(split: bool) -> None:
    seen: list[int] = []

    class Count(Callback):
        def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
            seen.append(batch)

    task = make_gpt2()
    data: Any = {"validation_split": 0.5} if split else {"validation_data": TARGETS[:12]}
    options: Any = {"batch_size": SIZE, "callbacks": [Count()], "verbose": 0, **data}
    task.fit(TARGETS, validation_batch_size=3, **options)
    assert seen == [0, 1, 2, 3]
    seen.clear()
    task.fit(TARGETS, validation_batch_size=3, validation_steps=2, **options)
    assert seen == [0, 1]
    seen.clear()
    task.fit(TARGETS, **options)
    assert seen == [0, 1, 2]  # batch_size


@pytest.mark.parametrize(
    ("frequency", "count"), [(1, 5), (2, 2), (5, 1), (6, 0), ([1, 4, 9], 2), ({2}, 1), ([], 0)]
)
def test_validation_freq_chooses_the_epochs(frequency: Any, count: int) -> None:
    task = make_gpt2()
    history = task.fit(
        TARGETS, epochs=5, validation_data=TARGETS, validation_freq=frequency, verbose=0
    )
    assert len(history.history["loss"]) == 5
    assert len(history.history.get("val_loss", [])) == count


# ---- what is shown ----


def test_verbose_chooses_what_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    task = make_gpt2()
    shown = {}
    for verbose in (0, 1, 2, "auto"):
        task.fit(TARGETS, epochs=2, validation_data=TARGETS, verbose=verbose)
        output, shown[verbose] = capfd.readouterr()
        assert output == ""
    assert shown[0] == ""
    assert "Epoch 1/2" in shown[1] and "1/1" in shown[1] and "tokens/s" in shown[1]
    lines = shown[2].splitlines()
    assert [line.split(":")[0] for line in lines] == ["Epoch 1/2", "Epoch 2/2"]
    assert all("val_loss=" in line and "tokens/s" in line for line in lines)
    assert len(shown["auto"].splitlines()) == 2  # no terminal here


# ---- seeds ----


def fit_with_dropout(make: Any, **options: Any) -> CausalLM:
    task: CausalLM = make(dropout=True)
    task.fit(data_of(task), batch_size=SIZE, epochs=2, verbose=0, **options)
    return task


def test_a_seed_repeats_a_run_bit_for_bit_and_another_does_not(make: Any) -> None:
    task = fit_with_dropout(make, seed=3)
    torch.rand(())  # what torch's own generator gives does not matter
    assert_same_run(fit_with_dropout(make, seed=3), task)
    assert largest_difference(fit_with_dropout(make, seed=4), task) > 1e-3


def test_the_seed_of_torch_repeats_a_run_where_none_is_given(make: Any) -> None:
    torch.manual_seed(7)
    task = fit_with_dropout(make)
    torch.manual_seed(7)
    assert_same_run(fit_with_dropout(make), task)
    assert largest_difference(fit_with_dropout(make), task) > 1e-3


@pytest.mark.parametrize("seed", [None, 3])
def test_fit_draws_one_number_from_torch_at_most(seed: int | None) -> None:
    torch.manual_seed(7)
    if seed is None:
        torch.randint(2**31 - 1, ())
    expected = torch.get_rng_state()
    task = make_gpt2(dropout=True)
    torch.manual_seed(7)
    task.fit(TARGETS, epochs=2, verbose=0, seed=seed)
    assert torch.equal(torch.get_rng_state(), expected)


def test_an_error_leaves_the_generator_of_torch_as_it_was() -> None:
    class Fail(Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            raise RuntimeError("enough")

    torch.manual_seed(7)
    expected = torch.get_rng_state()
    task = make_gpt2(dropout=True)
    with pytest.raises(RuntimeError, match="enough"):
        task.fit(TARGETS, verbose=0, seed=3, callbacks=[Fail()])
    assert torch.equal(torch.get_rng_state(), expected)


# ---- how updates are computed ----


def test_accumulated_batches_update_as_one_batch_does(make: Any) -> None:
    rows: Any = {"encoder_text": SOURCES[:20], "decoder_text": TARGETS[:20]}
    task, other = make(optimizer=SGD), make(optimizer=SGD)
    rows = rows if task.backbone.is_seq2seq else TARGETS[:20]
    options: dict[str, Any] = {**PLAIN, "epochs": 3}
    task.fit(rows, batch_size=10, **options)
    other.fit(rows, batch_size=5, gradient_accumulation_steps=2, **options)
    assert other.optimizer.iterations == task.optimizer.iterations == 6
    assert largest_difference(task, other) < 1e-5
    for name, values in task.history.history.items():
        assert values == pytest.approx(other.history.history[name], rel=1e-5)


def test_keras_says_how_many_batches_are_accumulated() -> None:
    optimizer = {"class_name": "Adam", "config": {"gradient_accumulation_steps": 3}}
    task = make_gpt2(optimizer=optimizer)
    task.fit(TARGETS, batch_size=SIZE, epochs=2, verbose=0)
    assert task.optimizer.iterations == 4  # 3 + 2 batches an epoch: what is left updates too


def test_clip_norm_keeps_updates_small() -> None:
    task, other = make_gpt2(optimizer="sgd"), make_gpt2(optimizer="sgd")
    before = other.get_weights()
    options: dict[str, Any] = {**PLAIN, "epochs": 1}
    task.fit(TARGETS, **options)
    other.fit(TARGETS, clip_norm=0.5, **options)
    moved = [a - b for a, b in zip(other.get_weights(), before, strict=True)]
    free = [a - b for a, b in zip(task.get_weights(), before, strict=True)]
    norm = np.sqrt(sum((value.astype(np.float64) ** 2).sum() for value in moved))
    assert norm == pytest.approx(0.01 * 0.5, rel=1e-3)  # the rate of "sgd" x the norm
    assert np.sqrt(sum((value**2).sum() for value in free)) > 2 * norm


@pytest.mark.parametrize("dropout", [False, True])
def test_activation_checkpointing_changes_nothing(make: Any, dropout: bool) -> None:
    runs = []
    for value in (False, True):
        task = make(dropout=dropout)
        task.fit(
            data_of(task), batch_size=SIZE, epochs=2, seed=3, verbose=0,
            activation_checkpointing=value,
        )  # fmt: skip
        runs.append(task)
    assert largest_difference(*runs) < 1e-6


def test_bfloat16_trains_float32_weights(make: Any) -> None:
    task, other = make(), make()
    options: dict[str, Any] = {"batch_size": SIZE, "epochs": 8, "seed": 1, "verbose": 0}
    losses = task.fit(data_of(task), precision="bfloat16", **options).history["loss"]
    exact = other.fit(data_of(task), **options).history["loss"]
    assert losses[-1] < 0.8 * losses[0]
    assert losses == pytest.approx(exact, rel=0.1)
    assert losses != exact
    assert all(value.dtype == torch.float32 for value in task.torch_module().parameters())
    evaluated = task.evaluate(data_of(task), precision="bfloat16", verbose=0)[0]
    assert evaluated == pytest.approx(task.evaluate(data_of(task), verbose=0)[0], rel=0.1)
