# SPDX-License-Identifier: Apache-2.0
"""Callbacks that watch numbers: what Keras' own do over the same logs, and what is ours."""

import importlib.util
import json
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from callback_fixtures import Model, run
from fuseq import callbacks
from fuseq.callbacks import (
    CallbackList,
    CSVLogger,
    EarlyStopping,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
)

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
RECORDED = json.loads((GOLDEN / "keras_callbacks.json").read_text(encoding="utf-8"))["scenarios"]


def recorder() -> ModuleType:
    path = GOLDEN / "record_keras_callbacks.py"
    spec = importlib.util.spec_from_file_location("record_keras_callbacks", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---- as Keras ----


@pytest.mark.parametrize("number", range(len(RECORDED)))
def test_callback_does_what_that_of_keras_did(number: int) -> None:
    scenario = RECORDED[number]
    found = recorder().replay(callbacks, scenario)
    assert json.dumps(found, sort_keys=True) == json.dumps(scenario["expected"], sort_keys=True)


def test_recorded_scenarios_are_those_of_the_script() -> None:
    asked = [{**scenario} for scenario in RECORDED]
    for scenario in asked:
        del scenario["expected"]
    assert json.dumps(asked) == json.dumps(recorder().SCENARIOS)


def test_schedule_may_take_the_epoch_alone() -> None:
    scheduler = LearningRateScheduler(lambda epoch: 0.5 / (epoch + 1))
    assert run(scheduler, 1.0, 1.0).optimizer.learning_rate == 0.25


def test_error_inside_a_schedule_is_shown_as_it_is() -> None:
    def schedule(epoch: int, rate: float) -> float:
        raise TypeError("inside")

    with pytest.raises(TypeError, match=r"^inside$"):
        run(LearningRateScheduler(schedule), 1.0)


def test_schedule_must_return_a_float() -> None:
    with pytest.raises(ValueError, match=r"LearningRateScheduler\(schedule\): .* got 1 at epoch 0"):
        run(LearningRateScheduler(lambda epoch, rate: 1), 1.0)


def test_optimizer_must_have_a_learning_rate() -> None:
    model = Model()
    del model.optimizer.learning_rate
    with pytest.raises(ValueError, match="must have a learning_rate, got SimpleNamespace"):
        run(LearningRateScheduler(lambda epoch, rate: rate), 1.0, model=model)


def test_factor_must_be_below_one() -> None:
    with pytest.raises(ValueError, match=r"ReduceLROnPlateau\(factor\): must be below 1, got 1.0"):
        ReduceLROnPlateau(factor=1.0)


def test_rate_that_float32_rounds_up_is_not_above_its_minimum() -> None:
    model = Model()
    model.optimizer.learning_rate = float(np.float32(1e-3))  # 0.0010000000475
    run(ReduceLROnPlateau(patience=1, min_lr=1e-3), 0.5, 0.5, model=model)
    assert model.optimizer.learning_rate == float(np.float32(1e-3))


@pytest.mark.parametrize("kind", [EarlyStopping, ReduceLROnPlateau])
def test_number_that_is_not_in_the_logs_is_a_warning_with_those_that_are(kind: Any) -> None:
    with pytest.warns(UserWarning, match=rf"{kind.__name__}\(monitor\): .*'val_loss'.*are loss"):
        run(kind(), 0.5, name="loss")


@pytest.mark.parametrize(
    ("name", "is_better_below"),
    [
        ("loss", True),
        ("val_loss", True),
        ("val_sparse_categorical_accuracy", False),
        ("val_bleu", False),
        ("val_rougeL", False),
        ("exact_match", False),
        ("val_perplexity", True),
    ],
)
def test_auto_mode_knows_losses_and_metrics(name: str, is_better_below: bool) -> None:
    assert EarlyStopping(name).is_better_below() is is_better_below


@pytest.mark.parametrize(
    "callback",
    [
        EarlyStopping("val_distance"),
        ReduceLROnPlateau("val_distance"),
        ModelCheckpoint("run", "val_distance", save_best_only=True),
    ],
)
def test_auto_mode_of_an_unknown_number_is_an_error(callback: Any) -> None:
    with pytest.raises(ValueError, match=r'\(mode\): must be "min" or "max" .*\'val_distance\''):
        run(callback, 0.5, name="val_distance")


def test_unknown_mode_is_a_warning() -> None:
    with pytest.warns(UserWarning, match=r"EarlyStopping\(mode\): .* got 'up'. Taken as auto"):
        assert EarlyStopping(mode="up").mode == "auto"


# ---- state in a training checkpoint ----


def fresh(folder: Path) -> list[Any]:
    checkpoint = ModelCheckpoint(folder / "{epoch}", save_best_only=True)
    plateau = ReduceLROnPlateau(patience=2, factor=0.5, cooldown=1)
    return [EarlyStopping(patience=4), plateau, CSVLogger(folder / "a.csv"), checkpoint]


def test_training_goes_on_with_the_state_of_its_callbacks(tmp_path: Path) -> None:
    values = [0.9, 0.5, 0.6, 0.6, 0.6, 0.6, 0.4, 0.5]
    whole = Model()
    run(fresh(tmp_path), *values, model=whole)
    for split in range(1, 6):
        parts = Model()
        first = CallbackList(fresh(tmp_path), model=parts)
        first.on_train_begin()
        for epoch, value in enumerate(values[:split]):
            first.on_epoch_end(epoch, {"val_loss": value})
        state = json.loads(json.dumps(first.state()))
        second = CallbackList(fresh(tmp_path), model=parts)
        second.on_train_begin()
        second.load_state(state)
        for epoch, value in enumerate(values[split:], start=split):
            second.on_epoch_end(epoch, {"val_loss": value})
            if parts.stop_training:
                break
        assert parts.saved == whole.saved
        assert parts.stop_training is whole.stop_training is True
        assert parts.optimizer.learning_rate == whole.optimizer.learning_rate < 0.01


def test_state_of_other_callbacks_is_an_error() -> None:
    state = CallbackList([EarlyStopping()]).state()
    with pytest.raises(ValueError, match="EarlyStopping, got ReduceLROnPlateau"):
        CallbackList([ReduceLROnPlateau()]).load_state(state)


def test_lost_best_weights_are_a_warning() -> None:
    state = {"wait": 1, "stopped_epoch": 0, "best": 0.5, "best_epoch": 2}
    callback = EarlyStopping(patience=3, restore_best_weights=True)
    listed = CallbackList(callback, model=Model())
    listed.on_train_begin()
    listed.load_state([{"class_name": "EarlyStopping", "state": state}])
    with pytest.warns(UserWarning, match="weights of epoch 3, got none.* epoch 5 take their place"):
        listed.on_epoch_end(4, {"val_loss": 0.6})
    callback.best_weights = [np.ones(2)]  # whoever keeps them can give them back
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        listed.on_epoch_end(5, {"val_loss": 0.6})
    listed.on_train_end()
    assert callback.model.weights[0].tolist() == [1, 1]


def test_lost_best_weights_are_a_warning_where_no_epoch_comes_after() -> None:
    state = {"wait": 1, "stopped_epoch": 0, "best": 0.5, "best_epoch": 2}
    listed = CallbackList(EarlyStopping(restore_best_weights=True), model=Model())
    listed.on_train_begin()
    listed.load_state([{"class_name": "EarlyStopping", "state": state}])
    with pytest.warns(UserWarning, match="of epoch 3, got none.* The model keeps the latest"):
        listed.on_train_end()


def test_a_history_is_pickled_without_its_model() -> None:
    listed = CallbackList(model=Model())
    listed.on_train_begin()
    listed.on_epoch_end(0, {"loss": 0.5})
    history: Any = listed.history
    assert history.model is not None
    loaded = pickle.loads(pickle.dumps(history))
    assert (loaded.history, loaded.epoch, loaded.model) == ({"loss": [0.5]}, [0], None)


# ---- the package ----


def test_callbacks_import_neither_torch_nor_what_is_optional() -> None:
    code = (
        "import sys, fuseq.callbacks; "
        "print([name for name in ('torch', 'tensorboard', 'keras') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
