# SPDX-License-Identifier: Apache-2.0
"""What the subcommands share: how they read their words and write JSON."""

import argparse
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn


class UsageError(Exception):
    """The command line itself is wrong."""


class Parser(argparse.ArgumentParser):
    """Reads the words of one command; what is wrong with them is a UsageError of one line."""

    def __init__(self, title: str, description: str, **more: Any) -> None:  # noqa: ANN401
        """Sets the title, "fuseq generate", and a description for the help."""
        super().__init__(prog=title, description=description, allow_abbrev=False, **more)

    def error(self, message: str) -> NoReturn:
        """Raises what argparse has to say, without its list of all options.

        Raises:
            UsageError: Always.
        """
        raise UsageError(f"{message}. See {self.prog} --help")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of loading a model."""
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="default: as stored")
    parser.add_argument("--threads", type=int, metavar="N", help="default: those of the machine")


def positive(text: str) -> int:
    """A count from 1 on, for argparse.

    Raises:
        ArgumentTypeError: It is none.
    """
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, got {text!r}")
    return value


def json_line(fields: Mapping[str, Any]) -> str:
    """One line of JSON; numbers that JSON does not have, such as -inf, become null."""
    return json.dumps(_finite(fields), ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def find_in_package(*parts: str) -> Path | None:
    """A path inside the installed package; an editable one has several folders."""
    import fuseq

    paths = (Path(folder, *parts) for folder in fuseq.__path__)
    return next((path for path in paths if path.exists()), None)
