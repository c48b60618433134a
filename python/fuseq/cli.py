# SPDX-License-Identifier: Apache-2.0
"""The fuseq command: generate, info, convert and bench."""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import fuseq
from fuseq import _core
from fuseq.presets import load

_FAILURE = 1
_USAGE = 2
_INTERRUPTED = 130  # what shells expect after Ctrl-C


class _UsageError(Exception):
    """The command line itself is wrong."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: The words after the command's name; by default those of the process.

    Returns:
        0, or 1 for a failure, or 2 for a wrong command line.
    """
    parser = _parser()
    try:
        options, rest = parser.parse_known_args(arguments)
    except SystemExit as exit_:  # argparse has said why, or has printed its help
        return exit_.code if isinstance(exit_.code, int) else _FAILURE
    try:
        if rest and options.run is not _bench:
            raise _UsageError(f"unknown arguments: {' '.join(rest)}")
        options.rest = rest
        code = options.run(options)
        sys.stdout.flush()
    except _UsageError as error:
        print(f"fuseq {options.command}: {error}", file=sys.stderr)
        return _USAGE
    except BrokenPipeError:  # the reader has gone; nothing more to say, not even at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILURE
    except KeyboardInterrupt:
        return _INTERRUPTED
    except (ValueError, TypeError, OSError, RuntimeError, ImportError) as error:
        print(f"fuseq {options.command}: {error}", file=sys.stderr)
        return _FAILURE
    return int(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fuseq", description="Runs sequence-to-sequence and causal language models."
    )
    parser.add_argument("--version", action="version", version=f"fuseq {_core.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_generate(commands.add_parser("generate", help="token ids in, token ids out"))
    _add_info(commands.add_parser("info", help="what is installed, or what a folder holds"))
    _add_convert(commands.add_parser("convert", help="write a model in another format"))
    bench = commands.add_parser(
        "bench", help="measure a whole decode with the native benchmark", add_help=False
    )
    bench.set_defaults(run=_bench)
    return parser


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="default: as stored")
    parser.add_argument("--threads", type=int, metavar="N", help="default: those of the machine")


def _load(folder: str, options: argparse.Namespace) -> _core.Model:
    return fuseq.load_model(folder, dtype=options.dtype, num_threads=options.threads)


# ---- generate ----


def _add_generate(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Generates from ids given with --ids or, without it, from the lines of standard input. One "
        "line of ids per hypothesis, best first."
    )
    parser.add_argument("--preset", required=True, metavar="DIR", help="folder of the model")
    parser.add_argument(
        "--ids", action="append", metavar='"0 31414 2"', help="one input; may be repeated"
    )
    parser.add_argument(
        "--prompt-ids",
        action="append",
        metavar='"2 0"',
        help="start of the decoder row of a sequence-to-sequence model: once for all inputs, or "
        "once for each",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per input")
    _add_model_options(parser)
    group = parser.add_argument_group("generation options")
    group.add_argument(
        "--sampler",
        choices=("greedy", "random", "top_k", "top_p", "min_p", "beam", "contrastive", "preset"),
        help="a set of options; by default the folder's own settings, without any greedy",
    )
    for name, kind, default, meaning in _core.option_fields():
        group.add_argument(f"--{name.replace('_', '-')}", dest=name, **_argument(kind, meaning))
        del default
    parser.set_defaults(run=_generate)


def _argument(kind: str, meaning: str) -> dict[str, Any]:
    """How argparse reads a field of GenerationOptions; absent is the field's default."""
    kinds: dict[str, dict[str, Any]] = {
        "int": {"type": int, "metavar": "N"},
        "float": {"type": float, "metavar": "X"},
        "bool": {"action": argparse.BooleanOptionalAction, "default": None},
        "early_stopping": {"choices": ("false", "true", "never")},
        "list[int]": {"type": _ids, "metavar": '"ID ID"'},
        "list[str]": {"action": "append", "metavar": "TEXT"},
        "dict[int, float]": {"type": _biases, "metavar": '"ID=X ID=X"'},
    }
    return {"help": meaning, **kinds[kind]}


def _ids(text: str) -> list[int]:
    try:
        return [int(word) for word in text.replace(",", " ").split()]
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"must be ids with blanks between, got {text!r}"
        ) from error


def _biases(text: str) -> dict[int, float]:
    try:
        pairs = [word.split("=") for word in text.replace(",", " ").split()]
        return {int(token): float(bias) for token, bias in pairs}
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must read ID=VALUE ..., got {text!r}") from error


def _generation_options(options: argparse.Namespace) -> _core.GenerationOptions:
    """The folder's own settings or a sampler's, and over them what the command line says."""
    fields = {name: getattr(options, name) for name, _, _, _ in _core.option_fields()}
    if fields["early_stopping"] in ("true", "false"):
        fields["early_stopping"] = fields["early_stopping"] == "true"
    base = None
    if options.sampler in (None, "preset"):
        base = fuseq.load_generation_options(options.preset)
        if base is None and options.sampler == "preset":
            raise ValueError(f"--sampler preset: {options.preset} must hold settings, got none")
    else:
        fields = {**fuseq.samplers.get(options.sampler).generation_fields(), **_given(fields)}
    return load.merge_options(base, fields)


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _parse(texts: Iterable[str], what: str) -> list[list[int]]:
    try:
        return [_ids(text) for text in texts]
    except argparse.ArgumentTypeError as error:
        raise _UsageError(f"{what}: {error}") from error


def _prompts(options: argparse.Namespace, is_seq2seq: bool) -> list[_core.Prompt]:
    if options.ids is None:
        inputs = _parse(sys.stdin, "standard input")
    else:
        inputs = _parse(options.ids, "--ids")
    if not options.prompt_ids:
        starts: list[list[int]] = [[]] * len(inputs)
    else:
        starts = _parse(options.prompt_ids, "--prompt-ids")
        starts = starts * len(inputs) if len(starts) == 1 else starts
    if not is_seq2seq:
        if options.prompt_ids:
            raise _UsageError("--prompt-ids: must not come with a causal model. Use --ids")
        return [_core.Prompt(decoder_ids=ids) for ids in inputs]
    if len(starts) != len(inputs):
        raise _UsageError(
            f"--prompt-ids: must come once, or once for each of {len(inputs)} inputs, got "
            f"{len(starts)}"
        )
    return [_core.Prompt(ids, start) for ids, start in zip(inputs, starts, strict=True)]


def _generate(options: argparse.Namespace) -> int:
    if options.ids is not None:
        _parse(options.ids, "--ids")  # before a large model is loaded, as the next line
    generation = _generation_options(options)
    model = _load(options.preset, options)
    results = _core.generate(model, _prompts(options, model.is_seq2seq), generation)
    for hypotheses in results:
        if options.json:
            print(json.dumps({"hypotheses": [_as_json(row) for row in hypotheses]}))
        else:
            for row in hypotheses:
                print(*row.ids)
    return 0


def _as_json(row: _core.Hypothesis) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "ids": row.ids,
        "score": row.score,
        "stop_reason": row.stop_reason,
    }
    if row.token_log_probs:
        fields["token_log_probs"] = row.token_log_probs
    return fields


# ---- info ----


def _add_info(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("preset", nargs="?", metavar="PRESET", help="folder of a model")
    parser.add_argument(
        "--cmake-dir", action="store_true", help="print the folder for CMake's fuseq_DIR alone"
    )
    _add_model_options(parser)
    parser.set_defaults(run=_info)


def _find(*parts: str) -> Path | None:
    """A path inside the installed package; an editable one has several folders."""
    paths = (Path(folder, *parts) for folder in fuseq.__path__)
    return next((path for path in paths if path.exists()), None)


def _info(options: argparse.Namespace) -> int:
    if options.cmake_dir:
        folder = _find("lib", "cmake", "fuseq")
        if folder is None:
            raise FileNotFoundError(
                "--cmake-dir: the package must hold lib/cmake/fuseq, got none. Install it with pip"
            )
        print(folder)
        return 0
    if options.preset is None:
        context = _core.Context(num_threads=options.threads)
        lines: dict[str, object] = {
            "version": _core.__version__,
            "module": _core.__file__,
            "instruction set": context.cpu_isa,
            "threads": context.num_threads,
            "cmake folder": _find("lib", "cmake", "fuseq") or "not installed",
        }
    else:
        model = _load(options.preset, options)
        spec = json.loads(model.spec)
        lines = {
            "family": model.family,
            "dtype": model.dtype,
            "parameters": model.num_parameters,
            "bytes in memory": model.num_bytes,
            "vocabulary": spec["vocab"],
            "layers": f"{spec['encoder']['layers']} + {spec['decoder']['layers']}",
            "width": spec["decoder"]["dim"],
        }
    for name, value in lines.items():
        print(f"{name}: {value}")
    return 0


# ---- convert ----


def _add_convert(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SRC", help="folder of a model in any known format")
    parser.add_argument("destination", metavar="DST", help="folder to write")
    parser.add_argument("--format", choices=("fuseq", "transformers"), default="fuseq")
    _add_model_options(parser)
    parser.set_defaults(run=_convert)


def _convert(options: argparse.Namespace) -> int:
    settings = fuseq.load_generation_options(options.source) if options.format == "fuseq" else None
    model = _load(options.source, options)
    if options.format == "fuseq":
        fuseq.save_model(model, options.destination, settings)
    else:
        fuseq.export_transformers(model, options.destination)
    return 0


# ---- bench ----


def _bench(options: argparse.Namespace) -> int:
    named = os.environ.get("FUSEQ_BENCH_BINARY")
    binary = named or _find("bin", "fuseq-bench") or shutil.which("fuseq-bench")
    if binary is None or not os.access(binary, os.X_OK):
        raise FileNotFoundError(
            f"the program fuseq-bench must be there, got {binary or 'none'}. Build it with cmake "
            "-DFUSEQ_BENCH=ON, and name it in FUSEQ_BENCH_BINARY"
        )
    os.execv(binary, [str(binary), *options.rest])


if __name__ == "__main__":
    sys.exit(main())
