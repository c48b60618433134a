# SPDX-License-Identifier: Apache-2.0
"""The commands of docs/command.md run, and print what the page says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "command.md"


def examples() -> list[tuple[str, str]]:
    """Commands of the page, each with what it prints; "> " goes on with a command."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            first, *others = part.splitlines()
            more = [line[2:] for line in others if line.startswith("> ")]
            found.append(("\n".join([first, *more]), "\n".join(others[len(more) :])))
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder to write into, where the presets of the repository are found as from its root."""
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    return tmp_path


@pytest.mark.parametrize(("command", "output"), examples())
def test_a_command_of_the_page_prints_what_the_page_says(
    command: str, output: str, folder: Path
) -> None:
    search = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    absolute = os.pathsep.join(str(Path(path).resolve()) for path in search)
    environment = {**os.environ, "PYTHONPATH": absolute, "FUSEQ_PRESETS": ""}
    script = f'fuseq() {{ "{sys.executable}" -m fuseq.cli "$@"; }}\n{command}\n'
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines() == output.splitlines()


def test_the_page_has_examples() -> None:
    assert len(examples()) > 10
