# SPDX-License-Identifier: Apache-2.0
"""Rows 8, 9 and 9b of the comparison: what `fuseq-products` prints, read and put together.

The program is a stand-in that prints what it is told to.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

import plot_comparison
from comparison import limits

OF_READ = {"% of C_ws": 85.0, "median % of C_ws": 84.0, "% of C_dram": 110.0}
STEP = {
    "table": "The products of a decode step, 1 row",
    "model": "gpt2",
    "dtype": "int8",
    **OF_READ,
    "median % of C_dram": 109.0,
    "target": "80 % of C_ws",
    "met": "yes",
}
WHOLE = {
    **{"table": "The whole of a decode step, 1 row", "model": "gpt2", "dtype": "float32"},
    **{**OF_READ, "target": "85 % of C_ws", "met": "half"},
}
EIGHT = {
    **{"table": "The same with 8 rows, over the time of 1 row", "model": "gpt2", "dtype": "int8"},
    **{"time": 2.0, "median time": 2.125, "target": "time at most 1.15", "met": "no"},
}
LAYER = {
    "table": "The products of an encoder's or a prompt's layer",
    "dtype": "bfloat16",
    "rows": 256,
    "product": "all of a layer",
    "% of peak": 90.0,
    "median % of peak": 89.0,
    "target": "85 %",
    "met": "yes",
}


def report(*runs: dict[str, Any], moment: str = "now") -> dict[str, Any]:
    return {"moment": moment, "limits": {"rows": list(limits.LIMIT_ROWS), "runs": list(runs)}}


def program(tmp_path: Path, text: str, code: int = 0) -> Path:
    path = tmp_path / "fuseq-products"
    path.write_text(
        f"#!/bin/sh\necho \"$@\" > '{tmp_path}/arguments'\necho '{text}'\nexit {code}\n"
    )
    path.chmod(0o755)
    return path


def test_lines_come_in_the_order_of_rows() -> None:
    lines = limits.lines_of(report(EIGHT, LAYER, STEP, WHOLE))
    assert [line.row for line in lines] == ["8", "8", "9", "9b"]
    assert [line.median for line in lines] == [84.0, 84.0, 89.0, 2.125]
    assert [line.best for line in lines] == [85.0, 85.0, 90.0, 2.0]
    assert len({line.what for line in lines}) == 4


def test_a_target_of_the_memory_is_compared_with_the_memory() -> None:
    (line,) = limits.lines_of(report({**STEP, "target": "105 % of C_dram"}))
    assert (line.median, line.best) == (109.0, 110.0)


def test_what_has_no_target_of_its_own_is_left_out() -> None:
    assert not limits.lines_of(report({**EIGHT, "target": ""}, {**LAYER, "product": "768 to 768"}))
    assert limits.lines_of(report({**LAYER, "product": "all of a layer, int8 rows"}))


def test_rows_that_were_not_wanted_are_left_out() -> None:
    found = report(STEP, EIGHT)
    found["limits"]["rows"] = ["9b"]
    assert [line.row for line in limits.lines_of(found)] == ["9b"]


def test_an_unknown_table_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"limits: table must be one of .*, got 'another'"):
        limits.lines_of(report({**STEP, "table": "another"}))


def test_the_program_runs_with_the_threads_and_rounds_of_the_comparison(tmp_path: Path) -> None:
    printed = json.dumps({"isa": "avx2", "runs": [EIGHT]})
    found = limits.run_products(program(tmp_path, printed), "targets", ["9b"], 2, 8)
    assert found["runs"] == [EIGHT]
    assert found["isa"] == "avx2"
    arguments = (tmp_path / "arguments").read_text().split()
    assert arguments[:2] == ["--models", "bart-base,gpt2"]
    assert arguments[2:] == ["--threads", "2", "--rounds", "8", "--output", "json"]


def test_a_failing_program_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        limits.run_products(program(tmp_path, "{}", code=1), "tiny", ["8"], 2, 8)
    with pytest.raises(ValueError, match="Expecting"):
        limits.run_products(program(tmp_path, "words"), "tiny", ["8"], 2, 8)
    with pytest.raises(FileNotFoundError):
        limits.run_products(tmp_path / "nothing", "tiny", ["8"], 2, 8)


def test_one_column_a_run_that_has_the_figures() -> None:
    half = {**STEP, "% of C_ws": 81.0, "median % of C_ws": 79.9, "met": "half"}
    text = limits.markdown(
        [report(STEP, moment="a"), {"moment": "b"}, report(half, EIGHT, moment="c")]
    )
    assert "| row | what | a | c | target | met |" in text
    assert (
        "| 8 | gpt2 int8, products of a step, 1 row | **84.0** (best/best 85.0) "
        "| **79.9** (best/best 81.0) | 80 % of C_ws | 1 of 2 |" in text
    )
    assert text[-1].endswith(
        "| not run | **2.12** (best/best 2.00) | time at most 1.15 | 0 of 1 (not run in 1) |"
    )


def test_without_figures_there_is_no_table() -> None:
    assert limits.markdown([{"moment": "a"}]) == []


def test_the_table_of_several_runs_has_both_parts() -> None:
    made_of = {"date": "a day", "cpu": "a CPU", "cpu_features": [], "versions": {}, "rounds": 8}
    text = plot_comparison.markdown([{**report(STEP), **made_of, "threads": 2, "rows": []}])
    assert "products of a step, 1 row" in text
