# SPDX-License-Identifier: Apache-2.0
"""The part of `fuseq generate` that takes texts and prints texts."""

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from fuseq._core import GenerationOptions
from fuseq.cli.inputs import PerInput, check_files, groups, naming, read_lines, reads_terminal
from fuseq.cli.options import changed_fields, has_encoder, read_options
from fuseq.cli.parser import UsageError, json_line
from fuseq.models.call_options import default_length
from fuseq.models.causal_lm import CausalLM
from fuseq.models.folders import open_folder
from fuseq.models.generation import Generation
from fuseq.models.registry import find_subclass
from fuseq.presets.load import Preset, merge_options
from fuseq.samplers import PresetSampler

_GROUP = 32  # inputs at a time, where nothing is said

Write = Callable[[str], None]


def run_texts(options: argparse.Namespace) -> None:
    """Generates from the texts of the command line, of files or of standard input.

    Args:
        options: The command line.

    Raises:
        UsageError: An option does not fit the others or the model.
        ValueError: The preset has no tokenizer, or a line is not UTF-8.
    """
    reads_input = not options.texts and not options.file
    files = ["-"] if reads_input else options.file
    # What can be said at once, before a large model is loaded.
    check_files(files)
    preset = open_folder(options.preset)
    is_seq2seq = has_encoder(preset)
    prompts = _prompts(options, is_seq2seq, None if files else len(options.texts))
    generation = read_options(options, preset, is_seq2seq=is_seq2seq)
    is_interactive = "-" in files and reads_terminal()
    is_single = len(options.texts) == 1 and not files and generation.num_return_sequences == 1
    is_streamed = _is_streamed(options, generation, is_single or is_interactive)

    run = _Run(options, _load(options, preset), generation)
    write = _writer(is_escaped=not is_single)
    size = options.max_batch_size or (1 if is_interactive else _GROUP)
    for inputs in groups(_inputs(options.texts, files), 1 if is_streamed else size):
        starts = None if prompts is None else prompts.take(len(inputs))
        group = [text for _, text in inputs]
        with naming([place for place, _ in inputs]):
            if is_streamed:
                run.stream(group, starts, write)
            else:
                run.generate(group, starts, write)
    if prompts is not None:
        prompts.finish()


def _prompts(
    options: argparse.Namespace, is_seq2seq: bool, count: int | None
) -> PerInput[str] | None:
    if not is_seq2seq:
        for given, shown, hint in (
            (options.prompt, "--prompt", "Put it in front of the text"),
            (options.encoder_sequence_length, "--encoder-sequence-length", "It has no encoder"),
        ):
            if given is not None:
                raise UsageError(f"{shown}: must not come with a causal model. {hint}")
    if options.prompt is None:
        return None
    return PerInput("--prompt", options.prompt, count)


def _is_streamed(
    options: argparse.Namespace, generation: GenerationOptions, is_answer: bool
) -> bool:
    """Whether each token is shown at once; `is_answer`: one text comes at a time."""
    has_one = generation.num_beams == 1 and generation.num_return_sequences == 1
    if options.stream and not has_one:  # also where the preset's settings ask for beams
        raise UsageError(
            f"--stream: must not come with beams or several results, got {generation.num_beams} "
            f"beams and {generation.num_return_sequences} results. Choose --sampler greedy"
        )
    if options.stream is not None:
        return bool(options.stream)
    return has_one and is_answer and not options.json and sys.stdout.isatty()


def _inputs(texts: Sequence[str], files: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Texts, each after the name of the place that it comes from."""
    yield from ((f"TEXT {number}", text) for number, text in enumerate(texts, 1))
    for file in files:
        yield from read_lines(file)


def _load(options: argparse.Namespace, preset: Preset) -> CausalLM:
    kind = find_subclass(CausalLM, str(preset.read_spec().get("family")), options.preset)
    preprocessor = kind.preprocessor_cls.load(preset, {})
    if preprocessor is None:
        raise ValueError(
            f'--preset "{options.preset}": must have a tokenizer for texts, got none. Give ids '
            "with --ids, or lines of them with --ids -"
        )
    length = options.encoder_sequence_length
    return kind.from_preset(
        preset.folder,
        preprocessor=preprocessor,
        dtype=options.dtype,
        num_threads=options.threads,
        compile=False,
        **({} if length is None else {"encoder_sequence_length": length}),
    )


class _Fields(PresetSampler):
    """Fields of GenerationOptions as they are; draws go on from group to group."""

    _taken = 0

    def next_draws(self, count: int) -> tuple[int | None, int]:
        """The draws of the next inputs: the same ones, however inputs are grouped."""
        first = self._taken
        self._taken += count
        return (self.fields or {}).get("seed"), first


class _Run:
    """A loaded model, and how to call it."""

    def __init__(
        self,
        options: argparse.Namespace,
        task: CausalLM,
        generation: GenerationOptions,
    ) -> None:
        if not generation.max_length and not generation.max_new_tokens:
            lengths = {"max_length": default_length(task), "min_length": options.min_length}
            generation = merge_options(generation, lengths)
        stops = list(generation.stop_token_ids)
        if generation.use_default_stop_ids:
            stops += task.end_token_ids()
        self._task = task
        self._json = options.json
        self._strip_prompt = options.strip_prompt
        self._with_log_probs = generation.return_scores
        self._taken = 0
        self._warned: set[str] = set()
        fields = changed_fields(generation)
        fields.pop("return_scores", None)
        self._arguments: dict[str, Any] = {
            "sampler": _Fields(fields),
            "stop_token_ids": stops or None,
            "strip_prompt": options.strip_prompt,
            "return_scores": options.json,
            "forced_bos_token_id": options.forced_bos_token_id,
            "max_batch_size": options.max_batch_size,
            "progress_bar": False,
        }

    def generate(self, texts: list[str], prompts: list[str] | None, write: Write) -> None:
        """Prints the results of a group of inputs."""
        with self._warnings_at_success():
            results = self._task.generate(self._columns(texts, prompts), **self._arguments)
        for result in results:
            for made in result if _is_several(result) else [result]:
                if self._json:
                    print(json_line(self._as_json(made)))
                else:
                    write(made)
                    print()
            self._taken += 1
        sys.stdout.flush()

    def stream(self, texts: list[str], prompts: list[str] | None, write: Write) -> None:
        """Prints the result of one input token by token."""
        columns = self._columns(texts, prompts)
        shown: list[str] = []

        def show(text: str) -> None:
            if text:
                shown.append(text)
                write(text)
                sys.stdout.flush()

        def on_token(row: int, token_id: int, text: str) -> None:
            del row, token_id
            if not shown and not self._strip_prompt:
                show(self._start(columns))
            show(text)

        with self._warnings_at_success():
            (result,) = self._task.generate(columns, on_token=on_token, **self._arguments)
        # What is left of characters that were never completed.
        if result.startswith("".join(shown)):
            show(result[len("".join(shown)) :])
        print(flush=True)

    @contextmanager
    def _warnings_at_success(self) -> Iterator[None]:
        """Shows each warning once, and none where the engine then refuses the options."""
        with warnings.catch_warnings(record=True) as said:
            yield
        for warning in said:
            if str(warning.message) not in self._warned:
                self._warned.add(str(warning.message))
                warnings.showwarning(
                    warning.message, warning.category, warning.filename, warning.lineno
                )

    def _columns(self, texts: list[str], prompts: list[str] | None) -> dict[str, list[str]]:
        keys = self._task.keys.texts
        return dict(zip(keys, [texts] if prompts is None else [texts, prompts], strict=False))

    def _start(self, columns: dict[str, list[str]]) -> str:
        preprocessor = self._task.text_preprocessor()
        (prompt,) = preprocessor.prompts(columns)
        return preprocessor.text_of(prompt.decoder_ids)

    def _as_json(self, result: Generation) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "input": self._taken,
            "text": result.text,
            "token_ids": result.token_ids,
            "score": result.score,
            "stop_reason": result.stop_reason,
        }
        if self._with_log_probs:
            fields["token_log_probs"] = result.token_log_probs
        return fields


def _is_several(result: object) -> bool:
    return isinstance(result, list)


def _writer(*, is_escaped: bool) -> Write:
    """Writes text as it is, or on one line."""

    def write(text: str) -> None:
        print(_escaped(text) if is_escaped else text, end="")

    return write


def _escaped(text: str) -> str:
    r"""Text on one line: line breaks become \n and \r, and a backslash two."""
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
