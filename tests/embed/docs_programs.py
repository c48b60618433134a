# SPDX-License-Identifier: Apache-2.0
"""Follows a page of docs/ step by step: runs its Python, writes its files, builds and runs them.

Usage: docs_programs.py PAGE FOLDER, with fuseq installed and its command on the path. In the page

- a block whose first line is a comment with a file's name is written as that file;
- `python` is run as a doctest, `bash` as it is;
- `console` has commands after "$ " and what each must print.
"""

import doctest
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE_NAME = re.compile(r"(?://|#) ([\w.]+)$")


def main() -> None:
    page, folder = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "tests").symlink_to(page.parents[1] / "tests")
    os.chdir(folder)

    text = page.read_text(encoding="utf-8")
    if doctest.testfile(str(page), module_relative=False).failed:
        raise SystemExit(f"{page.name}: its Python must print what it says")
    blocks = _BLOCK.findall(text)
    for _, block in blocks:
        name = _FILE_NAME.match(block.partition("\n")[0])
        if name is not None:
            Path(name[1]).write_text(block, encoding="utf-8")
    num_compared = 0
    for language, block in blocks:
        if language == "bash":
            run(block)
        elif language == "console":
            for command, expected in read_console(block):
                got = run(command)
                if got.split() != expected.split():
                    raise SystemExit(f"{page.name}: {command}: must print {expected}, got {got}")
                num_compared += 1
    if num_compared == 0:
        raise SystemExit(f"{page.name}: must have console blocks to compare, got none")
    print(f"embed: {page.name}: {num_compared} programs print what the page says")


def run(command: str) -> str:
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if result.returncode != 0:
        raise SystemExit(f"{command}: must succeed, got {result.returncode}:\n{result.stdout}")
    return result.stdout


def read_console(block: str) -> list[tuple[str, str]]:
    """Commands and what they print."""
    found = []
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, printed = part.partition("\n")
        found.append((command, printed))
    return found


if __name__ == "__main__":
    main()
