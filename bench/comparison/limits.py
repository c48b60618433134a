# SPDX-License-Identifier: Apache-2.0
"""Rows 8, 9 and 9b: products and steps beside the machine's limits, as `fuseq-products` tells."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

LIMIT_ROWS = ("8", "9", "9b")
# What the program runs for a set of rows.
ARGUMENTS = {
    "targets": ["--models", "bart-base,gpt2"],
    "tiny": ["--models", "tiny,tiny-causal", "--rows", "256"],
}

Record = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Line:
    """A figure of one run.

    Attributes:
        row: Its number in the table of goals.
        what: What was measured.
        median: Of the ratios within a round.
        best: The best of all rounds over the best of all rounds.
        target: In words.
        met: `yes`: both reach the target; `half`: one does.
    """

    row: str
    what: str
    median: float
    best: float
    target: str
    met: str


def step_line(record: Record, what: str) -> Line:
    """A step, as a share of a read: of as many bytes, or of the memory where its target says so."""
    limit = "C_dram" if record["target"].endswith("C_dram") else "C_ws"
    name = f"{record['model']} {record['dtype']}, {what}"
    share = record[f"median % of {limit}"], record[f"% of {limit}"]
    return Line("8", name, *share, record["target"], record["met"])


def products_of_a_step(record: Record) -> Line | None:
    """Its products alone."""
    return step_line(record, "products of a step, 1 row")


def whole_step(record: Record) -> Line | None:
    """All that it does."""
    return step_line(record, "the whole step, 1 row")


def eight_rows(record: Record) -> Line | None:
    """8 rows over 1: int8 alone has a target."""
    if not record["target"]:
        return None
    name = f"{record['model']} {record['dtype']}, 8 rows over the time of 1"
    return Line("9b", name, record["median time"], record["time"], record["target"], record["met"])


def layer(record: Record) -> Line | None:
    """Products of many rows; those of a whole layer are the row's, each of them stays in JSON."""
    if not record["product"].startswith("all of a layer"):
        return None
    name = f"{record['dtype']}, {record['product']}, {record['rows']} rows"
    share = record["median % of peak"], record["% of peak"]
    return Line("9", name, *share, record["target"] + " of peak", record["met"])


TABLES: dict[str, Callable[[Record], Line | None]] = {
    "The products of a decode step, 1 row": products_of_a_step,
    "The whole of a decode step, 1 row": whole_step,
    "The same with 8 rows, over the time of 1 row": eight_rows,
    "The products of an encoder's or a prompt's layer": layer,
}


def lines_of(report: dict[str, Any]) -> list[Line]:
    """The lines of a report, in the order of their rows; none where the program was not run.

    Raises:
        ValueError: A table that is not known here.
    """
    lines = []
    for record in report.get("limits", {}).get("runs", []):
        if record["table"] not in TABLES:
            known = ", ".join(map(repr, TABLES))
            raise ValueError(f"limits: table must be one of {known}, got {record['table']!r}")
        line = TABLES[record["table"]](record)
        if line is not None and line.row in report["limits"]["rows"]:
            lines.append(line)
    return sorted(lines, key=lambda line: LIMIT_ROWS.index(line.row))


def run_products(
    program: Path, row_set: str, wanted: list[str], threads: int, rounds: int
) -> dict[str, Any]:
    """Runs fuseq-products.

    Returns:
        What the report keeps as its `limits`: the arguments, the wanted rows, what was printed.

    Raises:
        OSError: The program cannot be run.
        subprocess.CalledProcessError: It failed; what it said stands on stderr.
        ValueError: It printed a table that is not known here.
    """
    arguments = [*ARGUMENTS[row_set], "--threads", str(threads), "--rounds", str(rounds)]
    command = [str(program), *arguments, "--output", "json"]
    printed = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    limits = {"arguments": arguments, "rows": wanted, **json.loads(printed)}
    lines_of({"limits": limits})
    return limits


def shown(line: Line | None) -> str:
    """A figure in a table."""
    if line is None:
        return "not run"
    digits = 2 if line.row == "9b" else 1
    return f"**{line.median:.{digits}f}** (best/best {line.best:.{digits}f})"


def count_met(ran: list[bool], runs: int) -> str:
    """In how many of the runs that had a row its target was met, and how many had it not."""
    text = f"{sum(ran)} of {len(ran)}"
    return text if len(ran) == runs else f"{text} (not run in {runs - len(ran)})"


def markdown(reports: list[dict[str, Any]]) -> list[str]:
    """One line a figure, one column a run that has any; nothing where none has."""
    found = [(report["moment"], lines_of(report)) for report in reports]
    runs = [(moment, {(line.row, line.what): line for line in lines}) for moment, lines in found]
    runs = [(moment, lines) for moment, lines in runs if lines]
    if not runs:
        return []
    text = [
        "",
        "Products and steps beside the machine's limits, which were measured in the same rounds:",
        "percent of a plain read of as many bytes (row 8) or of multiply-adds in registers (row",
        "9), times the time of one row (row 9b). The median of the rounds' ratios, and the best of",
        "all rounds over the best; `met`: in how many of the runs both did it.",
        "",
        f"| row | what | {' | '.join(moment for moment, _ in runs)} | target | met |",
        "|" + "---|" * (4 + len(runs)),
    ]
    for key in dict.fromkeys(key for _, lines in runs for key in lines):
        row, what = key
        lines = [run.get(key) for _, run in runs]
        ran = [line for line in lines if line is not None]
        cells = " | ".join(map(shown, lines))
        goal = " or ".join(dict.fromkeys(line.target for line in ran))
        met = count_met([line.met == "yes" for line in ran], len(lines))
        text.append(f"| {row} | {what} | {cells} | {goal} | {met} |")
    return text
