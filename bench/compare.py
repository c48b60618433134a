# SPDX-License-Identifier: Apache-2.0
"""fuseq against its rivals: equal ids first, then times in interleaved rounds, one table.

    python bench/compare.py --products build-bench/bench/fuseq-products --output first

Every rival has a file in `peers/` and a process of its own. All generate from the same random
weights of real shapes. A round runs all rivals once, one after the other, so that a slow moment of
the machine hits all of them. `plot_comparison.py` puts several runs together.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from comparison.limits import ARGUMENTS, LIMIT_ROWS, run_products
from comparison.limits import markdown as limits_markdown
from comparison.measure import run_row
from comparison.ragged_row import run_ragged_row
from comparison.report import cpu_features, cpu_name, markdown, markdown_rows
from comparison.rivals import ALL_DTYPES, JUDGE, RIVALS, SUBJECT, PeerError, start_peers
from comparison.rows import ROW_SETS, Row, target_of

HERE = Path(__file__).resolve().parent


def write_model(name: str, parent: Path) -> Path:
    """The folder of a random model, written by a process of its own: torch stays out of this."""
    script = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[1]); import random_models; "
        "random_models.model_folder(sys.argv[2], pathlib.Path(sys.argv[3]))"
    )
    command = [sys.executable, "-c", script, str(HERE), name, str(parent)]
    if subprocess.run(command, check=False).returncode:
        raise SystemExit(f"--models: the model {name} must be written to {parent}; see above")
    return parent / name


def failed_row(row: Row, error: PeerError) -> dict[str, Any]:
    """A row that could not be run is kept with its reason."""
    failed = {**vars(row), "target": target_of(row), "peers": {}}
    return {**failed, "failures": {"row": str(error)}}


def run_group(
    rows: list[Row], folder: Path, options: argparse.Namespace
) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
    """The rows of one model and dtype, each with the versions of what ran."""
    vocab = json.loads((folder / "config.json").read_text())["vocab_size"]

    def taking(row: Row) -> list[str]:
        return [name for name in options.peers if RIVALS[name].takes(row)]

    equal = [row for row in rows if not row.ragged]
    for row in rows:
        if row.ragged:
            try:
                yield run_ragged_row(row, taking(row), folder, vocab, options)
            except PeerError as error:  # the other rows can still run
                yield failed_row(row, error), {}
    if not equal:
        return
    names = list(dict.fromkeys(name for row in equal for name in taking(row)))
    field = start_peers(names, folder, equal[0].dtype, options.threads)
    try:
        for row in equal:
            peers = [peer for peer in field.peers if RIVALS[peer.name].takes(row)]
            table = run_row(row, peers, vocab, options)
            table["absent"] = {
                name: why for name, why in field.absent.items() if RIVALS[name].takes(row)
            }
            yield table, field.versions
    finally:
        field.close()


def write_report(report: dict[str, Any], output: Path | None) -> None:
    """Writes both forms; called after each row, so that a run cut short leaves what it has."""
    if output is None:
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    # "name.md" beside "name.json"; with_suffix would cut a name with a dot in it.
    Path(f"{output}.json").write_text(json.dumps(report, indent=1) + "\n")
    Path(f"{output}.md").write_text(markdown(report))


def parse_options() -> argparse.Namespace:
    """The command line; `rows` is a list of rows, `peers` one of names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", choices=sorted(ROW_SETS), default="targets")
    parser.add_argument("--only", help="names of rows, separated by commas; the others wait")
    parser.add_argument("--peers", default=",".join(RIVALS), help="names, separated by commas")
    parser.add_argument(
        "--products", type=Path, help="fuseq-products as it was built: runs rows 8, 9 and 9b too"
    )
    parser.add_argument("--threads", type=int, default=2)
    what = "in place of the rows' own; no targets then"
    parser.add_argument("--dtype", choices=sorted(ALL_DTYPES), help=what)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--ragged-rounds", type=int, default=3, help="of the ragged row")
    parser.add_argument("--inputs", type=int, help="of the ragged row; no target then")
    parser.add_argument("--budget", type=float, default=90, help="seconds of a peer in a row")
    parser.add_argument("--pause", type=float, default=0.2, help="seconds before each run")
    parser.add_argument("--moment", default="now", help="a name for when and where this ran")
    parser.add_argument("--models", type=Path, help="folder to keep the random models in")
    parser.add_argument("--output", type=Path, help="writes <output>.json and <output>.md")
    options = parser.parse_args()
    options.peers = options.peers.split(",")
    for name in options.peers:
        if name not in RIVALS:
            parser.error(f"--peers: {name} must be one of {', '.join(RIVALS)}")
    for name, why in ((JUDGE, "it judges the ids"), (SUBJECT, "the others are compared with it")):
        if name not in options.peers:
            parser.error(f"--peers: {name} must be among them: {why}")
    rows = {row.name: row for row in ROW_SETS[options.rows]}
    beside_limits = LIMIT_ROWS if options.rows in ARGUMENTS else ()
    if options.products and not beside_limits:
        parser.error(f"--products: --rows must be one of {', '.join(ARGUMENTS)}")
    own = beside_limits if options.products else ()
    wanted = options.only.split(",") if options.only else [*own, *rows]
    for name in wanted:
        if name in beside_limits and not options.products:
            parser.error(f"--only: {name} needs --products, the program that measures it")
        if name not in (*beside_limits, *rows):
            known = ", ".join([*rows, *beside_limits])
            parser.error(f"--only: {name} must be one of {known}")
    options.row_set = options.rows
    options.limit_rows = [name for name in wanted if name in beside_limits]
    options.rows = [rows[name] for name in wanted if name in rows]
    if options.dtype:
        options.rows = [replace(row, dtype=options.dtype) for row in options.rows]
    if options.inputs:
        options.rows = [
            replace(row, batch=options.inputs) if row.ragged else row for row in options.rows
        ]
    return options


def main() -> int:
    """Run the comparison; 1 if a peer failed."""
    options = parse_options()
    report: dict[str, Any] = {
        "moment": options.moment,
        "date": datetime.date.today().isoformat(),
        "cpu": cpu_name(),
        "cpu_features": cpu_features(),
        "cpus": os.cpu_count(),
        "threads": options.threads,
        "peers": options.peers,
        "rounds": options.rounds,
        "ragged_rounds": options.ragged_rounds,
        "versions": {"python": platform.python_version()},
        "rows": [],
    }
    if options.limit_rows:
        try:
            report["limits"] = run_products(
                options.products,
                options.row_set,
                options.limit_rows,
                options.threads,
                options.rounds,
            )
        except (OSError, subprocess.CalledProcessError, ValueError) as error:
            raise SystemExit(f"--products: {error}") from error
        print("\n".join(limits_markdown([report])), flush=True)
        write_report(report, options.output)
    order = {row.name: number for number, row in enumerate(options.rows)}

    def group(row: Row) -> tuple[str, str]:
        return row.model, row.dtype

    def add(table: dict[str, Any]) -> None:
        print(markdown_rows(table), flush=True)
        report["rows"] = sorted([*report["rows"], table], key=lambda row: order[row["name"]])
        write_report(report, options.output)

    with tempfile.TemporaryDirectory() as temporary:
        # Peers are shared by the rows of one model and dtype, and gone before the next.
        for (model, _), rows in itertools.groupby(sorted(options.rows, key=group), key=group):
            folder = write_model(model, options.models or Path(temporary))
            waiting = {row.name: row for row in rows}
            try:
                for table, versions in run_group(list(waiting.values()), folder, options):
                    del waiting[table["name"]]
                    report["versions"] |= versions
                    add(table)
            except PeerError as error:
                for row in waiting.values():
                    add(failed_row(row, error))
    return 1 if any(table["failures"] for table in report["rows"]) else 0


if __name__ == "__main__":
    sys.exit(main())
