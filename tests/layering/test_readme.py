# SPDX-License-Identifier: Apache-2.0
"""The README's programs are those of examples/, and the examples run."""

import os
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
        ("cpp", ["examples/cpp/pronounce.cc"]),
        ("c", ["examples/c/generate_ids.c"]),
    ],
)
def test_readme_shows_the_examples(language: str, files: list[str]) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.findall(rf"^```{language}\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    examples = [(ROOT / file).read_text(encoding="utf-8").split("\n", 2)[2] for file in files]
    assert [text.strip() for text in shown] == [text.strip() for text in examples]


def run(*arguments: str) -> str:
    command = [sys.executable, *arguments]
    environment = {key: value for key, value in os.environ.items() if key != "FUSEQ_PRESETS"}
    done = subprocess.run(
        command, cwd=ROOT, check=True, capture_output=True, text=True, env=environment
    )
    return done.stdout


def shown_outputs() -> list[str]:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(r"^```text\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)


def test_readme_shows_what_its_first_command_and_program_print() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (words,) = re.findall(r"^pip install \. && fuseq (generate .*)$", readme, re.MULTILINE)
    of_command, of_program = shown_outputs()[:2]
    assert run("-m", "fuseq.cli", *words.split()) == of_command
    assert run("examples/generate_text.py") == of_program


@pytest.mark.parametrize(
    ("file", "lines"), [("examples/generate_ids.py", 4), ("examples/fine_tune.py", 3)]
)
def test_python_examples_print_a_line_a_result(file: str, lines: int) -> None:
    assert len(run(file).splitlines()) == lines
