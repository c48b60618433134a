# SPDX-License-Identifier: Apache-2.0
"""The README's programs are those of examples/, and the examples run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("language", "file"),
    [
        ("python", "examples/generate_ids.py"),
        ("cpp", "examples/cpp/generate_ids.cc"),
        ("c", "examples/c/generate_ids.c"),
    ],
)
def test_readme_shows_the_example(language: str, file: str) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.search(rf"^```{language}\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    assert shown is not None
    example = (ROOT / file).read_text(encoding="utf-8").split("\n", 2)[2]
    assert shown[1].strip() == example.strip()


def test_python_example_prints_four_rows() -> None:
    command = [sys.executable, "examples/generate_ids.py"]
    printed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert len(printed.splitlines()) == 4
