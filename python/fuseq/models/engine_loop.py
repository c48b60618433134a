# SPDX-License-Identifier: Apache-2.0
"""From inputs to results: batches are read, the engine generates, texts or arrays come out."""

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fuseq import _core
from fuseq._core import GenerationOptions, Prompt
from fuseq.models.generation import Generation, OnToken, Request, check_seeds
from fuseq.models.inputs import Batch, is_one_batch, read_batches
from fuseq.models.overriding import is_overridden
from fuseq.presets.load import merge_options
from fuseq.prompts import Row, Rows, rows_to_arrays

if TYPE_CHECKING:
    from fuseq.models.causal_lm import CausalLM

Arrays = dict[str, npt.NDArray[Any]]
Found = Sequence[Sequence[Row]]
# What computes rows of prompts in place of the engine's own loop.
Loop = Callable[[list[Prompt], GenerationOptions, tuple[int | None, int]], Found]

_GROUP = 256  # inputs of an iterable that are gathered for the engine
_ROWS = 32  # at a time in a loop in Python, as in the engine
_BAR_FROM = 64  # inputs; shorter lists are done before a bar would tell much


def generate(
    task: "CausalLM", inputs: object, request: Request, progress_bar: bool | None, loop: Loop | None
) -> Any:  # noqa: ANN401
    """Generates from inputs of any kind; see `CausalLM.generate`."""
    is_one = is_one_batch(inputs)
    run = _Run(task, request, loop)
    texts: list[Any] = []
    arrays: list[Rows] = []
    is_scalar = False
    with _bar(inputs, progress_bar) as bar:
        # A list is one call of the engine, but a bar wants to move.
        size = _GROUP if bar is not None or not is_one else None
        for batch in _groups(read_batches(inputs, task.keys), size):
            is_scalar = is_one and batch.is_scalar
            if batch.arrays is not None:
                arrays.append(run.arrays(batch))
            else:
                texts += run.texts(batch)
            if texts and arrays:
                raise ValueError("inputs: batches must be all of texts or all of ids, got both")
            if bar is not None:
                bar.update(len(batch))
    run.finish()
    if arrays:
        return _as_dict(task, arrays, request)
    return texts[0] if is_scalar else texts


class _Run:
    """One call of `generate`: what it counts over all batches."""

    def __init__(self, task: "CausalLM", request: Request, loop: Loop | None) -> None:
        self._task = task
        self._request = request
        self._loop = loop
        self._count = 0  # inputs so far
        self._has_warned = False

    def texts(self, batch: Batch) -> list[Any]:
        """A result for each text."""
        if not len(batch):
            return []
        assert batch.texts is not None
        prompts = self._task.text_prompts(batch.texts, self._request)
        options = self._request.options
        if options.max_length:
            prompts = self._cut(prompts, options.max_length)
        several = options.num_return_sequences > 1
        results = []
        for rows in self._generate(prompts, options):
            made = [self._result(row) for row in rows]
            results.append(made if several else made[0])
        return results

    def arrays(self, batch: Batch) -> Rows:
        """Rows for a batch of ids; its columns are the length, unless new tokens were counted."""
        assert batch.arrays is not None
        keys = self._task.keys
        if self._request.encoder_sequence_length is not None:
            raise ValueError(
                "generate: encoder_sequence_length must come with texts, got arrays of ids"
            )
        prompts = self._task.array_prompts(batch.arrays, self._request)
        options, given = self._request.options, self._request.given
        decoder = batch.arrays.get(keys.ids[-1])
        columns = None if decoder is None else decoder.shape[1]
        if columns is not None and "max_new_tokens" not in given:
            least = options.min_length if "min_length" in given else None
            options = merge_options(options, {"max_length": columns, "min_length": least})
        results = self._generate(prompts, options)
        longest = max((len(row.ids) for rows in results for row in rows), default=0)
        return rows_to_arrays(
            results,
            self._task.pad_token_id(),
            max(columns or 0, longest),
            strip_prompt=self._request.strip_prompt,
        )

    def finish(self) -> None:
        """Checks what can be checked only at the end."""
        if self._request.seeds is not None:
            check_seeds(self._request.seeds, self._count)

    def _generate(self, prompts: Sequence[Prompt], options: GenerationOptions) -> Found:
        request, first = self._request, self._count
        self._count += len(prompts)
        seed, sequence = request.draws(len(prompts))
        if request.seeds is not None and len(request.seeds) < self._count:
            check_seeds(request.seeds, self._count)
        numbered = [
            Prompt(
                prompt.encoder_ids,
                prompt.decoder_ids,
                seed=request.seeds[first + index] if request.seeds is not None else None,
                # A row with a seed of its own is the same alone.
                sequence=sequence + index if request.seeds is None else None,
            )
            for index, prompt in enumerate(prompts)
        ]
        if self._loop is not None:
            size = request.max_batch_size or max(1, _ROWS // _width(options))
            return [
                rows
                for start in range(0, len(numbered), size)
                for rows in self._loop(
                    numbered[start : start + size], options, (seed, sequence + start)
                )
            ]
        if seed is not None:
            options = copy(options)
            options.seed = seed
        return _core.generate(
            self._task.backbone.model,
            numbered,
            options,
            max_batch_size=request.max_batch_size,
            on_token=_shifted(request.on_token, first * options.num_return_sequences),
        )

    def _result(self, row: Row) -> str | Generation:
        start = row.prompt_length if self._request.strip_prompt else 0
        ids = list(row.ids[start:])
        text = self._text(ids)
        if not self._request.return_scores:
            return text
        return Generation(text, ids, row.score, list(row.token_log_probs), row.stop_reason)

    def _text(self, ids: list[int]) -> str:
        preprocessor: Any = self._task.text_preprocessor()
        if not is_overridden(preprocessor, "generate_postprocess"):
            return str(preprocessor.text_of(ids))
        keys = self._task.keys
        row = np.array([ids], np.int32)
        text = preprocessor.generate_postprocess(
            {keys.ids[-1]: row, keys.masks[-1]: np.ones(row.shape, np.bool_)}
        )
        return text if isinstance(text, str) else str(text[0])

    def _cut(self, prompts: list[Prompt], length: int) -> list[Prompt]:
        """Prompts of at most so many ids, and one warning if there were longer ones."""
        longest = max((len(prompt.decoder_ids) for prompt in prompts), default=0)
        if longest <= length:
            return prompts
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"generate: prompts must be shorter than max_length {length} to be continued, got "
                f"one of {longest} tokens, which is cut",
                stacklevel=5,
            )
        return [Prompt(prompt.encoder_ids, prompt.decoder_ids[:length]) for prompt in prompts]


def _width(options: GenerationOptions) -> int:
    """The rows of one input."""
    candidates = options.top_k if options.penalty_alpha else 1
    return max(options.num_beams, options.num_return_sequences, candidates)


def _shifted(on_token: OnToken | None, rows: int) -> OnToken | None:
    """Counts rows on over the batches of an iterable."""
    if on_token is None or rows == 0:
        return on_token
    return lambda row, token_id, text: on_token(row + rows, token_id, text)


def _groups(batches: Iterable[Batch], size: int | None) -> Iterator[Batch]:
    """Joins small batches of texts, and cuts large ones, to about `size` inputs."""
    waiting: list[Batch] = []
    for batch in batches:
        if batch.texts is None or size is None:
            yield from _joined(waiting)
            waiting = []
            yield batch
            continue
        if waiting and waiting[0].texts is not None and set(waiting[0].texts) != set(batch.texts):
            yield from _joined(waiting)
            waiting = []
        waiting.append(batch)
        if sum(map(len, waiting)) >= size:
            yield from _cut(waiting, size)
            waiting = []
    yield from _joined(waiting)


def _joined(batches: Sequence[Batch]) -> Iterator[Batch]:
    if len(batches) == 1:
        yield batches[0]
    elif batches:
        texts: dict[str, list[str]] = {}
        for batch in batches:
            assert batch.texts is not None
            for key, column in batch.texts.items():
                texts.setdefault(key, []).extend(column)
        yield Batch(texts=texts)


def _cut(batches: Sequence[Batch], size: int) -> Iterator[Batch]:
    for whole in _joined(batches):
        assert whole.texts is not None
        for start in range(0, len(whole), size):
            columns = {key: column[start : start + size] for key, column in whole.texts.items()}
            yield Batch(texts=columns, is_scalar=whole.is_scalar)


class _NoBar:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *error: object) -> None:
        return None


def _bar(inputs: Any, wanted: bool | None) -> Any:  # noqa: ANN401
    is_one = is_one_batch(inputs)
    count = None
    if is_one:
        columns = list(inputs.values()) if isinstance(inputs, Mapping) else [inputs]
        count = max((_length(column) for column in columns), default=1)
    elif hasattr(inputs, "__len__"):
        count = len(inputs)
    if wanted is None:
        wanted = sys.stderr.isatty() and (count is None or count >= _BAR_FROM)
    if not wanted or count == 1:
        return _NoBar()
    from tqdm.auto import tqdm

    total = count if is_one else None  # batches may have any size
    return tqdm(total=total, unit=" inputs", desc="generate")


def _length(column: Any) -> int:  # noqa: ANN401
    """Texts or rows of a column; 1 for a single text."""
    if isinstance(column, str | bytes) or not hasattr(column, "__len__"):
        return 1
    return 1 if getattr(column, "ndim", 1) == 0 else len(column)


def _as_dict(task: "CausalLM", parts: Sequence[Rows], request: Request) -> Arrays:
    width = max(part.token_ids.shape[1] for part in parts)
    ids = np.concatenate([_widened(part.token_ids, width, task.pad_token_id()) for part in parts])
    mask = np.concatenate([_widened(part.padding_mask, width, False) for part in parts])
    keys = task.keys
    result: Arrays = {keys.ids[-1]: ids, keys.masks[-1]: mask}
    if request.return_scores:
        result["scores"] = np.concatenate([part.scores for part in parts])
        result["token_log_probs"] = np.concatenate(
            [_widened(part.token_log_probs, width, 0.0) for part in parts]
        )
    return result


def _widened(array: npt.NDArray[Any], width: int, value: Any) -> npt.NDArray[Any]:  # noqa: ANN401
    missing = width - array.shape[1]
    return np.pad(array, ((0, 0), (0, missing)), constant_values=value) if missing else array
