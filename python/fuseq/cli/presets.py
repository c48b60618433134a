# SPDX-License-Identifier: Apache-2.0
"""`fuseq presets`: which names `--preset` takes, and where their files come from."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fuseq.cli.parser import Parser, json_line


@dataclass(frozen=True)
class _Entry:
    """One name.

    Attributes:
        name: As `--preset` takes it.
        parameters: The number of weights; None: not known without loading.
        source: "FUSEQ_PRESETS", "shipped" or "kaggle".
        location: A folder, or the handle from which the files come on first use.
        description: What it is; "" where nothing is known.
    """

    name: str
    parameters: int | None
    source: str
    location: str
    description: str


def run(words: Sequence[str]) -> int:
    """Prints the names.

    Args:
        words: After the command's name.

    Returns:
        0.
    """
    parser = Parser(
        "fuseq presets",
        "Lists the presets that have a name: its parameters, where its files are, what it is.",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per preset")
    options = parser.parse_args(words)
    entries = list(_entries())
    if options.json:
        for entry in entries:
            print(json_line(asdict(entry)))
        return 0
    rows = [
        (entry.name, _short(entry.parameters), _place(entry), entry.description)
        for entry in entries
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for name, parameters, location, description in rows:
        line = f"{name:{widths[0]}}  {parameters:>{widths[1]}}  {location:{widths[2]}}  "
        print((line + description).rstrip())
    return 0


def _entries() -> Iterator[_Entry]:
    """The built-in names in their order, then those that only folders have."""
    from fuseq import hub
    from fuseq.hub import folders

    here = hub.available()
    rows = hub.presets()
    for name, row in rows.items():
        handle = row.kaggle_handle
        names = [name, *(hub.parse_handle(handle).sub_paths if handle is not None else ())]
        found = folders.find(names, [*folders.preset_folders(), folders.shipped_folder()])
        location = str(found) if found is not None else handle or "-"
        yield _Entry(name, row.params, _source(found), location, row.description)
    for name, path in here.items():
        if name not in rows:
            yield _Entry(name, None, _source(path), str(path), "")


def _source(folder: Path | None) -> str:
    from fuseq.hub.folders import shipped_folder

    if folder is None:
        return "kaggle"
    return "shipped" if shipped_folder() in folder.parents else "FUSEQ_PRESETS"


def _place(entry: _Entry) -> str:
    return "in the package" if entry.source == "shipped" else entry.location


def _short(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e6:.0f}M"
