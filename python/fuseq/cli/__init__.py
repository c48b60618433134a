# SPDX-License-Identifier: Apache-2.0
"""The fuseq command: generate, presets, info, convert and bench."""

import argparse
import io
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

_TRACEBACK = "FUSEQ_TRACEBACK"  # "1": failures show where they come from
_PLAIN = (ValueError, TypeError, OSError, RuntimeError, ImportError, Warning)

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
            _write_utf8()
            code = _run(name, words)
            sys.stdout.flush()
        except UsageError as error:
            _say(title, str(error))
            return _USAGE
        except BrokenPipeError:  # the reader has gone; nothing more to say
            _drop_output()
            return _FAILURE
        except KeyboardInterrupt:
            _flush()
            return _INTERRUPTED
        except BaseException as error:
            # A panic of the tokenizers library is not an Exception.
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            _flush()
            if os.environ.get(_TRACEBACK) == "1":
                import traceback

                traceback.print_exception(error)
            _say(title, _sentence(error))
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


def _write_utf8() -> None:
    """Makes standard output UTF-8, whatever the locale says; names that are not are escaped."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")


def _say(title: str, text: str) -> None:
    """Prints a message on one line."""
    print(f"{title}: {' '.join(text.split())}", file=sys.stderr)


def _sentence(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return f"memory must suffice, got {str(error) or 'too little'}"
    if isinstance(error, _PLAIN) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def _warning_printer(title: str) -> Callable[..., None]:
    """What shows a warning as one plain line."""

    def show(message: object, *where: Any) -> None:  # noqa: ANN401
        del where
        _say(title, f"warning: {str(message).removeprefix('generate: ')}")

    return show


def _flush() -> None:
    """Writes what is ready; what cannot be written must not be tried again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        _drop_output()


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
