# SPDX-License-Identifier: Apache-2.0
"""KerasHub's call protocol: `next` computes logits, the engine's `Search` chooses the ids."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from fuseq._core import GenerationOptions, Search, SearchRow, Tensor

Ids: TypeAlias = npt.NDArray[np.int32]
Floats: TypeAlias = npt.NDArray[np.float32]
Lanes: TypeAlias = npt.NDArray[np.int64]
Next: TypeAlias = Callable[[Ids, Any, int], tuple[object, object, Any]]

# Lengths that the array of the prompt decides.
_LENGTHS = ("max_length", "max_new_tokens")


@dataclass(frozen=True)
class Call:
    """What a sampler was called with.

    `given` [B, T] marks the cells that stay as they are; a row starts at its first other cell.
    """

    next: Next
    prompt: Ids
    given: npt.NDArray[np.bool_]
    cache: object
    index: int
    stop_ids: list[int]

    @property
    def starts(self) -> Lanes:
        """The first cell to fill of every row [B]; T where there is none."""
        length = self.given.shape[1]
        places = np.where(self.given, length, np.arange(length))
        return np.asarray(places.min(1, initial=length), np.int64)


class Filled(NamedTuple):
    """Rows that were filled, best first.

    Attributes:
        rows: [B, R, T].
        scores: [B, R].
        ends: [B, R], the cell behind the last one that was filled.
    """

    rows: Ids
    scores: Floats
    ends: Lanes


def read_call(
    next: Next,
    prompt: object,
    cache: object,
    index: object,
    mask: object | None,
    stop_token_ids: object | None,
) -> Call:
    """Checks the arguments of the protocol and brings them into numpy.

    Raises:
        ValueError: A shape or the index does not fit.
    """
    rows = _array(prompt)
    if rows.ndim != 2 or rows.dtype.kind not in "iu":
        raise ValueError(f"prompt: must be ids [B, T], got {rows.dtype} {list(rows.shape)}")
    given = np.zeros(rows.shape, np.bool_) if mask is None else _array(mask).astype(np.bool_)
    if given.shape != rows.shape:
        raise ValueError(
            f"mask: must have the prompt's shape {list(rows.shape)}, got {list(given.shape)}"
        )
    start, length = int(_array(index)), rows.shape[1]
    if not 0 <= start <= length:
        raise ValueError(f"index: must be in 0 ... {length}, the prompt's cells, got {start}")
    stops = [] if stop_token_ids is None else _array(stop_token_ids).reshape(-1).tolist()
    given = given | (np.arange(length) < start)
    return Call(next, rows.astype(np.int32), given, cache, start, stops)


def to_floats(array: Any) -> Floats:  # noqa: ANN401
    """Any array of floating point numbers as float32, bfloat16 of torch included."""
    values = array.detach() if hasattr(array, "detach") else array
    if "bfloat16" in str(getattr(values, "dtype", "")) and hasattr(values, "__dlpack__"):
        values = Tensor(values).float().numpy()
    return np.asarray(_array(values), np.float32)


def returned(values: object, rows: int, what: str = "logits") -> Floats:
    """What `next` returned for so many rows, as float32.

    Raises:
        ValueError: It is not [rows, any number but 0].
    """
    floats = to_floats(values)
    if floats.ndim != 2 or floats.shape[0] != rows or floats.shape[1] == 0:
        size = "V" if what == "logits" else "D"
        raise ValueError(f"next: must return {what} [{rows}, {size}], got {list(floats.shape)}")
    return floats


def take_rows(cache: object, lanes: Lanes) -> object:
    """The rows `lanes` of every array of a nested structure; what has no axes stays."""
    if isinstance(cache, Mapping):
        return {key: take_rows(value, lanes) for key, value in cache.items()}
    if isinstance(cache, tuple | list):
        parts = [take_rows(part, lanes) for part in cache]
        kind: Any = type(cache)
        return kind(*parts) if hasattr(cache, "_fields") else kind(parts)
    leaf: Any = cache
    return leaf[lanes] if getattr(leaf, "shape", ()) else leaf


def fill(
    call: Call,
    fields: Mapping[str, Any],
    seed: int | Sequence[int] | None,
    first_sequence: int,
    max_new_tokens: int | None = None,
) -> Filled:
    """Fills the prompts as options say.

    Every row of the batch is a request of one `Search` that begins at its own first free cell;
    `next` sees all rows, or all beams of all rows, at every step.

    Args:
        call: Prompts and what computes logits.
        fields: Fields of GenerationOptions.
        seed: Of the draws, one or one for each row; None: fresh ones.
        first_sequence: The place of the first row among all that were drawn with the seed.
        max_new_tokens: The most cells of a row that are filled; None: all.

    Returns:
        R = num_return_sequences rows of each prompt.
    """
    width = max(fields.get("num_beams", 1), fields.get("num_return_sequences", 1))
    results = fields.get("num_return_sequences", 1)
    batch, length = call.prompt.shape
    if (call.starts == length).all():
        rows = np.repeat(call.prompt[:, None], results, 1)
        ends = np.full((batch, results), length, np.int64)
        return Filled(rows, np.zeros(ends.shape, np.float32), ends)
    prompt, cache, index = np.repeat(call.prompt, width, 0), call.cache, call.index
    if width > 1:
        cache = take_rows(cache, np.repeat(np.arange(batch), width))
    requests = None
    while True:
        logits, _, cache = call.next(prompt, cache, index)
        scores = returned(logits, batch * width)
        if requests is None:
            draws = (seed, first_sequence)
            requests = _Requests(call, fields, width, scores.shape[1], draws, max_new_tokens)
        parents, ids = requests.step(index, scores)
        if requests.are_finished():
            return requests.results(results)
        prompt = prompt[parents]  # a copy: `next` may have kept the last one
        prompt[:, index] = ids
        if (parents != np.arange(len(parents))).any():
            cache = take_rows(cache, parents)
        index += 1


class _Requests:
    """The rows of a call as requests of one Search.

    Row b has the lanes b * width ... b * width + width - 1 of what `next` gets.
    """

    def __init__(
        self,
        call: Call,
        fields: Mapping[str, Any],
        width: int,
        vocab: int,
        draws: tuple[int | Sequence[int] | None, int],
        max_new_tokens: int | None,
    ) -> None:
        self._call = call
        self._max_new_tokens = max_new_tokens
        self._width = width
        self._draws = draws
        self._starts = call.starts
        self._rows: dict[int, int] = {}  # request: row of the batch
        self._search = Search(vocab, num_threads=1, max_rows=len(call.prompt) * width)
        stops = {id for id in call.stop_ids if 0 <= id < vocab}
        # Stands in for a given id that would end a row.
        self._harmless = next((id for id in range(vocab) if id not in stops), 0)
        self._stops = sorted(stops)
        self._sampler = fields.get("sampler")
        self._forced: npt.NDArray[np.bool_] = np.zeros(0, np.bool_)
        kept = {name: value for name, value in fields.items() if name not in _LENGTHS}
        if self._sampler is not None:
            kept["sampler"] = self._choose
        self._options = GenerationOptions(**{**kept, "stop_token_ids": self._stops})

    def step(self, index: int, scores: Floats) -> tuple[Lanes, Ids]:
        """Chooses the ids of the cells `index`: the lane each lane goes on from, and its id."""
        for row in np.flatnonzero(self._starts == index):
            self._add(int(row))
        rows = self._search.rows()
        lanes = np.array([self._lane(row, row.index) for row in rows], np.int64)
        if len(rows):
            chosen = scores[lanes]
            self._force(chosen, lanes // self._width, index)
            self._search.step(chosen)
        return self._moves(index)

    def are_finished(self) -> bool:
        """Whether there is nothing left to fill."""
        wanted = int((self._starts < self._call.prompt.shape[1]).sum())
        return len(self._rows) == wanted and not self._search.rows()

    def results(self, count: int) -> Filled:
        """All rows, `count` of each request."""
        prompt = self._call.prompt[:, None]
        filled = np.repeat(prompt, count, 1)
        scores = np.zeros(filled.shape[:2], np.float32)
        ends = np.full(scores.shape, prompt.shape[2], np.int64)
        for request, row in self._rows.items():
            for place, found in enumerate(self._search.take(request)):
                new = found.ids[found.prompt_length :]
                start = self._starts[row]
                ends[row, place] = start + len(new)
                filled[row, place, start : ends[row, place]] = new
                # Without beams the engine's score is the sum; with return_scores only.
                times = len(found.token_log_probs) if self._options.num_beams == 1 else 1
                scores[row, place] = found.score / max(times, 1) ** self._options.length_penalty
        return Filled(np.where(self._call.given[:, None], prompt, filled), scores, ends)

    def _add(self, row: int) -> None:
        start = int(self._starts[row])
        options = copy.copy(self._options)  # shares the sampler: one call for all rows
        room = self._call.prompt.shape[1] - start
        options.max_new_tokens = min(room, self._max_new_tokens or room)
        options.min_new_tokens = min(options.min_new_tokens or 0, options.max_new_tokens)
        prompt: Sequence[int] = self._call.prompt[row, :start].tolist() or [self._harmless]
        seeds, first = self._draws
        if isinstance(seeds, Sequence):  # each row draws as if it were alone
            request = self._search.add(prompt, options, seed=seeds[row], sequence=0)
        else:
            request = self._search.add(prompt, options, seed=seeds, sequence=first + row)
        self._rows[request] = row

    def _lane(self, row: SearchRow, index: int) -> int:
        return self._rows[row.request] * self._width + index

    def _force(self, scores: Floats, rows: Lanes, index: int) -> None:
        """Leaves rows whose cell is given no choice, and none of its price in their score."""
        self._forced = self._call.given[rows, index]
        for place in np.flatnonzero(self._forced):
            scores[place] = -np.inf
            scores[place, self._stand_in(int(self._call.prompt[rows[place], index]))] = 0

    def _stand_in(self, id: int) -> int:
        return self._harmless if id in self._call.stop_ids else id

    def _choose(self, probabilities: Floats) -> Ids:
        """A user's own choice, but for the cells that are given."""
        assert self._sampler is not None
        ids = np.array(_array(self._sampler(probabilities)), np.int64).reshape(-1)
        if len(ids) == len(self._forced):
            ids[self._forced] = probabilities[self._forced].argmax(1)
        return ids.astype(np.int32)

    def _moves(self, index: int) -> tuple[Lanes, Ids]:
        lanes = len(self._call.prompt) * self._width
        parents = np.arange(lanes)
        ids = np.repeat(self._call.prompt[:, index], self._width)
        for row in self._search.rows():
            lane = self._lane(row, row.index)
            parents[lane] = self._lane(row, row.parent)
            if not self._call.given[lane // self._width, index]:
                ids[lane] = row.id
        return parents, ids


def _array(value: Any) -> npt.NDArray[Any]:  # noqa: ANN401
    """Any array, or nested lists, as numpy."""
    if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
        return np.from_dlpack(value)
    return np.asarray(value)
