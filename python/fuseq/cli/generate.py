# SPDX-License-Identifier: Apache-2.0
"""`fuseq generate`: texts in and texts out, or ids in and ids out."""

import argparse
from collections.abc import Sequence

from fuseq.cli.inputs import to_text
from fuseq.cli.options import add_generation_options
from fuseq.cli.parser import Parser, UsageError, add_model_options, positive

_TEXT_ONLY = (
    ("texts", "TEXT"),
    ("file", "--file"),
    ("prompt", "--prompt"),
    ("stream", "--stream"),
    ("encoder_sequence_length", "--encoder-sequence-length"),
)


def run(words: Sequence[str]) -> int:
    """Generates from each input.

    Args:
        words: After the command's name.

    Returns:
        0.

    Raises:
        UsageError: Options do not go together.
        ValueError: An input or an option does not fit the model.
    """
    # What follows a lone "--" is text, whatever it begins with.
    end = list(words).index("--") if "--" in words else len(words)
    options = _parser().parse_intermixed_args(list(words[:end]))
    options.texts += words[end + 1 :]
    _decode(options)
    if options.ids is None:
        _check_texts(options)
        from fuseq.cli.generate_texts import run_texts

        run_texts(options)
    else:
        _check_ids(options)
        from fuseq.cli.generate_ids import run_ids

        run_ids(options)
    return 0


def _decode(options: argparse.Namespace) -> None:
    """Turns what the locale made of the command line's words into text."""
    options.texts = [to_text(text, f"TEXT {n}") for n, text in enumerate(options.texts, 1)]
    for name, shown in (("prompt", "--prompt"), ("stop_strings", "--stop-strings")):
        values = getattr(options, name)
        if values is not None:
            setattr(options, name, [to_text(text, shown) for text in values])
    for shown, values in (("--file", options.file), ("--ids", options.ids or [])):
        if values.count("-") > 1:
            raise UsageError(f"{shown} -: must come once, got standard input twice")


def _check_texts(options: argparse.Namespace) -> None:
    if options.prompt_ids:
        raise UsageError("--prompt-ids: must come with --ids, got texts. Use --prompt")
    if options.decoder_start_token_id is not None:
        raise UsageError(
            "--decoder-start-token-id: must come with --ids, got texts, which start as the preset "
            "says"
        )
    if options.return_scores and not options.json:
        raise UsageError("--return-scores: must come with --json, got plain texts")
    if options.stream:
        several = (options.num_return_sequences or 1) > 1
        others = (("--json", options.json), ("--num-return-sequences", several))
        for name, is_given in others:
            if is_given:
                raise UsageError(f"--stream: must not come with {name}, got both")


def _check_ids(options: argparse.Namespace) -> None:
    for name, shown in _TEXT_ONLY:
        if getattr(options, name) not in (None, [], False):
            raise UsageError(f"{shown}: must come without --ids, got both")


def _parser() -> Parser:
    parser = Parser(
        "fuseq generate",
        "Generates from texts: each TEXT, each line of the files, or without any each line of "
        "standard input. One line per result, in the order of the inputs; line breaks inside a "
        "result are written \\n unless there is a single TEXT. With --ids: ids in, ids out.",
        usage="fuseq generate --preset PRESET [options] [TEXT ...]",
    )
    parser.add_argument("texts", nargs="*", default=[], metavar="TEXT", help="one input each")
    parser.add_argument(
        "--preset", required=True, metavar="PRESET", help="name, handle or folder of a preset"
    )
    parser.add_argument(
        "--file",
        action="append",
        default=[],
        metavar="PATH",
        help="one input a line, UTF-8; may be repeated; - is standard input",
    )
    parser.add_argument(
        "--prompt",
        action="append",
        metavar="TEXT",
        help="start of the generated text of a sequence-to-sequence model: once for all inputs, or "
        "once for each",
    )
    parser.add_argument(
        "--ids",
        action="append",
        metavar='"0 31414 2"',
        help="one input of ids; may be repeated; - reads lines of ids from standard input",
    )
    parser.add_argument(
        "--prompt-ids",
        action="append",
        metavar='"2 0"',
        help="as --prompt, with --ids",
    )
    parser.add_argument("--json", action="store_true", help="JSON objects, one a line")
    parser.add_argument(
        "--strip-prompt", action="store_true", help="print the new text or ids alone"
    )
    parser.add_argument(
        "--stream",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="print each token at once; default: for a single text on a terminal",
    )
    parser.add_argument(
        "--encoder-sequence-length",
        type=positive,
        metavar="N",
        help="tokens of a source; longer ones are cut; default: the preset's",
    )
    parser.add_argument(
        "--max-batch-size",
        type=positive,
        metavar="N",
        help="inputs that are read and generated at a time; default: 32",
    )
    add_model_options(parser)
    add_generation_options(parser)
    return parser
