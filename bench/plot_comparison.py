# SPDX-License-Identifier: Apache-2.0
"""Puts runs of `compare.py` together: one table in markdown, one picture.

    python bench/plot_comparison.py --output bench/results/comparison first.json second.json

For each row and run: how many times faster than the strongest rival of that run fuseq was, as the
median of the rounds' ratios. A row meets its target at a moment, not for all time.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from comparison import limits
from comparison.report import lengths, number
from comparison.rows import ROW_SETS, Row, target_of

Report = dict[str, Any]
NEEDED = "ctranslate2"  # the rival without which no target is met
# The order of rows in the table and the picture.
NAMES = [row.name for rows in ROW_SETS.values() for row in rows]


def row_names(reports: list[Report]) -> list[str]:
    """The rows that any run has."""
    found = {row["name"] for report in reports for row in report["rows"]}
    return [name for name in NAMES if name in found] + sorted(found - set(NAMES))


def find(report: Report, name: str) -> dict[str, Any] | None:
    """A row of a run."""
    return next((row for row in report["rows"] if row["name"] == name), None)


def what(row: dict[str, Any]) -> str:
    """A row's shape in a few words."""
    search = "greedy" if row["beams"] == 1 else f"beam {row['beams']}"
    size = f"{row['batch']} inputs" if row["ragged"] else f"batch {row['batch']}"
    return f"{row['model']} {row['dtype']}, {size}, {lengths(row)}, {search}"


def cell(row: dict[str, Any] | None) -> str:
    """What one run says of a row; nothing is left out because it is slow, absent or failed."""
    if row is None:
        return "not run"
    notes = []
    if row.get("ratio") is None:
        reasons = [f"{name}: {why}" for name, why in row["failures"].items()] or ["no rival ran"]
        notes.append("failed: " + " ".join("; ".join(reasons).split()).replace("|", "/"))
    else:
        low, high = number(row["ratio_lowest"]), number(row["ratio_highest"])
        best = number(row["best_ratio"])
        notes.append(
            f"**{number(row['ratio'])}** ({low} – {high}; best/best {best}; {row['strongest']})"
        )
        if row["failures"]:
            notes.append(f"failed: {', '.join(sorted(row['failures']))}")
    if row.get("absent"):
        notes.append(f"absent: {', '.join(sorted(row['absent']))}")
    return "; ".join(notes)


def meets(row: dict[str, Any], target: float) -> bool:
    """Whether a run met the target; without CTranslate2 nothing says so."""
    if not any(name.startswith(NEEDED) for name in row["peers"]):
        return False
    failed = any(name.startswith(NEEDED) for name in row["failures"])
    return not failed and (row.get("ratio") or 0) >= target


def met(rows: list[dict[str, Any] | None], target: float | None) -> str:
    """In how many of the runs with the row its target was met, and how many had it not."""
    if target is None:
        return "–"
    ran = [meets(row, target) for row in rows if row is not None]
    return limits.count_met(ran, len(rows))


def goal_of(reports: list[Report], name: str) -> float | None:
    """The target of a row, unless a run changed the row."""
    fields = [field.name for field in dataclasses.fields(Row)]
    rows = [row for report in reports if (row := find(report, name)) is not None]
    return target_of(Row(**{field: rows[0][field] for field in fields}))


def check_alike(reports: list[Report]) -> None:
    """Runs are put together only if they ran the same.

    Raises:
        ValueError: A row, or the number of threads, is not the same in all.
    """
    threads = [report["threads"] for report in reports]
    if len(set(threads)) > 1:
        raise ValueError(f"runs: must have the same number of threads, got {threads}")
    for name in row_names(reports):
        rows = [row for report in reports if (row := find(report, name)) is not None]
        for field in dataclasses.fields(Row):
            found = [row[field.name] for row in rows]
            if any(value != found[0] for value in found):
                raise ValueError(f"runs: {field.name} of row {name} must be the same, got {found}")


def load_report(path: Path) -> Report:
    """A report of `compare.py`.

    Raises:
        ValueError: It has not what such a report has now.
    """
    report: Report = json.loads(path.read_text())
    for key in ("moment", "date", "cpu", "cpu_features", "threads", "rounds", "versions", "rows"):
        if key not in report:
            raise ValueError(f"runs: {path} must be a report of compare.py, got none with {key!r}")
    return report


def markdown(reports: list[Report]) -> str:
    """One line a row, one column a run."""
    moments = [report["moment"] for report in reports]
    lines = [
        "# fuseq and its strongest rivals",
        "",
        "fuseq's tokens per second over those of the strongest rival of the row: median of the",
        "rounds' ratios (lowest – highest round; ratio of the best rounds; the rival). `met`: in",
        "how many of the runs the target was reached, with CTranslate2 among the rivals.",
        "",
    ]
    for report in reports:
        versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
        lines.append(
            f"- {report['moment']}: {report['date']}, {report['cpu']}"
            f" ({', '.join(report['cpu_features'])}), {report['threads']} threads,"
            f" {report['rounds']} rounds; {versions}"
        )
    lines += [
        "",
        f"| row | what | {' | '.join(moments)} | target | met |",
        "|" + "---|" * (4 + len(moments)),
    ]
    for name in row_names(reports):
        rows = [find(report, name) for report in reports]
        shown = next(row for row in rows if row is not None)
        target = goal_of(reports, name)
        cells = " | ".join(map(cell, rows))
        goal = "–" if target is None else f"{target:g}"
        lines.append(f"| {name} | {what(shown)} | {cells} | {goal} | {met(rows, target)} |")
    lines += limits.markdown(reports)
    return "\n".join(lines) + "\n"


def draw(reports: list[Report], path: Path) -> None:
    """Bars of the ratios, a line at 1, marks at the targets, the spread of the rounds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = row_names(reports)
    width = 0.8 / len(reports)
    figure, axes = pyplot.subplots(figsize=(max(6.0, 1.1 * len(names)), 5.0), layout="constrained")
    for number_of_run, report in enumerate(reports):
        places, heights, below, above = [], [], [], []
        for place, name in enumerate(names):
            row = find(report, name)
            if row is None or row.get("ratio") is None:
                continue
            places.append(place - 0.4 + width * (number_of_run + 0.5))
            heights.append(row["ratio"])
            below.append(row["ratio"] - row["ratio_lowest"])
            above.append(row["ratio_highest"] - row["ratio"])
        axes.bar(
            places, heights, width * 0.95, yerr=[below, above], capsize=2, label=report["moment"]
        )
    axes.axhline(1.0, color="black", linewidth=1)
    aims = [
        (place, target)
        for place, name in enumerate(names)
        if (target := goal_of(reports, name)) is not None
    ]
    if aims:
        axes.hlines(
            [target for _, target in aims],
            [place - 0.45 for place, _ in aims],
            [place + 0.45 for place, _ in aims],
            colors="crimson",
            linestyles="dashed",
            label="target",
        )
    axes.set_xticks(range(len(names)), [label(reports, name) for name in names], fontsize=7)
    axes.set_ylabel("tokens/s of fuseq over those of the strongest rival")
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def label(reports: list[Report], name: str) -> str:
    """The words below the bars of a row."""
    row = next(row for report in reports if (row := find(report, name)) is not None)
    search = "greedy" if row["beams"] == 1 else f"beam {row['beams']}"
    inputs = "ragged" if row["ragged"] else lengths(row)
    return f"{name}\n{row['model']}\n{row['dtype']}\n{inputs}\nbatch {row['batch']}\n{search}"


def main() -> int:
    """Write the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="reports of compare.py, in JSON")
    parser.add_argument("--output", type=Path, required=True, help="writes <output>.md and .png")
    options = parser.parse_args()
    try:
        reports = [load_report(path) for path in options.runs]
        check_alike(reports)
    except ValueError as error:
        parser.error(str(error))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    text = markdown(reports)
    Path(f"{options.output}.md").write_text(text)
    draw(reports, Path(f"{options.output}.png"))
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
