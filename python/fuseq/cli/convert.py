# SPDX-License-Identifier: Apache-2.0
"""`fuseq convert`: a preset in, the same preset in another form out."""

from collections.abc import Sequence

from fuseq.cli.parser import Parser, add_model_options


def run(words: Sequence[str]) -> int:
    """Reads a preset and writes it.

    Args:
        words: After the command's name.

    Returns:
        0.
    """
    options = _parser().parse_args(words)
    from fuseq.models import CausalLM

    # Weights, tokenizer, preprocessor and generation settings, as far as they are there.
    task = CausalLM.from_preset(
        options.source, dtype=options.dtype, num_threads=options.threads, compile=False
    )
    task.save_to_preset(options.destination, options.max_shard_size, format=options.format)
    return 0


def _parser() -> Parser:
    parser = Parser(
        "fuseq convert",
        "Writes a preset in another form, with its tokenizer, lengths and generation settings.",
    )
    parser.add_argument("source", metavar="SRC", help="name, handle or folder in any known form")
    parser.add_argument("destination", metavar="DST", help="folder to write")
    parser.add_argument("--format", choices=("fuseq", "transformers", "keras_hub"), default="fuseq")
    parser.add_argument(
        "--max-shard-size",
        type=float,
        default=10,
        metavar="GB",
        help="largest file of weights in KerasHub's form; default: 10",
    )
    add_model_options(parser)
    return parser
