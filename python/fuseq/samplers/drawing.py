# SPDX-License-Identifier: Apache-2.0
"""Samplers that take the best id or draw one."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar

import numpy as np

from fuseq import _core
from fuseq.samplers.checks import changed, is_between, is_whole, require
from fuseq.samplers.protocol import Floats, Ids, to_floats
from fuseq.samplers.sampler import Sampler


class GreedySampler(Sampler):
    """Takes the id with the largest probability, the lowest id of equals.

    Args:
        temperature: Changes nothing here.

    Raises:
        ValueError: An argument does not fit.

    Example:
        >>> import numpy as np
        >>> GreedySampler().get_next_token(np.float32([[0.2, 0.8]]))
        array([1], dtype=int32)
    """

    def get_next_token(self, probabilities: Floats) -> Ids:  # noqa: D102 - the base says it
        return np.asarray(to_floats(probabilities).argmax(-1), np.int32)

    def generation_fields(self) -> dict[str, Any]:  # noqa: D102
        if type(self).get_next_token is not GreedySampler.get_next_token:
            return super().generation_fields()
        return {}


class _DrawsOfCall:
    """A seed, and how many sequences have drawn with it."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._num_drawn = 0

    def next_draws(self, count: int) -> tuple[int | None, int]:
        first = self._num_drawn
        self._num_drawn += count
        return self._seed, first


_OF_CALL: ContextVar[_DrawsOfCall | None] = ContextVar("fuseq_draws_of_call", default=None)


@contextmanager
def drawing_with(seed: int | None) -> Iterator[None]:
    """Lets `get_next_token` draw with a seed, from its start, for as long as one call lasts.

    Args:
        seed: In place of the samplers' own; None: theirs count.
    """
    before = _OF_CALL.set(None if seed is None else _DrawsOfCall(seed))
    try:
        yield
    finally:
        _OF_CALL.reset(before)


class RandomSampler(Sampler):
    """Draws from the whole distribution.

    Args:
        seed: Of the draws, in 0 ... 2**64 - 1; None: a fresh one for every call.
        temperature: Divides the logits.

    Raises:
        ValueError: An argument does not fit.

    Example:
        >>> RandomSampler(seed=7).generation_fields()
        {'do_sample': True}
    """

    _arguments: ClassVar[tuple[str, ...]] = ("seed",)
    # Fields of GenerationOptions by the arguments that they come from.
    _filters: ClassVar[dict[str, str]] = {}

    def __init__(self, seed: int | None = None, *, temperature: float = 1.0) -> None:
        """Checks and keeps the arguments."""
        super().__init__(temperature=temperature)
        require(
            seed is None or (is_whole(seed, 0) and seed < 2**64),
            self,
            "seed must be None or a whole number in 0 ... 2**64 - 1",
            seed,
        )
        self.seed = seed
        self._num_drawn = 0  # sequences that have drawn with the seed

    def get_next_token(self, probabilities: Floats) -> Ids:  # noqa: D102
        values = to_floats(probabilities)
        seed, sequence = (_OF_CALL.get() or self).next_draws(len(values))
        with np.errstate(divide="ignore"):
            scores = _core.Tensor(np.log(values))
        filters = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "top_p_of_all": False}
        ids = _core.sample(
            _core.Context(num_threads=1),
            scores,
            temperature=1.0,  # the probabilities have it already
            **{**filters, **self._filter_fields()},
            seed=secrets.randbits(64) if seed is None else seed,
            sequence=sequence,
            draw=0,
            step=0,
        )
        return np.array(ids, np.int32)

    def generation_fields(self) -> dict[str, Any]:  # noqa: D102
        if type(self).get_next_token is not RandomSampler.get_next_token:
            return super().generation_fields()
        return changed(
            {"do_sample": True, **self._filter_fields(), "temperature": self.temperature}
        )

    def next_draws(self, count: int) -> tuple[int | None, int]:  # noqa: D102
        if self.seed is None:
            return None, 0
        first = self._num_drawn
        self._num_drawn += count
        return self.seed, first

    def restart_draws(self) -> None:  # noqa: D102
        self._num_drawn = 0

    def _filter_fields(self) -> dict[str, Any]:
        values = {field: getattr(self, name) for field, name in self._filters.items()}
        return {field: value for field, value in values.items() if value is not None}


class TopKSampler(RandomSampler):
    """Draws among the k ids with the largest probabilities.

    Args:
        k: How many ids.
        seed: Of the draws, in 0 ... 2**64 - 1; None: a fresh one for every call.
        temperature: Divides the logits.

    Raises:
        ValueError: An argument does not fit.

    Example:
        >>> TopKSampler(k=8, temperature=0.5).generation_fields()
        {'do_sample': True, 'top_k': 8, 'temperature': 0.5}
    """

    _arguments: ClassVar[tuple[str, ...]] = ("k", "seed")
    _filters: ClassVar[dict[str, str]] = {"top_k": "k"}

    def __init__(self, k: int = 5, seed: int | None = None, *, temperature: float = 1.0) -> None:
        """Checks and keeps the arguments."""
        super().__init__(seed, temperature=temperature)
        require(is_whole(k), self, "k must be a positive whole number", k)
        self.k = k


class TopPSampler(RandomSampler):
    """Draws among the fewest best ids whose probabilities reach p.

    Probabilities of all ids count, as in KerasHub, and not only those of the k best.

    Args:
        p: The sum to reach, above 0 and at most 1.
        k: Only the k best ids; None: all.
        seed: Of the draws, in 0 ... 2**64 - 1; None: a fresh one for every call.
        temperature: Divides the logits.

    Raises:
        ValueError: An argument does not fit.

    Example:
        >>> TopPSampler(p=0.9).generation_fields()
        {'do_sample': True, 'top_p': 0.9, 'top_p_of_all': True}
    """

    _arguments: ClassVar[tuple[str, ...]] = ("p", "k", "seed")
    _filters: ClassVar[dict[str, str]] = {"top_k": "k", "top_p": "p"}

    def __init__(
        self,
        p: float = 0.1,
        k: int | None = None,
        seed: int | None = None,
        *,
        temperature: float = 1.0,
    ) -> None:
        """Checks and keeps the arguments."""
        super().__init__(seed, temperature=temperature)
        require(is_between(p, 0, 1) and p > 0, self, "p must be above 0 and at most 1", p)
        require(k is None or is_whole(k), self, "k must be None or a positive whole number", k)
        self.p = p
        self.k = k

    def _filter_fields(self) -> dict[str, Any]:
        return {**super()._filter_fields(), "top_p_of_all": True}


class MinPSampler(RandomSampler):
    """Draws among the ids that are at least p times as probable as the best one.

    Args:
        p: The share, from 0 to 1.
        seed: Of the draws, in 0 ... 2**64 - 1; None: a fresh one for every call.
        temperature: Divides the logits.

    Raises:
        ValueError: An argument does not fit.

    Example:
        >>> MinPSampler(p=0.2).generation_fields()
        {'do_sample': True, 'min_p': 0.2}
    """

    _arguments: ClassVar[tuple[str, ...]] = ("p", "seed")
    _filters: ClassVar[dict[str, str]] = {"min_p": "p"}

    def __init__(
        self, p: float = 0.1, seed: int | None = None, *, temperature: float = 1.0
    ) -> None:
        """Checks and keeps the arguments."""
        super().__init__(seed, temperature=temperature)
        require(is_between(p, 0, 1), self, "p must be from 0 to 1", p)
        self.p = p
