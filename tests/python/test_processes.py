# SPDX-License-Identifier: Apache-2.0
"""Two processes train as one does with batches twice as large, sharded or not."""

import json
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from fuseq.models import CausalLM
from torch import distributed
from training_processes import run_here, run_script
from training_runs import SGD

pytestmark = pytest.mark.skipif(not distributed.is_available(), reason="torch has it not built in")

SUM = {"class_name": "SparseCategoricalCrossentropy", "config": {"reduction": "sum"}}
SLOW = {"class_name": "SGD", "config": {"learning_rate": 1e-3}}
TOKENS: dict[str, Any] = {"optimizer": SGD, "loss_reduction": "tokens"}
RUNS: dict[str, dict[str, Any]] = {
    "batch": {"compile": {"optimizer": SGD}},
    "tokens": {"compile": TOKENS, "fit": {"epochs": 3}},  # 18 updates
    "accumulated": {
        "compile": TOKENS,
        "halve": True,
        "fit": {"gradient_accumulation_steps": 2, "clip_norm": 0.5},
    },
    "lora": {"compile": {"optimizer": SGD}, "lora": 2},
    "restore": {"compile": {"optimizer": SGD}, "restore": True},
    "sum": {"compile": {"optimizer": SLOW, "loss": SUM, "metrics": ["accuracy", "perplexity"]}},
}
SHARDED = ["tokens", "accumulated", "lora", "restore"]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one process and two have found, by the names of runs."""
    folder = tmp_path_factory.mktemp("processes")
    runs = {name: {"batch_size": 8, **run} for name, run in RUNS.items()}
    one = dict(zip(runs, run_here(*runs.values()), strict=True))
    for name in SHARDED:
        fit = {**runs[name].get("fit", {}), "sharded": True, "activation_checkpointing": True}
        runs[f"{name}, sharded"] = {**runs[name], "fit": fit}
        one[f"{name}, sharded"] = one[name]
    for sharded in (False, True):
        run: dict[str, Any] = {"batch_size": 8, "dropout": True, "fit": {"sharded": sharded}}
        options = {"checkpoint_dir": str(folder / f"checkpoints{sharded}"), "checkpoint_freq": 2}
        runs[f"whole, {sharded}"] = run
        runs[f"interrupted, {sharded}"] = {
            **run, "interrupt": 9, "fit": {**run["fit"], **options},
        }  # fmt: skip
    runs["stopped by one"] = {"batch_size": 8, "stop": 1}
    runs["files"] = {
        "batch_size": 8, "files": str(folder / "files"), "fit": {"verbose": 2},
    }  # fmt: skip
    (folder / "files").mkdir()
    two = run_script(folder / "two", *runs.values(), processes=2)
    other = json.loads((folder / "two" / "out.other").read_text())
    return {
        "folder": folder,
        "one": one,
        "two": dict(zip(runs, two, strict=True)),
        "other": dict(zip(runs, other, strict=True)),
    }


@pytest.mark.parametrize("name", [*RUNS, *(f"{name}, sharded" for name in SHARDED)])
def test_two_processes_train_as_one_with_batches_twice_as_large(
    found: dict[str, Any], name: str
) -> None:
    one, two = found["one"][name], found["two"][name]
    assert len(one["losses"]) in (12, 18)
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-5)
    assert two["losses"][-1] < (0.999 if name.startswith("lora") else 0.95) * two["losses"][0]
    assert two["history"].keys() == one["history"].keys()
    for key, values in one["history"].items():
        assert two["history"][key] == pytest.approx(values, rel=1e-5)
    assert two["evaluated"] == pytest.approx(one["evaluated"], rel=1e-5)
    for a, b in zip(one["weights"], two["weights"], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_processes_end_with_the_same_weights_and_logs(found: dict[str, Any]) -> None:
    for name, run in found["two"].items():
        other = found["other"][name]
        assert (run["is_main"], other["is_main"]) == (True, False)
        for key in ("history", "losses", "evaluated", "weights", "text"):
            assert other[key] == run[key], (name, key)


def test_one_process_stops_all(found: dict[str, Any]) -> None:
    for process in ("two", "other"):
        run = found[process]["stopped by one"]
        assert len(run["losses"]) == 3
        assert run["epochs"] == [0]


@pytest.mark.parametrize("sharded", [False, True])
def test_processes_that_were_interrupted_go_on_as_if_not(
    found: dict[str, Any], sharded: bool
) -> None:
    for process in ("two", "other"):
        whole = found[process][f"whole, {sharded}"]
        resumed = found[process][f"interrupted, {sharded}"]
        for key in ("history", "epochs", "wait", "weights", "text"):
            assert resumed[key] == whole[key]
        assert len(resumed["losses"]) == 12 - 8  # what the checkpoint had behind it


def test_the_main_process_alone_prints_and_writes_files(found: dict[str, Any]) -> None:
    folder = found["folder"]
    shown = (folder / "two" / "shown.txt").read_text()
    for what in ("Epoch 1/2:", "Epoch 2/2:", "Evaluate:", "Predict:"):
        assert shown.count(what) == 1
    rows = (folder / "files" / "log.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["epoch", "0", "1"]
    saved = CausalLM.from_preset(folder / "files" / "preset", num_threads=1)
    expected = found["two"]["files"]["weights"]
    for value, weights in zip(saved.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(value.ravel(), np.float32(weights))
