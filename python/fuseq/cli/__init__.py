# SPDX-License-Identifier: Apache-2.0
"""The fuseq command: generate, presets, info, convert and bench."""

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from fuseq.cli.parser import Parser, UsageError

_FAILURE = 1
_USAGE = 2
_INTERRUPTED = 130  # what shells expect after Ctrl-C

# One module each, with a function `run` of the words after the name.
_COMMANDS = {
    "generate": "texts in, texts out; or token ids",
    "presets": "the models that have a name",
    "info": "what is installed, or what a preset holds",
    "convert": "write a preset in another form",
    "bench": "measure a whole decode with the native benchmark",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: The words after the command's name; by default those of the process.

    Returns:
        0, or 1 for a failure, or 2 for a wrong command line.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    name = words[0] if words and words[0] in _COMMANDS else None
    title = "fuseq" if name is None else f"fuseq {name}"
    if sys.stdout is None:
        print(f"{title}: standard output: must be open, got a closed one", file=sys.stderr)
        return _FAILURE
    with warnings.catch_warnings():
        warnings.showwarning = _warning_printer(title)
        try:
            code = _run(name, words)
            sys.stdout.flush()
        except UsageError as error:
            print(f"{title}: {error}", file=sys.stderr)
            return _USAGE
        except BrokenPipeError:  # the reader has gone; nothing more to say
            _drop_output()
            return _FAILURE
        except KeyboardInterrupt:
            _flush()
            return _INTERRUPTED
        except MemoryError as error:
            _flush()
            print(f"{title}: memory must suffice, got {error or 'too little'}", file=sys.stderr)
            return _FAILURE
        except (ValueError, TypeError, OSError, RuntimeError, ImportError, Warning) as error:
            _flush()
            print(f"{title}: {error}", file=sys.stderr)
            return _FAILURE
    return code


def _run(name: str | None, words: list[str]) -> int:
    try:
        if name is None:
            _parser().parse_args(words)
            raise UsageError("COMMAND: must be the first word, got others before it")
        return int(import_module(f"fuseq.cli.{name}").run(words[1:]))
    except SystemExit as exit_:  # argparse has printed its help or the version
        return exit_.code if isinstance(exit_.code, int) else _FAILURE


def _parser() -> Parser:
    parser = Parser("fuseq", "Runs sequence-to-sequence and causal language models.")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and end")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=argparse.ArgumentParser
    )
    for name, meaning in _COMMANDS.items():
        commands.add_parser(name, help=meaning)
    return parser


class _Version(argparse.Action):
    """Prints the version; the engine is loaded only for this."""

    def __call__(self, parser: object, *more: object) -> None:
        from fuseq import _core

        del parser, more
        print(f"fuseq {_core.__version__}")
        raise SystemExit(0)


def _warning_printer(title: str) -> Callable[..., None]:
    """What shows a warning as one plain line."""

    def show(message: object, *where: Any) -> None:  # noqa: ANN401
        del where
        text = " ".join(str(message).split()).removeprefix("generate: ")
        print(f"{title}: warning: {text}", file=sys.stderr)

    return show


def _flush() -> None:
    """Writes what is ready; what cannot be written must not be tried again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        _drop_output()


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
