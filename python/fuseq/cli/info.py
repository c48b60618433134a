# SPDX-License-Identifier: Apache-2.0
"""`fuseq info`: what is installed, or what a preset holds."""

import json
from collections.abc import Sequence
from typing import Any

from fuseq.cli.parser import Parser, UsageError, add_model_options, find_in_package, json_line


def run(words: Sequence[str]) -> int:
    """Prints one fact a line.

    Args:
        words: After the command's name.

    Returns:
        0.

    Raises:
        FileNotFoundError: There is no such preset, or no folder for CMake.
    """
    options = _parser().parse_args(words)
    if options.cmake_dir:
        if options.preset is not None or options.json:
            raise UsageError("--cmake-dir: must come alone, got more")
        folder = find_in_package("lib", "cmake", "fuseq")
        if folder is None:
            raise FileNotFoundError(
                "--cmake-dir: the package must hold lib/cmake/fuseq, got none. Install it with pip"
            )
        print(folder)
        return 0
    if options.preset is None:
        facts = _about_fuseq(options.threads)
    else:
        facts = _about_preset(options.preset, options.dtype, options.threads)
    if options.json:
        print(json_line({name.replace(" ", "_"): value for name, value in facts.items()}))
    else:
        for name, value in facts.items():
            print(f"{name}: {_plain(value)}")
    return 0


def _parser() -> Parser:
    parser = Parser("fuseq info", "Tells what is installed, or what a preset holds.")
    parser.add_argument(
        "preset", nargs="?", metavar="PRESET", help="name, handle or folder of a preset"
    )
    parser.add_argument(
        "--cmake-dir", action="store_true", help="print the folder for CMake's fuseq_DIR alone"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    add_model_options(parser)
    return parser


def _plain(value: object) -> object:
    if value is None:
        return "none"
    return json_line(value) if isinstance(value, dict) else value


def _about_fuseq(num_threads: int | None) -> dict[str, Any]:
    from fuseq import _core

    context = _core.Context(num_threads=num_threads)
    folder = find_in_package("lib", "cmake", "fuseq")
    return {
        "version": _core.__version__,
        "module": _core.__file__,
        "instruction set": context.cpu_isa,
        "threads": context.num_threads,
        "cmake folder": "not installed" if folder is None else str(folder),
    }


def _about_preset(preset: str, dtype: str | None, num_threads: int | None) -> dict[str, Any]:
    from fuseq.models.causal_lm import CausalLM
    from fuseq.models.folders import open_folder
    from fuseq.models.registry import find_subclass

    folder = open_folder(preset)
    model = folder.load_model(dtype=dtype, num_threads=num_threads)
    spec = json.loads(model.spec)
    facts: dict[str, Any] = {
        "folder": str(folder.folder),
        "form": folder.form,
        "family": model.family,
        "dtype": model.dtype,
        "parameters": model.num_parameters,
        "bytes in memory": model.num_bytes,
        "vocabulary": spec["vocab"],
        "layers": f"{spec['encoder']['layers']} + {spec['decoder']['layers']}",
        "width": spec["decoder"]["dim"],
    }
    kind = find_subclass(CausalLM, model.family, preset)
    preprocessor = kind.preprocessor_cls.load(folder, {})
    facts["task"] = kind.__name__
    facts["tokenizer"] = None
    if preprocessor is not None:
        facts["tokenizer"] = type(preprocessor.tokenizer).__name__
        facts["tokenizer vocabulary"] = preprocessor.tokenizer.vocabulary_size()
        for name in ("encoder_sequence_length", "decoder_sequence_length", "sequence_length"):
            if name in preprocessor.get_config():
                facts[name.replace("_", " ")] = getattr(preprocessor, name)
    facts["generation settings"] = _settings(folder, model.is_seq2seq)
    return facts


def _settings(folder: Any, is_seq2seq: bool) -> dict[str, Any] | str | None:  # noqa: ANN401
    """The settings that are not the defaults; a sentence where fuseq cannot use them."""
    from fuseq.cli.options import changed_fields

    try:
        settings = folder.load_generation_options(is_seq2seq=is_seq2seq)
    except ValueError as error:
        return f"not usable: {error}"
    return None if settings is None else changed_fields(settings)
