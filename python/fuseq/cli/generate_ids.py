# SPDX-License-Identifier: Apache-2.0
"""The part of `fuseq generate` that takes ids and prints ids."""

import argparse
from collections.abc import Iterator
from typing import Any

from fuseq import _core
from fuseq.cli.inputs import PerInput, groups, read_lines, reads_terminal
from fuseq.cli.options import has_encoder, read_ids, read_options
from fuseq.cli.parser import UsageError, json_line

_GROUP = 32  # inputs at a time, where nothing is said


def run_ids(options: argparse.Namespace) -> None:
    """Generates from the ids of the command line, or from lines of standard input.

    Args:
        options: The command line.

    Raises:
        UsageError: An option does not fit the others or the model.
    """
    reads_input = "-" in options.ids
    for text in options.ids:
        if text != "-":
            _ids(text, "--ids")  # before a large model is loaded, as the next lines
    starts = [_ids(text, "--prompt-ids") for text in options.prompt_ids or ()]

    from fuseq.models.folders import open_folder

    preset = open_folder(options.preset)
    is_seq2seq = has_encoder(preset)
    if starts and not is_seq2seq:
        raise UsageError("--prompt-ids: must not come with a causal model. Use --ids")
    count = None if reads_input else len(options.ids)
    prompts = PerInput("--prompt-ids", starts or [[]], count)
    generation, _ = read_options(options, preset, is_seq2seq=is_seq2seq)
    model = preset.load_model(dtype=options.dtype, num_threads=options.threads)
    is_interactive = reads_input and reads_terminal()
    size = options.max_batch_size or (1 if is_interactive else _GROUP)
    taken = 0
    for group in groups(_inputs(options.ids), size):
        rows = [
            _core.Prompt(ids, start, sequence=taken + index)
            if is_seq2seq
            else _core.Prompt(decoder_ids=ids, sequence=taken + index)
            for index, (ids, start) in enumerate(zip(group, prompts.take(len(group)), strict=True))
        ]
        taken += len(group)
        results = _core.generate(model, rows, generation, max_batch_size=options.max_batch_size)
        for hypotheses in results:
            _print(hypotheses, options)
    prompts.finish()


def _inputs(words: list[str]) -> Iterator[list[int]]:
    for word in words:
        if word == "-":
            for number, line in enumerate(read_lines("-"), 1):
                yield _ids(line, f"standard input, line {number}")
        else:
            yield _ids(word, "--ids")


def _ids(text: str, what: str) -> list[int]:
    try:
        return read_ids(text)
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"{what}: {error}") from error


def _print(hypotheses: list[_core.Hypothesis], options: argparse.Namespace) -> None:
    if options.json:
        fields = [_as_json(row, options.strip_prompt) for row in hypotheses]
        print(json_line({"hypotheses": fields}), flush=True)
        return
    for row in hypotheses:
        print(*_shown(row, options.strip_prompt), flush=True)


def _shown(row: _core.Hypothesis, strip_prompt: bool) -> list[int]:
    return list(row.ids[row.prompt_length if strip_prompt else 0 :])


def _as_json(row: _core.Hypothesis, strip_prompt: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "ids": _shown(row, strip_prompt),
        "score": row.score,
        "stop_reason": row.stop_reason,
    }
    if row.token_log_probs:
        fields["token_log_probs"] = row.token_log_probs
    return fields
