# SPDX-License-Identifier: Apache-2.0
"""Callbacks in a real `fit`: the order of calls, and that what they ask for is done."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from fuseq.callbacks import (
    Callback,
    EarlyStopping,
    History,
    LearningRateScheduler,
    ModelCheckpoint,
)
from fuseq.models import CausalLM
from training_batches import TARGETS
from training_runs import BatchLogs, Calls, assert_same_weights, make_bart, make_gpt2

FIT: dict[str, Any] = {"batch_size": 12, "verbose": 0, "seed": 1}  # two batches an epoch


def test_hooks_are_called_in_the_order_of_keras() -> None:
    calls = Calls()
    task = make_gpt2()
    task.fit(TARGETS, epochs=2, validation_data=TARGETS[:12], callbacks=calls, **FIT)
    batches = [f"train_batch_{end} {batch}" for batch in (0, 1) for end in ("begin", "end")]
    test = ["test_begin", "test_batch_begin 0", "test_batch_end 0", "test_end"]
    epochs = [[f"epoch_begin {epoch}", *batches, *test, f"epoch_end {epoch}"] for epoch in (0, 1)]
    assert calls.seen == ["train_begin", *epochs[0], *epochs[1], "train_end"]
    assert calls.model is task
    assert calls.params == {"verbose": 0, "epochs": 2, "steps": 2}


def test_hooks_of_accumulated_batches_are_called_around_their_update() -> None:
    calls = Calls()
    make_gpt2().fit(TARGETS, gradient_accumulation_steps=2, callbacks=[calls], **FIT)
    begins, ends = ([f"train_batch_{end} {batch}" for batch in (0, 1)] for end in ("begin", "end"))
    assert calls.seen[2:-2] == [*begins, *ends]


def test_evaluate_and_predict_call_their_hooks() -> None:
    task = make_gpt2()
    for kind, call in (("test", task.evaluate), ("predict", task.predict)):
        calls = Calls()
        call(TARGETS, batch_size=12, verbose=0, callbacks=[calls])
        batches = [f"{kind}_batch_{end} {batch}" for batch in (0, 1) for end in ("begin", "end")]
        assert calls.seen == [f"{kind}_begin", *batches, f"{kind}_end"]
        assert calls.model is task


def test_logs_are_floats_and_the_last_batch_has_those_of_the_epoch() -> None:
    seen: dict[str, Any] = {}

    class Look(Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            seen["batch"] = dict(logs)

        def on_test_end(self, logs: Any = None) -> None:
            seen["test"] = dict(logs)

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            seen["epoch"] = dict(logs)

        def on_train_end(self, logs: Any = None) -> None:
            seen["train"] = dict(logs)

    history = make_gpt2().fit(TARGETS, validation_data=TARGETS, callbacks=Look(), **FIT).history
    assert seen["train"] == seen["epoch"] == {name: values[0] for name, values in history.items()}
    assert all(isinstance(value, float) for value in seen["epoch"].values())
    for name, value in seen["batch"].items():
        assert seen["epoch"][name] == value
    for name, value in seen["test"].items():
        assert seen["epoch"][f"val_{name}"] == value


def test_stop_training_ends_the_epoch_after_its_batch() -> None:
    class Stop(BatchLogs):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            super().on_train_batch_end(batch, logs)
            self.model.stop_training = len(self.losses) == 3

    stop, task = Stop(), make_gpt2()
    history = task.fit(TARGETS, epochs=5, validation_data=TARGETS, callbacks=stop, **FIT)
    assert len(stop.losses) == 3
    assert history.epoch == [0, 1]
    assert len(history.history["val_loss"]) == 2
    assert task.stop_training
    assert task.fit(TARGETS, **FIT).epoch == [0]  # the next one is not stopped


@pytest.mark.parametrize("make", [make_gpt2, make_bart])
def test_early_stopping_gives_back_the_best_weights(make: Any) -> None:
    class Keep(Callback):
        weights: dict[int, Any]

        def on_train_begin(self, logs: Any = None) -> None:
            self.weights = {}

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.weights[epoch] = self.model.get_weights()

    stopping = EarlyStopping(monitor="val_acc", mode="max", patience=2, restore_best_weights=True)
    keep, task = Keep(), make(optimizer={"class_name": "SGD", "config": {"learning_rate": 5.0}},
                              weighted_metrics=["acc"])  # fmt: skip
    data = TARGETS if make is make_gpt2 else {"encoder_text": TARGETS, "decoder_text": TARGETS}
    history = task.fit(
        data, epochs=20, validation_split=0.3, callbacks=[keep, stopping], clip_norm=0.5, **FIT
    ).history["val_acc"]
    best = int(np.argmax(history))
    assert stopping.best_epoch == best < len(history) - 1 < 19
    for value, expected in zip(task.get_weights(), keep.weights[best], strict=True):
        np.testing.assert_array_equal(value, expected)


def test_weights_that_a_callback_saved_can_be_loaded(tmp_path: Path) -> None:
    paths = [tmp_path / "{epoch}.weights.h5", tmp_path / "{epoch}.safetensors"]
    callbacks: list[Any] = [ModelCheckpoint(path, save_weights_only=True) for path in paths]
    callbacks.append(ModelCheckpoint(tmp_path / "preset{epoch}"))
    task = make_gpt2()
    task.fit(TARGETS, epochs=2, callbacks=callbacks, **FIT)
    other = make_gpt2()
    for path in paths:
        other.set_weights([np.zeros_like(value) for value in other.get_weights()])
        other.load_weights(str(path).format(epoch=2))
        assert_same_weights(other, task)
    assert_same_weights(CausalLM.from_preset(tmp_path / "preset2", num_threads=1), task)
    first = CausalLM.from_preset(tmp_path / "preset1", num_threads=1)
    assert np.abs(first.get_weights()[0] - task.get_weights()[0]).max() > 1e-3


def test_a_scheduler_changes_the_rate_of_the_next_epoch() -> None:
    used = []

    class Look(Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            used.append(self.model.optimizer.torch.param_groups[0]["lr"])

    callbacks = [LearningRateScheduler(lambda epoch, rate: rate / 10), Look()]
    task = make_gpt2()
    history = task.fit(TARGETS, epochs=2, callbacks=callbacks, **FIT).history
    assert used == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4])
    assert history["learning_rate"] == pytest.approx([1e-3, 1e-4])
    other = make_gpt2()
    other.optimizer.learning_rate = 1e-3
    other.fit(TARGETS, epochs=1, **FIT)
    other.optimizer.learning_rate = 1e-4
    other.fit(TARGETS, epochs=2, initial_epoch=1, **FIT)
    assert_same_weights(other, task)


def test_a_history_of_the_users_is_filled() -> None:
    history = History()
    task = make_gpt2()
    assert task.fit(TARGETS, callbacks=[history], **FIT) is history
    assert list(history.history["loss"])
    task.fit(TARGETS, callbacks=[history], **FIT)
    assert len(history.history["loss"]) == 2


def test_a_callback_may_generate_with_the_weights_as_they_are() -> None:
    texts: list[Any] = []

    class Generate(Callback):
        def on_train_begin(self, logs: Any = None) -> None:
            assert self.model.backbone.engine._model is None  # its memory is free

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            texts.append(self.model.predict(TARGETS[:2], verbose=0))

    task = make_gpt2()
    task.fit(TARGETS, epochs=3, callbacks=[Generate()], **FIT)
    np.testing.assert_array_equal(texts[-1], task.predict(TARGETS[:2], verbose=0))
    assert all(np.abs(a - b).max() > 1e-3 for a, b in pairwise(texts))
