# SPDX-License-Identifier: Apache-2.0
"""Draws a training run: its loss, and beside it BLEU by epoch or errors by the number of beams.

Needs `pip install matplotlib`.
"""

import argparse
import csv
import json
import math
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

COLOURS = ("#1f6fb4", "#d1603d", "#4b9b6e", "#8a6bb0")


def draw_loss(axes: Any, epochs: list[dict[str, float]]) -> None:  # noqa: ANN401
    """Draws the loss of every epoch.

    Args:
        axes: Of matplotlib.
        epochs: Rows of the file that CSVLogger writes.
    """
    numbers = [row["epoch"] + 1 for row in epochs]
    for name, title, colour in (
        ("loss", "training", COLOURS[0]),
        ("val_loss", "validation", COLOURS[1]),
    ):
        axes.plot(numbers, [row[name] for row in epochs], marker="o", color=colour, label=title)
    finish(axes, "Loss of a token, labels smoothed", "epoch", "cross entropy")


def draw_bleu(axes: Any, epochs: list[dict[str, float]]) -> None:  # noqa: ANN401
    """Draws BLEU of the validation sentences, greedily translated after every epoch."""
    numbers = [row["epoch"] + 1 for row in epochs]
    values = [row["val_bleu"] for row in epochs]
    axes.plot(numbers, values, marker="o", color=COLOURS[2], label="validation, greedy")
    finish(axes, "Translations", "epoch", "BLEU")


def draw_errors(axes: Any, rows: list[dict[str, Any]]) -> None:  # noqa: ANN401
    """Draws error rates by the number of beams.

    Args:
        axes: Of matplotlib.
        rows: What examples/pronunciation/evaluate.py writes, of one preset and data type.
    """
    rows = sorted(rows, key=lambda row: row["num_beams"])
    beams = [str(row["num_beams"]) for row in rows]
    for name, title, colour in (
        ("word_error_rate", "words, with stress", COLOURS[1]),
        ("word_error_rate_without_stress", "words, without stress", COLOURS[0]),
        ("phoneme_error_rate", "phonemes, with stress", COLOURS[3]),
        ("phoneme_error_rate_without_stress", "phonemes, without stress", COLOURS[2]),
    ):
        values = [row[name] for row in rows]
        axes.plot(beams, values, marker="o", color=colour, label=title)
        for place, value in enumerate(values):
            axes.annotate(
                f"{value:.1f}",
                (place, value),
                xytext=(0, 5),
                textcoords="offset points",
                ha="center",
                fontsize=7,
            )
    axes.set_ylim(bottom=0)
    finish(axes, f"Errors on {rows[0]['words']:,} new words", "beams", "wrong, per cent")


def finish(axes: Any, title: str, x: str, y: str) -> None:  # noqa: ANN401
    """Titles and a legend."""
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)


def read(value: str) -> float:
    """A cell of CSVLogger's; what an epoch lacks is a gap in the curve."""
    return math.nan if value == "NA" else float(value)


def main() -> None:
    """Reads the files of a run and writes a picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("history", type=Path, help="the CSV file of a run")
    parser.add_argument("--errors", type=Path, help="what evaluate.py wrote; else BLEU is drawn")
    parser.add_argument("--output", type=Path, required=True, help="a PNG file")
    options = parser.parse_args()

    with options.history.open(encoding="utf-8", newline="") as file:
        epochs = [
            {name: read(value) for name, value in row.items()} for row in csv.DictReader(file)
        ]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    draw_loss(left, epochs)
    if options.errors is None:
        draw_bleu(right, epochs)
    else:
        rows = json.loads(options.errors.read_text(encoding="utf-8"))
        first = (rows[0]["preset"], rows[0]["dtype"])
        draw_errors(right, [row for row in rows if (row["preset"], row["dtype"]) == first])
    figure.savefig(options.output, dpi=150)


if __name__ == "__main__":
    main()
