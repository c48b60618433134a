# SPDX-License-Identifier: Apache-2.0
"""ProgressBar: what is shown while training runs."""

import io
import re
import sys
from typing import Any

import pytest
from fuseq import callbacks
from fuseq.callbacks import ProgressBar


def epochs_of(progress: ProgressBar, num_epochs: int = 2) -> None:
    for epoch in range(num_epochs):
        progress.epoch_begin(epoch)
        for _ in range(3):
            progress.update({"loss": 0.123456}, 1000)
        progress.epoch_end({"loss": 0.123456, "val_loss": 0.5})
    progress.close()


def test_verbose_zero_shows_nothing(capsys: Any) -> None:
    epochs_of(ProgressBar(0, epochs=2, steps=3))
    assert capsys.readouterr() == ("", "")


def test_verbose_two_is_a_line_an_epoch(capsys: Any) -> None:
    epochs_of(ProgressBar(2, epochs=2, steps=3))
    out, err = capsys.readouterr()
    first, second = err.splitlines()
    assert out == ""
    line = r"Epoch 1/2: 3 steps, \d+\.\d s, loss=0.1235, val_loss=0.5, [\d.]+[kMG]? tokens/s"
    assert re.fullmatch(line, first)
    assert second.startswith("Epoch 2/2: ")


def test_verbose_one_is_a_bar_an_epoch(capsys: Any) -> None:
    epochs_of(ProgressBar(1, epochs=2, steps=3))
    out, err = capsys.readouterr()
    shown = err.replace("\r", "\n")
    assert out == ""
    assert "Epoch 1/2:   0%|" in shown
    assert "Epoch 2/2: 100%|" in shown
    assert re.search(r"\| 3/3 \[[\d:]+<[\d:]+, loss=0.1235, val_loss=0.5, \S+ tokens/s\]", shown)


def test_bar_without_a_number_of_steps_learns_it_from_the_first_epoch(capsys: Any) -> None:
    epochs_of(ProgressBar(1, epochs=2, steps=None))
    shown = capsys.readouterr().err.replace("\r", "\n")
    assert re.search(r"Epoch 1/2: 3 steps \[[\d:]+, loss=0.1235", shown)
    assert "Epoch 2/2: 100%|" in shown


def test_other_runs_are_named_without_a_number(capsys: Any) -> None:
    progress = ProgressBar(2, epochs=1, steps=None, what="evaluate")
    progress.epoch_begin(0)
    progress.epoch_end({})
    assert re.fullmatch(r"evaluate: 0 steps, [\d.]+ s\n", capsys.readouterr().err)


def test_bar_is_closed_after_an_error(capsys: Any) -> None:
    with pytest.raises(RuntimeError), ProgressBar(1, epochs=1, steps=3) as progress:
        progress.epoch_begin(0)
        raise RuntimeError
    assert progress._bar is None


@pytest.mark.parametrize(("is_terminal", "verbose"), [(True, 1), (False, 2)])
def test_auto_is_a_bar_on_a_terminal_only(
    monkeypatch: Any, is_terminal: bool, verbose: int
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: is_terminal, raising=False)
    monkeypatch.setattr(sys, "stderr", stream)
    assert ProgressBar("auto", epochs=1, steps=1).verbose == verbose


@pytest.mark.parametrize("verbose", [3, "bar", None])
def test_bad_verbose_is_an_error(verbose: Any) -> None:
    with pytest.raises(ValueError, match='verbose: must be "auto", 0, 1 or 2, got '):
        ProgressBar(verbose, epochs=1, steps=1)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.4, "0"),
        (812.3, "812"),
        (999.7, "1.0k"),
        (5120, "5.1k"),
        (51200, "51k"),
        (999_900, "1.0M"),
        (2e9, "2.0G"),
    ],
)
def test_rates_are_short(number: float, text: str) -> None:
    assert callbacks.progress._short(number) == text
