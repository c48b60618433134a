# SPDX-License-Identifier: Apache-2.0
"""Records what Keras' callbacks do over made-up logs: keras_callbacks.json.

Run it once with the version that is to be matched:
    KERAS_BACKEND=torch python tests/golden/record_keras_callbacks.py        # keras 3.15.0

`replay` needs nothing of Keras: the test calls it with fuseq's callbacks.
"""

import json
import tempfile
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

PATH = Path(__file__).resolve().parent / "keras_callbacks.json"
NAN = float("nan")
KEPT = ("wait", "best", "stopped_epoch", "best_epoch", "cooldown_counter")


class Model:
    """A model whose one weight tells how many epochs it was trained."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stop_training = False
        self.optimizer = SimpleNamespace(learning_rate=0.01)
        self.weights = [0.0]

    def get_weights(self) -> list[float]:
        return list(self.weights)

    def set_weights(self, weights: list[float]) -> None:
        self.weights = list(weights)

    def save_weights(self, path: str, overwrite: bool = True) -> None:
        Path(path).write_text(str(self.weights[0]), encoding="utf-8")


def make(module: Any, scenario: dict[str, Any], folder: Path) -> Any:
    """The callback of a scenario."""
    arguments = dict(scenario["arguments"])
    if "factors" in arguments:
        factors = arguments.pop("factors")
        arguments["schedule"] = lambda epoch, rate: rate * factors[epoch]
    for name in ("filepath", "filename"):
        if name in arguments:
            arguments[name] = str(folder / arguments[name])
    return getattr(module, scenario["callback"])(**arguments)


def replay(module: Any, scenario: dict[str, Any]) -> dict[str, Any]:
    """Drives a callback over the logs of a scenario, as `fit` does, and tells what it did."""
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        folder = Path(name)
        model = Model(folder)
        callback = make(module, scenario, folder)
        callbacks = module.CallbackList([callback], add_history=True, model=model)
        callbacks.on_train_begin()
        epochs = []
        for epoch, logs in enumerate(scenario["logs"]):
            callbacks.on_epoch_begin(epoch)
            for batch in range(scenario["batches"]):
                callbacks.on_train_batch_begin(batch)
                callbacks.on_train_batch_end(batch, {"loss": logs["loss"]})
            model.weights = [epoch + 1.0]
            callbacks.on_epoch_end(epoch, logs)
            seen = {kept: getattr(callback, kept) for kept in KEPT if hasattr(callback, kept)}
            seen["learning_rate"] = model.optimizer.learning_rate
            seen["files"] = sorted(path.name for path in folder.iterdir())
            epochs.append(seen)
            if model.stop_training:
                break
        callbacks.on_train_end()
        files = {path.name: path.read_bytes().decode() for path in sorted(folder.iterdir())}
        return {
            "epochs": epochs,
            "final_weight": model.weights[0],
            "files": files,
            "history": model.history.history,
            "num_warnings": len([w for w in caught if w.category is UserWarning]),
        }


def rows(name: str, *values: float) -> list[dict[str, float]]:
    """Logs of epochs; the loss falls by itself."""
    return [
        {"loss": 1 / (epoch + 1), **({} if value is None else {name: value})}
        for epoch, value in enumerate(values)
    ]


def scenario(callback: str, logs: Any, batches: int = 2, **arguments: Any) -> dict[str, Any]:
    """One entry of the file, without what Keras did."""
    return {"callback": callback, "arguments": arguments, "logs": logs, "batches": batches}


FALLS = rows("val_loss", 0.9, 0.7, 0.8, 0.71, 0.69, 0.69, 0.9, 0.9, 0.5)
RISES = rows("val_sparse_categorical_accuracy", 0.3, 0.4, 0.5, 0.45, 0.5, 0.5, 0.49)
ACCURACY = "val_sparse_categorical_accuracy"
GAPS = rows("val_loss", 0.9, None, 0.8, None, 0.95, 0.96, 0.97)
BROKEN = rows("val_loss", NAN, 0.5, NAN, 0.6, 0.7, 0.4)
PLATEAU = rows("val_loss", 0.5, 0.5, 0.5, 0.5, 0.5, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4)
SCENARIOS = [
    scenario("EarlyStopping", FALLS),
    scenario("EarlyStopping", FALLS, patience=2),
    scenario("EarlyStopping", FALLS, patience=3, restore_best_weights=True),
    scenario("EarlyStopping", FALLS, patience=3, min_delta=0.05, restore_best_weights=True),
    scenario("EarlyStopping", FALLS, patience=2, baseline=0.6),
    scenario("EarlyStopping", FALLS, patience=1, start_from_epoch=3),
    scenario("EarlyStopping", FALLS, patience=1, mode="max"),
    scenario("EarlyStopping", FALLS, patience=0, monitor="loss"),
    scenario("EarlyStopping", RISES, patience=2, monitor=ACCURACY, mode="max"),
    scenario("EarlyStopping", RISES, patience=2, monitor=ACCURACY, mode="max", min_delta=0.1),
    scenario("EarlyStopping", GAPS, patience=2, restore_best_weights=True),
    scenario("EarlyStopping", BROKEN, patience=2, restore_best_weights=True),
    scenario("EarlyStopping", FALLS, patience=1, mode="upwards"),
    scenario("ReduceLROnPlateau", PLATEAU, patience=2),
    scenario("ReduceLROnPlateau", PLATEAU, patience=1, factor=0.5, cooldown=2),
    scenario("ReduceLROnPlateau", PLATEAU, patience=1, factor=0.3, min_lr=0.002),
    scenario("ReduceLROnPlateau", GAPS, patience=1, factor=0.5),
    scenario("ReduceLROnPlateau", RISES, patience=1, factor=0.5, monitor=ACCURACY, mode="max"),
    scenario("LearningRateScheduler", FALLS, factors=[1.0, 1.0, 0.5, 0.5, 1.0, 2.0, 1.0, 0.1, 1.0]),
    scenario(
        "ModelCheckpoint",
        FALLS,
        filepath="{epoch:02d}-{val_loss:.2f}.weights.h5",
        save_weights_only=True,
    ),
    scenario(
        "ModelCheckpoint",
        FALLS,
        filepath="{epoch}.weights.h5",
        save_weights_only=True,
        save_best_only=True,
    ),
    scenario(
        "ModelCheckpoint",
        FALLS,
        filepath="best.weights.h5",
        save_weights_only=True,
        save_best_only=True,
        initial_value_threshold=0.7,
    ),
    scenario(
        "ModelCheckpoint",
        GAPS,
        filepath="{epoch}.weights.h5",
        save_weights_only=True,
        save_best_only=True,
    ),
    scenario(
        "ModelCheckpoint",
        FALLS[:4],
        batches=5,
        filepath="{epoch}-{batch}-{loss:.3f}.weights.h5",
        save_weights_only=True,
        save_freq=3,
    ),
    scenario("CSVLogger", FALLS[:3], filename="run.csv"),
    scenario("CSVLogger", GAPS[1:], filename="run.csv", separator=";"),
    scenario("CSVLogger", GAPS, filename="run.csv", append=True),
    scenario("TerminateOnNaN", [{"loss": 0.5}, {"loss": NAN}, {"loss": 0.4}]),
    scenario("TerminateOnNaN", [{"loss": 0.5}, {"loss": -float("inf")}, {"loss": 0.4}]),
]


def main() -> None:
    """Writes the file."""
    import keras

    recorded = [{**entry, "expected": replay(keras.callbacks, entry)} for entry in SCENARIOS]
    written = {"keras": keras.__version__, "scenarios": recorded}
    PATH.write_text(json.dumps(written) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
