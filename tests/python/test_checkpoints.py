# SPDX-License-Identifier: Apache-2.0
"""A run that was killed goes on from its checkpoint as if it had not been."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from fuseq.callbacks import Callback, EarlyStopping, LearningRateScheduler, ReduceLROnPlateau
from fuseq.models import CausalLM
from training_batches import TARGETS, cut
from training_processes import run_here, run_script
from training_runs import BatchLogs, assert_same_weights, make_gpt2


class Interrupt(Callback):
    """Ends a run after so many batches."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def fit(folder: Path | None, *callbacks: Any, data: Any = TARGETS, **options: Any) -> CausalLM:
    """Five batches an epoch of a new task."""
    task = make_gpt2(dropout=True)
    given: dict[str, Any] = {"batch_size": 5, "epochs": 3, "seed": 1, "verbose": 0}
    given |= {"validation_data": TARGETS[:7], "checkpoint_dir": folder, **options}
    task.fit(data, callbacks=list(callbacks), **given)
    return task


def interrupted(folder: Path, batches: int, *callbacks: Any, **options: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(folder, *callbacks, Interrupt(batches), **options)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---- going on ----


def test_a_process_that_was_killed_goes_on_as_if_not(tmp_path: Path) -> None:
    run: dict[str, Any] = {"batch_size": 8, "dropout": True}
    (whole,) = run_here(run)
    run["fit"] = {"checkpoint_dir": str(tmp_path / "checkpoints"), "checkpoint_freq": 3}
    run_script(tmp_path, {**run, "die": 8})
    (resumed,) = run_script(tmp_path, run)
    for key in ("history", "epochs", "wait", "weights", "text"):
        assert resumed[key] == whole[key], key
    assert len(resumed["losses"]) == 12 - 6


@pytest.mark.parametrize("batches", [1, 4, 5, 6, 14])
def test_a_run_that_was_interrupted_anywhere_goes_on_as_if_not(
    tmp_path: Path, batches: int
) -> None:
    expected = fit(None)
    interrupted(tmp_path, batches, checkpoint_freq=2)
    logs = BatchLogs()
    task = fit(tmp_path, logs, checkpoint_freq=2)
    assert task.history.history == expected.history.history
    assert task.history.epoch == [0, 1, 2]
    assert_same_weights(task, expected)
    # A checkpoint every two updates and after each epoch, but none of the batch that ended it.
    assert len(logs.losses) == 15 - max(n for n in (0, 2, 4, 5, 6, 8, 10, 12, 14) if n < batches)


def test_a_seed_that_was_drawn_is_kept(tmp_path: Path) -> None:
    torch.manual_seed(9)
    expected = fit(None, seed=None)
    torch.manual_seed(9)
    interrupted(tmp_path, 8, seed=None)
    task = fit(tmp_path, seed=None)
    assert task.history.history == expected.history.history
    assert_same_weights(task, expected)


def test_a_finished_run_is_not_done_again_and_more_epochs_go_on(tmp_path: Path) -> None:
    logs = BatchLogs()
    first = fit(tmp_path)
    again = fit(tmp_path, logs)
    assert logs.losses == []
    assert again.history.history == first.history.history
    assert again.history.epoch == [0, 1, 2]
    assert_same_weights(again, first)
    longer = fit(tmp_path, logs, epochs=5)
    assert len(logs.losses) == 10
    expected = fit(None, epochs=5)
    assert longer.history.history == expected.history.history
    assert_same_weights(longer, expected)


def test_training_goes_on_within_an_accumulated_epoch(tmp_path: Path) -> None:
    options: Any = {"gradient_accumulation_steps": 2, "checkpoint_freq": 1}
    expected = fit(None, gradient_accumulation_steps=2)
    interrupted(tmp_path, 8, **options)
    task = fit(tmp_path, **options)
    assert task.history.history == expected.history.history
    assert_same_weights(task, expected)


@pytest.mark.parametrize("batches", [3, 9])
def test_generators_are_passed_over_as_far_as_they_were_used(tmp_path: Path, batches: int) -> None:
    def forever() -> Iterator[Any]:
        while True:
            yield from cut(TARGETS, 4)  # six batches: an epoch ends among them

    def run(folder: Path | None, *callbacks: Any) -> CausalLM:
        return fit(
            folder, *callbacks, data=forever(), batch_size=None, steps_per_epoch=4,
            validation_data=forever(), validation_steps=1, validation_freq=[1, 3],
            checkpoint_freq=2,
        )  # fmt: skip

    expected = run(None)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Interrupt(batches))
    task = run(tmp_path)
    assert task.history.history == expected.history.history
    assert_same_weights(task, expected)


def test_a_pass_that_is_cut_by_steps_per_epoch_goes_on(tmp_path: Path) -> None:
    options: dict[str, Any] = {"steps_per_epoch": 2, "epochs": 2, "checkpoint_freq": 1}
    expected = fit(None, **options)
    interrupted(tmp_path, 4, **options)
    task = fit(tmp_path, **options)
    assert task.history.history == expected.history.history
    assert_same_weights(task, expected)


def test_the_state_of_callbacks_goes_on(tmp_path: Path) -> None:
    def callbacks() -> list[Any]:
        return [
            EarlyStopping(monitor="loss", min_delta=100, patience=3),
            ReduceLROnPlateau(monitor="loss", min_delta=100, patience=2, factor=0.5),
        ]

    expected = fit(None, *callbacks(), epochs=9)
    interrupted(tmp_path, 13, *callbacks(), epochs=9)
    resumed = callbacks()
    task = fit(tmp_path, *resumed, epochs=9)
    assert task.history.epoch == [0, 1, 2, 3]  # stopped after the best epoch and three more
    assert resumed[0].stopped_epoch == 3
    rates = task.history.history["learning_rate"]
    assert rates[0] == pytest.approx(0.01) and rates[-1] == pytest.approx(0.005)
    assert task.history.history == expected.history.history
    assert_same_weights(task, expected)
    logs = BatchLogs()
    fit(tmp_path, *callbacks(), logs, epochs=12)
    assert logs.losses == []  # what has stopped stays stopped


def test_a_rate_that_was_set_goes_on(tmp_path: Path) -> None:
    def halve(epoch: int, rate: float) -> float:
        return rate / 2

    expected = fit(None, LearningRateScheduler(halve))
    interrupted(tmp_path, 8, LearningRateScheduler(halve), checkpoint_freq=1)
    task = fit(tmp_path, LearningRateScheduler(halve), checkpoint_freq=1)
    assert task.history.history == expected.history.history
    assert_same_weights(task, expected)


def test_two_checkpoints_are_kept_and_nothing_else(tmp_path: Path) -> None:
    fit(tmp_path, checkpoint_freq=2)
    assert names(tmp_path) == ["step-00000014", "step-00000015"]
    shutil.rmtree(tmp_path)
    fit(tmp_path)
    assert names(tmp_path) == ["step-00000010", "step-00000015"]


def test_checkpoint_freq_without_a_folder_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fit(None, checkpoint_freq=2)
    assert names(tmp_path) == []


# ---- what must be as it was ----


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 6}, "batch_size 5, got 6"),
        ({"seed": 2}, "seed 1, got 2"),
        ({"data": TARGETS[:12]}, "num_batches 5, got 3"),
        ({"steps_per_epoch": 3}, "num_batches 5, got 3"),
        ({"precision": "bfloat16"}, "precision 'float32', got 'bfloat16'"),
        ({"shuffle": False}, "shuffle True, got False"),
        ({"length_buckets": False}, "length_buckets True, got False"),
        ({"gradient_accumulation_steps": 2}, "gradient_accumulation_steps 1, got 2"),
        (
            {"shuffle": False, "batch_size": 6},
            "batch_size 5, got 6, num_batches 5, got 4, shuffle True, got False",
        ),
    ],
)
def test_a_changed_setting_is_named(tmp_path: Path, options: Any, message: str) -> None:
    fit(tmp_path, epochs=1)
    with pytest.raises(ValueError, match=f"goes on from checkpoint_dir .*must have {message}"):
        fit(tmp_path, **options)


def test_another_optimizer_or_other_callbacks_are_named(tmp_path: Path) -> None:
    fit(tmp_path, EarlyStopping(), epochs=1)
    task = make_gpt2(optimizer="sgd")
    with pytest.raises(ValueError, match=r"optimizer '.*', got '.*'"):
        task.fit(TARGETS, batch_size=5, seed=1, checkpoint_dir=tmp_path, verbose=0)
    with pytest.raises(ValueError, match="callbacks: must be those of the checkpoint"):
        fit(tmp_path)


# ---- damage ----


@pytest.mark.parametrize(
    ("name", "content"),
    [("state.pt", b""), ("state.pt", None), ("progress.json", b"{"), ("progress.json", b"\xff")],
)
def test_a_damaged_checkpoint_is_named(tmp_path: Path, name: str, content: bytes | None) -> None:
    fit(tmp_path)
    newest = tmp_path / names(tmp_path)[-1]
    file = newest / name
    file.write_bytes(file.read_bytes()[:2000] if content is None else content)
    with pytest.raises(ValueError, match=r'fit: checkpoint ".*step-00000015" must be whole, got: '):
        fit(tmp_path)
    shutil.rmtree(newest)  # as the message says
    expected = fit(None)
    assert_same_weights(fit(tmp_path), expected)


@pytest.mark.parametrize("change", ["name", "shape"])
def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path, change: str) -> None:
    fit(tmp_path)
    file = tmp_path / names(tmp_path)[-1] / "state.pt"
    state = torch.load(file, weights_only=True)
    value = state["parameters"].pop("embed.tokens")
    state["parameters"]["other" if change == "name" else "embed.tokens"] = value[1:]
    torch.save(state, file)
    with pytest.raises(ValueError, match=r"must be of this model, got one where embed\.tokens is"):
        fit(tmp_path)


def test_an_unfinished_folder_is_passed_over(tmp_path: Path) -> None:
    fit(tmp_path)
    (tmp_path / "step-00000099").mkdir()
    assert fit(tmp_path).history.epoch == [0, 1, 2]


FULL_DISK = """
import resource, sys
from pathlib import Path
from test_checkpoints import fit

limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))  # stands for a full disk
try:
    fit(Path(sys.argv[1]))
except BaseException as error:
    print(f"{type(error).__name__}: {error}")
"""


def test_a_full_disk_is_an_error_that_names_the_checkpoint(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    fit(tmp_path, epochs=1)
    (kept,) = names(tmp_path)
    size = (tmp_path / kept / "state.pt").stat().st_size
    # A process of its own: one that is forked from here could wait for threads that it lacks.
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path), str(size // 2)],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.stdout.startswith("OSError: fit: checkpoint "), done
    assert "step-00000010" in done.stdout and "The ones before are as they were" in done.stdout
    assert names(tmp_path) == [kept]
    assert json.loads((tmp_path / kept / "progress.json").read_text())["epoch"] == 1
    assert_same_weights(fit(tmp_path), fit(None))


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"fit: checkpoint .* must be written, got: "):
        fit(tmp_path / "file" / "checkpoints")
