# SPDX-License-Identifier: Apache-2.0
"""The README's programs are those of examples/, and the examples run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("language", "files"),
    [
        (
            "python",
            ["examples/generate_text.py", "examples/generate_ids.py", "examples/fine_tune.py"],
        ),
        ("cpp", ["examples/cpp/generate_ids.cc"]),
        ("c", ["examples/c/generate_ids.c"]),
    ],
)
def test_readme_shows_the_examples(language: str, files: list[str]) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.findall(rf"^```{language}\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    examples = [(ROOT / file).read_text(encoding="utf-8").split("\n", 2)[2] for file in files]
    assert [text.strip() for text in shown] == [text.strip() for text in examples]


@pytest.mark.parametrize(
    ("file", "lines"),
    [
        ("examples/generate_text.py", 5),
        ("examples/generate_ids.py", 4),
        ("examples/fine_tune.py", 3),
    ],
)
def test_python_examples_print_a_line_a_result(file: str, lines: int) -> None:
    command = [sys.executable, file]
    printed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert len(printed.splitlines()) == lines
