# SPDX-License-Identifier: Apache-2.0
"""The part of `fuseq generate` that takes ids and prints ids."""

import argparse
from collections.abc import Iterator
from typing import Any

from fuseq import _core
from fuseq.cli.inputs import PerInput, groups, naming, read_lines, reads_terminal
from fuseq.cli.options import has_encoder, read_ids, read_options
from fuseq.cli.parser import UsageError, json_line

_GROUP = 32  # inputs at a time, where nothing is said


def run_ids(options: argparse.Namespace) -> None:
    """Generates from the ids of the command line, or from lines of standard input.

    Args:
        options: The command line.

    Raises:
        UsageError: An option does not fit the others or the model.
        ValueError: An input is no line of ids, or does not fit the model.
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
    generation = read_options(options, preset, is_seq2seq=is_seq2seq)
    with_log_probs = generation.return_scores
    if options.json:  # which has a score for each result
        generation.return_scores = True
    model = preset.load_model(dtype=options.dtype, num_threads=options.threads)
    is_interactive = reads_input and reads_terminal()
    size = options.max_batch_size or (1 if is_interactive else _GROUP)
    taken = 0
    for inputs in groups(_inputs(options.ids), size):
        places, group = zip(*inputs, strict=True)
        rows = [
            _core.Prompt(ids, start, sequence=taken + index)
            if is_seq2seq
            else _core.Prompt(decoder_ids=ids, sequence=taken + index)
            for index, (ids, start) in enumerate(zip(group, prompts.take(len(group)), strict=True))
        ]
        taken += len(group)
        with naming(places):
            results = _core.generate(model, rows, generation, max_batch_size=options.max_batch_size)
        for hypotheses in results:
            _print(hypotheses, options, with_log_probs)
    prompts.finish()


def _inputs(words: list[str]) -> Iterator[tuple[str, list[int]]]:
    """Ids, and the name of the place that they come from."""
    for number, word in enumerate(words, 1):
        if word != "-":
            yield f"--ids, input {number}", _ids(word, "--ids")
            continue
        for place, line in read_lines("-"):
            try:
                yield place, read_ids(line)
            except argparse.ArgumentTypeError as error:
                raise ValueError(f"{place}: {error}") from error


def _ids(text: str, what: str) -> list[int]:
    try:
        return read_ids(text)
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"{what}: {error}") from error


def _print(
    hypotheses: list[_core.Hypothesis], options: argparse.Namespace, with_log_probs: bool
) -> None:
    if options.json:
        fields = [_as_json(row, options.strip_prompt, with_log_probs) for row in hypotheses]
        print(json_line({"hypotheses": fields}), flush=True)
        return
    for row in hypotheses:
        print(*_shown(row, options.strip_prompt), flush=True)


def _shown(row: _core.Hypothesis, strip_prompt: bool) -> list[int]:
    return list(row.ids[row.prompt_length if strip_prompt else 0 :])


def _as_json(row: _core.Hypothesis, strip_prompt: bool, with_log_probs: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "ids": _shown(row, strip_prompt),
        "score": row.score,
        "stop_reason": row.stop_reason,
    }
    if with_log_probs:
        fields["token_log_probs"] = row.token_log_probs
    return fields
