# SPDX-License-Identifier: Apache-2.0
"""A script that trains, run by tests in processes of their own, some of which are killed.

Usage: training_script.py RUNS.json OUT.json; RUNS is a list of dicts, each one a fit:
`batch_size`, the rows of all processes together; `die`, the batch after which the process ends at
once; `interrupt`, the batch after which it is interrupted, then begun again; `dropout`; `halve`,
whether the rate is halved in every epoch; `restore`, whether the weights of the first epoch come
back at the end; `stop`, the process that ends training after three batches; `lora`, a rank;
`files`, a folder to write to; `compile` and `fit`, keywords. OUT gets a dict for each of them.
"""

import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from fuseq.callbacks import (
    CSVLogger,
    EarlyStopping,
    LambdaCallback,
    LearningRateScheduler,
    ModelCheckpoint,
)
from training_batches import make_texts
from training_runs import BatchLogs, make_bart

COUNT = 50  # of which 45 are trained on: the last batch is an uneven one
TEXTS = {"encoder_text": make_texts(COUNT, seed=3), "decoder_text": make_texts(COUNT, seed=4)}
COSINE = {
    "class_name": "CosineDecay",
    "config": {"initial_learning_rate": 1e-2, "decay_steps": 60},
}


class Stop(BatchLogs):
    """Ends the process after a batch, as a signal would, or raises KeyboardInterrupt."""

    def __init__(self, die: int | None, interrupt: int | None) -> None:
        super().__init__()
        self.die, self.interrupt = die, interrupt

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        super().on_train_batch_end(batch, logs)
        if len(self.losses) == self.die:
            os._exit(9)
        if len(self.losses) == self.interrupt:
            raise KeyboardInterrupt


def stop(task: Any, batch: int) -> None:
    """Ends training after the third batch."""
    task.stop_training = task.stop_training or batch == 2


def train(run: dict[str, Any], interrupt: int | None = None) -> dict[str, Any]:
    """One fit; returns what it has shown and the weights after it."""
    adam = {"class_name": "Adam", "config": {"learning_rate": COSINE}}
    compiled = {"optimizer": adam, "sampler": "greedy", **run.get("compile", {})}
    task = make_bart(dropout=run.get("dropout", False), **compiled)
    logs, stopping = Stop(run.get("die"), interrupt), EarlyStopping(patience=50)
    callbacks: list[Any] = [logs, stopping]
    options: dict[str, Any] = {"epochs": 2, "seed": 3, "verbose": 0, **run.get("fit", {})}
    world = int(os.environ.get("WORLD_SIZE", "1"))
    options |= {"batch_size": run["batch_size"] // world, "validation_split": 0.1}
    if run.get("halve"):
        callbacks.append(LearningRateScheduler(lambda epoch, rate: rate / 2))
    if run.get("restore"):
        callbacks.append(EarlyStopping("loss", mode="max", patience=9, restore_best_weights=True))
    if os.environ.get("RANK") == str(run.get("stop")):
        callbacks.append(LambdaCallback(on_train_batch_end=lambda batch, logs: stop(task, batch)))
    if "lora" in run:
        torch.manual_seed(7)
        task.backbone.enable_lora(run["lora"])
    if "files" in run:
        folder = Path(run["files"])
        callbacks += [CSVLogger(folder / "log.csv"), ModelCheckpoint(folder / "preset")]
    task.fit(TEXTS, callbacks=callbacks, **options)
    verbose: Any = options["verbose"]
    evaluated = task.evaluate(TEXTS, batch_size=options["batch_size"], verbose=verbose)
    task.predict(TEXTS, verbose=verbose)
    return {
        "losses": logs.losses,
        "history": task.history.history,
        "epochs": task.history.epoch,
        "wait": stopping.wait,
        "evaluated": evaluated,
        "is_main": task.is_main_process,
        "weights": [value.ravel().tolist() for value in task.get_weights()],
        "text": task.generate({"encoder_text": ["the fox"], "decoder_text": ["a"]}, max_length=8),
    }


def main() -> None:
    runs_path, out_path = map(Path, sys.argv[1:])
    torch.set_num_threads(1)
    found = []
    for run in json.loads(runs_path.read_text()):
        torch.manual_seed(5)
        if "interrupt" in run:
            with suppress(KeyboardInterrupt):
                train(run, run["interrupt"])
        found.append(train(run))
    is_main = os.environ.get("RANK", "0") == "0"
    (out_path if is_main else out_path.with_suffix(".other")).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
