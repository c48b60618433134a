# SPDX-License-Identifier: Apache-2.0
"""What the subcommands share: how they read their words and write JSON."""

import argparse
import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

LARGEST = 2**31 - 1  # what the engine counts with
_WHOLE = re.compile(r"[+-]?[0-9]+")


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

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:  # noqa: ANN401
        """The value of an option; argparse of Python 3.11 takes the one of `--option=--` away."""
        if action.option_strings and action.nargs is None and arg_strings == ["--"]:
            value = self._get_value(action, "--")
            self._check_value(action, value)
            return value
        return super()._get_values(action, arg_strings)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of loading a model."""
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16", "int8"), help="default: as stored"
    )
    parser.add_argument(
        "--threads", type=whole(0, LARGEST), metavar="N", help="default: those of the machine"
    )


def whole(smallest: int, largest: int) -> Callable[[str], int]:
    """How argparse reads a whole number that has bounds.

    Args:
        smallest: The first that is allowed.
        largest: The last one.

    Returns:
        A function of the word, which raises ArgumentTypeError for any other.
    """

    def read(text: str) -> int:
        # Anything longer is too large for Python's own reading.
        if len(text) <= 100 and _WHOLE.fullmatch(text) and smallest <= int(text) <= largest:
            return int(text)
        raise argparse.ArgumentTypeError(
            f"must be a whole number from {smallest} to {largest}, got {text!r}"
        )

    return read


positive = whole(1, LARGEST)


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
