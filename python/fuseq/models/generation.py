# SPDX-License-Identifier: Apache-2.0
"""What one call of `generate` was asked for, and what it gives back."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np

from fuseq._core import GenerationOptions

OnToken = Callable[[int, int, str], object]


class Generation(NamedTuple):
    """One generated text with what is known about it.

    Attributes:
        text: As `generate` would return it alone.
        token_ids: The decoder's whole row, prompt and special tokens with it; with strip_prompt
            only the new ones.
        score: Of a beam transformers' `sequences_scores`, else the sum of token_log_probs.
        token_log_probs: The model's own, of each new token, before temperature and filters.
        stop_reason: "stop_id", "stop_string", "max_length", "callback" or "canceled".
    """

    text: str
    token_ids: list[int]
    score: float
    token_log_probs: list[float]
    stop_reason: str


@dataclass(frozen=True)
class Request:
    """The arguments of one call of `generate`, checked.

    Attributes:
        options: Of all rows, but for their seeds.
        seeds: One for each input; None: `first_seed` or fresh ones.
        draws: Takes the draws of so many inputs: the seed, None for a fresh one, and the place of
            the first of them.
        strip_prompt: Whether results leave the prompt out.
        return_scores: Whether results are `Generation`s, or arrays with scores.
        given: Names of the options that the call itself says, and no settings or default.
        encoder_sequence_length: The longest source, in tokens; None: the preprocessor's.
        max_batch_size: Inputs at a time; None: as many as make 32 rows.
        on_token: Called for each new token.
    """

    options: GenerationOptions
    draws: Callable[[int], tuple[int | None, int]]
    seeds: Sequence[int] | None = None
    strip_prompt: bool = False
    return_scores: bool = False
    given: frozenset[str] = frozenset()
    encoder_sequence_length: int | None = None
    max_batch_size: int | None = None
    on_token: OnToken | None = None


def check_lengths(**lengths: object) -> None:
    """Checks lengths that were asked for; None is always right.

    Raises:
        ValueError: One is not a positive whole number.
    """
    for name, value in lengths.items():
        if value is not None and (not is_whole(value) or not 1 <= value < 2**31):  # type: ignore[operator]
            unit = "" if name == "max_batch_size" else " of tokens"
            raise ValueError(
                f"generate: {name} must be a positive whole number{unit}, got {value!r}"
            )


def is_whole(value: object) -> bool:
    """Whether a value is a whole number, numpy's included, and no bool."""
    return isinstance(value, Integral) and not isinstance(value, bool | np.bool_)


def read_seed(seed: Any) -> int | list[int] | None:  # noqa: ANN401
    """Checks the argument `seed`.

    Raises:
        ValueError: It is no number in 0 ... 2**64 - 1 and no list of such.
    """
    if seed is None:
        return None
    is_one = is_whole(seed)
    is_list = isinstance(seed, Sequence | np.ndarray) and not isinstance(seed, str | bytes)
    values: list[Any] = [seed] if is_one else list(seed) if is_list else [None]
    if not all(map(is_whole, values)):
        raise ValueError(f"seed: must be a whole number or one for each input, got {seed!r}")
    if any(not 0 <= value < 2**64 for value in values):
        raise ValueError(f"seed: must be in 0 ... 2**64 - 1, got {seed!r}")
    return int(seed) if is_one else [int(value) for value in values]


def check_seeds(seeds: Sequence[int], count: int) -> None:
    """Checks that there is a seed for each input.

    Raises:
        ValueError: There are more or fewer.
    """
    if len(seeds) != count:
        raise ValueError(f"seed: must be one for each of {count} inputs, got {len(seeds)}")


def read_ids(name: str, ids: Any) -> list[int] | None:  # noqa: ANN401
    """Ids as a list; None stays.

    Raises:
        TypeError: They are no whole numbers.
    """
    if ids is None:
        return None
    is_list = isinstance(ids, Iterable) and not isinstance(ids, str | bytes)
    values = [ids] if is_whole(ids) else list(ids) if is_list else [ids]
    if not all(map(is_whole, values)):
        raise TypeError(f"{name}: must be whole numbers, got {ids!r}")
    return [int(id) for id in values]


def read_biases(biases: Any) -> dict[int, float] | None:  # noqa: ANN401
    """Biases by id; None stays.

    Raises:
        TypeError: They are no dict of whole numbers and numbers.
    """
    if biases is None:
        return None
    if not isinstance(biases, Mapping) or not all(map(is_whole, biases)):
        raise TypeError(f"logit_bias: must be a dict of ids and numbers, got {biases!r}")
    return {int(id): float(bias) for id, bias in biases.items()}
