# SPDX-License-Identifier: Apache-2.0
"""Models for calls of samplers: tables, and those of the engine; and the plain way to fill."""

from collections.abc import Sequence
from typing import Any

import fuseq
import numpy as np
from fuseq.samplers import Sampler

Array = np.ndarray
RANDOM = np.random.default_rng(3)
VOCAB, LENGTH = 7, 9
TABLE = RANDOM.standard_normal((VOCAB, VOCAB)).astype(np.float32) * 2
STATES = RANDOM.standard_normal((VOCAB, 4)).astype(np.float32)


def model(table: Array, states: Array | None = None, calls: list[int] | None = None) -> Any:
    """A function for `next` that knows only the last id."""

    def next(prompt: Array, cache: object, index: int) -> tuple[Array, Array | None, object]:
        if calls is not None:
            calls.append(index)
        last = prompt[:, index - 1]
        return table[last], None if states is None else states[last], cache

    return next


def padded(prompts: Sequence[Sequence[int]], length: int = LENGTH, pad: int = 0) -> tuple[Any, ...]:
    """Prompts [B, T], mask and the first index to fill."""
    rows = np.full((len(prompts), length), pad)
    mask = np.zeros(rows.shape, bool)
    for row, prompt in enumerate(prompts):
        rows[row, : len(prompt)] = prompt
        mask[row, : len(prompt)] = True
    return rows, mask, min(len(prompt) for prompt in prompts)


def call(sampler: Sampler, next: Any, prompts: Sequence[Sequence[int]], **more: Any) -> Any:
    rows, mask, index = padded(prompts)
    return sampler(next, rows, index=index, mask=mask, **more)


def plain_greedy(
    table: Array, rows: Array, mask: Array, index: int, stop_ids: Sequence[int]
) -> list[list[int]]:
    """Row by row, without any of what is tested."""
    filled = rows.tolist()
    for row, given in zip(filled, mask.tolist(), strict=True):
        for at in range(index, len(row)):
            if given[at]:
                continue
            row[at] = int(table[row[at - 1]].argmax())
            if row[at] in stop_ids:
                break
    return filled


class Second(Sampler):
    """Takes the second best id."""

    def get_next_token(self, probabilities: Array) -> Array:
        return np.argsort(-probabilities, axis=-1)[:, 1]


def engine_model(engine: Any) -> tuple[Any, Any]:
    """`next` with a decoder of the engine, without a cache, and the states of prompts."""
    session = fuseq.Session(engine, num_threads=1)

    def run(rows: Array) -> tuple[Array, Array]:
        logits, hidden = session.forward(rows.tolist(), return_hidden=True)
        shape = (*rows.shape, -1)
        return logits.numpy().reshape(shape), hidden.numpy().reshape(shape)

    def next(prompt: Array, cache: object, index: int) -> tuple[Array, Array, object]:
        logits, hidden = run(prompt[:, :index])
        return logits[:, -1], hidden[:, -1], cache

    return next, lambda rows: run(rows)[1]
