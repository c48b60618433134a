# SPDX-License-Identifier: Apache-2.0
"""The examples of the documentation run and print what they say, and its links lead somewhere."""

import doctest
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like the repository's root, to be thrown away with what is written."""
    for entry in ROOT.iterdir():
        if not entry.name.startswith(".") and entry.name != "build":
            (tmp_path / entry.name).symlink_to(entry)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_examples_of_a_page_run(
    page: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FUSEQ_PRESETS", raising=False)
    result = doctest.testfile(str(page), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert result.failed == 0
    has_examples = re.search(r"^>>> ", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert result.attempted > 0 or not has_examples


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_links_of_a_page_lead_to_pages(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = {target for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)}
    absent = sorted(target for target in targets if not (page.parent / target).is_file())
    assert absent == []


def test_every_page_is_in_the_menu_of_the_site() -> None:
    settings = (ROOT / ".ci" / "mkdocs.yml").read_text(encoding="utf-8")
    listed = re.findall(r"^ +- .*: (\S+\.md)$", settings, re.MULTILINE)
    assert sorted(listed) == [page.name for page in PAGES]


def test_examples_in_python_are_ones_that_run() -> None:
    """A block without prompts would look like an example and not be run."""
    for page in PAGES:
        blocks = re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)
        assert [block for block in blocks if not block.startswith(">>>")] == [], page.name
