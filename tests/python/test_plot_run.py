# SPDX-License-Identifier: Apache-2.0
"""Pictures of training runs are drawn, also of runs that lack numbers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "plot_run.py"
RATES = (
    "word_error_rate",
    "word_error_rate_without_stress",
    "phoneme_error_rate",
    "phoneme_error_rate_without_stress",
)


def draw(*arguments: object) -> None:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_a_picture_of_bleu_or_of_errors(tmp_path: Path) -> None:
    history = tmp_path / "history.csv"
    history.write_text("epoch,loss,val_bleu,val_loss\n0,3.5,NA,3.0\n1,2.5,12.5,2.75\n")
    draw(history, "--output", tmp_path / "bleu.png")
    rows = [
        {"preset": "g2p_en", "dtype": "float32", "num_beams": beams, "words": 100}
        | dict.fromkeys(RATES, 30.0 - beams)
        for beams in (4, 1)
    ]
    (tmp_path / "errors.json").write_text(json.dumps(rows))
    draw(history, "--errors", tmp_path / "errors.json", "--output", tmp_path / "errors.png")
    pictures = [(tmp_path / name).read_bytes() for name in ("bleu.png", "errors.png")]
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
    assert pictures[0] != pictures[1]
