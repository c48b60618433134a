# SPDX-License-Identifier: Apache-2.0
"""Callbacks that write files: ModelCheckpoint, CSVLogger, TensorBoard."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from callback_fixtures import Model, run
from fuseq.callbacks import (
    CallbackList,
    CSVLogger,
    EarlyStopping,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
    TensorBoard,
)

# ---- checkpoints of the model ----


def test_whole_model_is_saved_as_a_folder(tmp_path: Path) -> None:
    model = run(ModelCheckpoint(tmp_path / "deep" / "{epoch:02d}-{val_loss:.2f}"), 0.5, 0.25)
    folder = tmp_path / "deep"
    assert model.saved == [("preset", str(folder / "01-0.50")), ("preset", str(folder / "02-0.25"))]
    assert folder.is_dir()


@pytest.mark.parametrize("ending", [".weights.h5", ".safetensors"])
def test_weights_are_saved_as_a_file(tmp_path: Path, ending: str) -> None:
    path = str(tmp_path / f"best{ending}")
    callback = ModelCheckpoint(path, save_best_only=True, save_weights_only=True)
    assert run(callback, 0.5, 0.6, 0.4).saved == [("weights", path)] * 2


def test_save_best_only_works_with_batches_before_the_first_epoch_ends(tmp_path: Path) -> None:
    callback = ModelCheckpoint(tmp_path / "{batch}", "loss", save_best_only=True, save_freq=1)
    model = Model()
    listed = CallbackList(callback, model=model)
    listed.on_train_begin()
    listed.on_epoch_begin(0)
    for batch, loss in enumerate([0.5, 0.6, 0.4]):
        listed.on_train_batch_end(batch, {"loss": loss})
    assert model.saved == [("preset", str(tmp_path / "1")), ("preset", str(tmp_path / "3"))]


def test_field_that_is_not_in_the_logs_is_an_error_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match=r"'val_bleu'. Available are epoch, val_loss"):
        run(ModelCheckpoint(tmp_path / "{val_bleu}"), 0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"filepath": "a.keras"}, r"\(filepath\): must be a folder, .* got 'a.keras'"),
        ({"filepath": "a.weights.h5"}, r"\(filepath\): must be a folder"),
        (
            {"filepath": "a", "save_weights_only": True},
            r"\(filepath\): must end in .weights.h5 or .safetensors .* got 'a'",
        ),
        ({"filepath": "a", "save_freq": "batch"}, r"\(save_freq\): .* got 'batch'"),
        ({"filepath": "a", "save_freq": 0}, r"\(save_freq\): .* got 0"),
    ],
)
def test_bad_argument_of_model_checkpoint_is_named(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=r"^ModelCheckpoint" + message):
        ModelCheckpoint(**arguments)


def test_folder_in_the_place_of_weights_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.weights.h5").mkdir()
    with pytest.raises(IsADirectoryError, match=r"must be a file, got the folder .*a.weights.h5"):
        run(ModelCheckpoint(tmp_path / "a.weights.h5", save_weights_only=True), 0.5)


def test_callbacks_say_what_they_do_when_asked(capsys: Any, tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint(tmp_path / "best", verbose=1, save_best_only=True)
    stopping = EarlyStopping(verbose=1, patience=1, restore_best_weights=True)
    scheduler = LearningRateScheduler(lambda epoch, rate: rate / 2, verbose=1)
    plateau = ReduceLROnPlateau(patience=1, factor=0.5, verbose=1)
    run([checkpoint, stopping, scheduler, plateau], 0.5, 0.6)
    assert capsys.readouterr().err.splitlines() == [
        "Epoch 1: LearningRateScheduler sets the learning rate to 0.005",
        "Epoch 1: val_loss improved from none to 0.50000",
        f"Epoch 1: saved to {tmp_path / 'best'}",
        "Epoch 2: LearningRateScheduler sets the learning rate to 0.0025",
        "Epoch 2: val_loss did not improve from 0.50000",
        "Epoch 2: ReduceLROnPlateau lowers the learning rate to 0.00125",
        "Epoch 2: early stopping",
        "Restoring the weights of the best epoch: 1",
    ]


def test_only_the_main_process_writes(capsys: Any, tmp_path: Path) -> None:
    model = Model(is_main_process=False)
    checkpoint = ModelCheckpoint(tmp_path / "deep" / "best", verbose=1, save_best_only=True)
    board = TensorBoard(tmp_path / "logs", update_freq=1)
    run([checkpoint, CSVLogger(tmp_path / "run.csv"), board], 0.5, 0.4, model=model)
    assert (model.saved, list(tmp_path.iterdir()), capsys.readouterr().err) == ([], [], "")
    assert checkpoint.best == 0.4  # all processes decide alike


def resumed(callback: Any, state: Any, model: Any = None) -> CallbackList:
    """A list that goes on from a checkpoint, in the middle of an epoch."""
    listed = CallbackList(callback, model=model or Model())
    listed.on_train_begin()
    listed.load_state(json.loads(json.dumps(state)))
    return listed


def test_model_is_saved_under_its_epoch_after_a_checkpoint_inside_of_it(tmp_path: Path) -> None:
    listed = CallbackList(ModelCheckpoint(tmp_path / "{epoch}-{batch}", save_freq=2), model=Model())
    listed.on_train_begin()
    listed.on_epoch_begin(3)
    listed.on_train_batch_end(0, {"loss": 0.5})
    model = Model()
    second = resumed(
        ModelCheckpoint(tmp_path / "{epoch}-{batch}", save_freq=2), listed.state(), model
    )
    second.on_train_batch_end(1, {"loss": 0.5})
    assert model.saved == [("preset", str(tmp_path / "4-2"))]


# ---- logs ----


def test_row_is_in_the_file_when_its_epoch_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    listed = CallbackList(CSVLogger(path), model=Model())
    listed.on_train_begin()
    listed.on_epoch_end(0, {"loss": 0.5})
    assert path.read_bytes() == b"epoch,loss,val_loss\r\n0,0.5,NA\r\n"


def test_append_keeps_rows_and_writes_one_header(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    for _ in range(2):
        run(CSVLogger(path, append=True), 0.5)
    assert path.read_text(encoding="utf-8").splitlines() == ["epoch,val_loss", "0,0.5", "0,0.5"]
    run(CSVLogger(path), 0.25)
    assert path.read_text(encoding="utf-8").splitlines() == ["epoch,val_loss", "0,0.25"]


@pytest.mark.parametrize("append", [False, True])
def test_rows_before_a_checkpoint_stay_and_those_after_it_go(tmp_path: Path, append: bool) -> None:
    path = tmp_path / "run.csv"
    run(CSVLogger(path), 9.0)
    listed = CallbackList(CSVLogger(path, append=append), model=Model())
    listed.on_train_begin()
    states = [listed.state()]
    for epoch in range(3):
        listed.on_epoch_end(epoch, {"val_loss": 0.5})
        states.append(listed.state())
    head = ["epoch,val_loss", *(["0,9.0"] if append else [])]
    for epoch in (2, 0):
        second = resumed(CSVLogger(path, append=append), states[epoch])
        second.on_epoch_end(epoch, {"val_loss": 0.25})
        rows = [f"{before},0.5" for before in range(epoch)]
        lines = path.read_text(encoding="utf-8").splitlines()
        assert lines == [*head, *rows, f"{epoch},0.25"]
    path.unlink()
    resumed(CSVLogger(path, append=append), states[3]).on_epoch_end(3, {"val_loss": 0.5})
    assert path.read_text(encoding="utf-8").splitlines() == ["epoch,val_loss", "3,0.5"]


def test_a_file_that_cannot_be_written_is_an_error_when_training_begins(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"none"):
        CallbackList(CSVLogger(tmp_path / "none" / "a.csv"), model=Model()).on_train_begin()


def test_vectors_are_written_as_one_cell(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    listed = CallbackList(CSVLogger(path, separator="\t"), model=Model())
    listed.on_train_begin()
    listed.on_epoch_end(0, {"val_vector": np.array([1.5, 2.5])})
    assert path.read_text(encoding="utf-8").splitlines()[1] == '0\t"""[1.5, 2.5]"""'


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_is_an_error_that_names_the_file() -> None:
    with pytest.raises(OSError, match=r"CSVLogger: No space left on device: '/dev/full'"):
        run(CSVLogger("/dev/full"), 0.5)


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values by tag, of all event files of a folder."""
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.iterdir()):
        for event in loader.EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                assert value.metadata.plugin_data.plugin_name in ("", "scalars")
                number = value.tensor.float_val[0]
                found.setdefault(value.tag, []).append((event.step, round(number, 6)))
    return found


def drive_tensorboard(callback: TensorBoard, model: Any) -> None:
    listed = CallbackList(callback, model=model)
    listed.on_train_begin()
    for epoch in range(2):
        listed.on_epoch_begin(epoch)
        for batch in range(3):
            listed.on_train_batch_begin(batch)
            model.optimizer.iterations += 1
            listed.on_train_batch_end(batch, {"loss": 0.5})
        listed.on_test_begin()
        listed.on_test_end({"loss": 0.75})
        listed.on_epoch_end(epoch, {"loss": 0.5, "val_loss": 0.75})
    listed.on_train_end()


def test_tensorboard_has_the_folders_and_tags_of_keras(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    drive_tensorboard(TensorBoard(tmp_path), Model())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train", "validation"]
    assert scalars(tmp_path / "train") == {
        "epoch_loss": [(0, 0.5), (1, 0.5)],
        "epoch_learning_rate": [(0, 0.01), (1, 0.01)],
    }
    assert scalars(tmp_path / "validation") == {
        "evaluation_loss_vs_iterations": [(3, 0.75), (6, 0.75)],
        "epoch_loss": [(0, 0.75), (1, 0.75)],
    }


def test_tensorboard_can_write_batches_and_steps_per_second(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    drive_tensorboard(TensorBoard(tmp_path, update_freq=2, write_steps_per_second=True), Model())
    found = scalars(tmp_path / "train")
    assert found["batch_loss"] == [(2, 0.5), (4, 0.5), (6, 0.5)]
    assert [step for step, _ in found["batch_steps_per_second"]] == [2, 4, 6]
    assert all(value > 0 for _, value in found["epoch_steps_per_second"])


def test_tensorboard_counts_on_after_a_checkpoint(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    options: Any = {"update_freq": 1, "write_steps_per_second": True}
    first = CallbackList(TensorBoard(tmp_path / "first", **options), model=Model())
    first.on_train_begin()
    first.on_epoch_begin(0)
    first.callbacks[0].model.optimizer.iterations = 5
    for batch in range(5):
        first.on_train_batch_begin(batch)
    model = Model()
    callback = TensorBoard(tmp_path, **options)
    listed = resumed(callback, first.state(), model)
    assert callback._iterations_before == 5
    listed.on_train_batch_begin(5)
    listed.on_train_batch_end(5, {"loss": 0.5})
    listed.on_train_end()
    assert scalars(tmp_path / "train")["batch_loss"] == [(6, 0.5)]


def test_tensorboard_needs_no_optimizer_for_an_evaluation(tmp_path: Path) -> None:
    class Frozen:
        is_main_process = True

        @property
        def optimizer(self) -> Any:
            raise ValueError("nothing to train")

    CallbackList(TensorBoard(tmp_path), model=Frozen()).on_test_end({"loss": 1.0})
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_closes_its_file_after_an_evaluation_alone(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    callback, model = TensorBoard(tmp_path), Model()
    CallbackList(callback, model=model).on_test_end({"loss": 1.0})
    assert scalars(tmp_path / "validation") == {"evaluation_loss_vs_iterations": [(0, 1.0)]}
    assert callback._writers == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("histogram_freq", 1),
        ("write_images", True),
        ("profile_batch", (1, 2)),
        ("embeddings_freq", 1),
        ("embeddings_metadata", "words.tsv"),
        ("update_freq", "step"),
        ("update_freq", 0),
    ],
)
def test_what_tensorboard_does_not_write_is_an_error(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"TensorBoard\({name}\): must be "):
        TensorBoard(**{name: value})


def test_missing_tensorboard_is_named_when_training_begins(monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard.summary", None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        run(TensorBoard(), 0.5)
