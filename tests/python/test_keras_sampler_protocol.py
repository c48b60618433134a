# SPDX-License-Identifier: Apache-2.0
"""Samplers spell words, as those of KerasHub's own tests do: the cache tells the next letter."""

from collections.abc import Callable
from string import ascii_lowercase
from typing import Any

import numpy as np
import pytest
from fuseq.samplers import (
    BeamSampler,
    ContrastiveSampler,
    GreedySampler,
    MinPSampler,
    RandomSampler,
    Sampler,
    TopKSampler,
    TopPSampler,
)

VOCAB, LENGTH, DIM = 26, 12, 5
WORD = "breakthroughs"  # one letter more than there are cells: contrastive search looks on
FALLING = np.arange(VOCAB, 0, -1, dtype=np.float32)  # each id is less likely than the last
SAMPLERS: list[Callable[[], Sampler]] = [
    GreedySampler,
    RandomSampler,
    TopKSampler,
    TopPSampler,
    MinPSampler,
    BeamSampler,
    lambda: ContrastiveSampler(alpha=0.2),
]
DRAWING: list[Callable[..., Sampler]] = [
    RandomSampler,
    TopKSampler,
    lambda **more: TopPSampler(0.5, **more),
    lambda **more: MinPSampler(0.01, **more),
]


def ids(text: str) -> list[int]:
    return [ascii_lowercase.index(letter) for letter in text]


def texts(rows: Any) -> list[str]:
    return ["".join(ascii_lowercase[id] for id in row) for row in np.asarray(rows)]


def spelling(prompt: Any, cache: Any, index: int) -> tuple[Any, Any, Any]:
    """Logits that leave no choice but the cache's letter."""
    return np.eye(VOCAB)[cache[:, index]] * 1e9, np.ones((len(prompt), DIM)), cache


def always(logits: Any) -> Callable[..., Any]:
    """A model that never changes its mind."""

    def next(prompt: Any, cache: Any, index: int) -> tuple[Any, Any, Any]:
        return np.tile(logits, (len(prompt), 1)), np.ones((len(prompt), DIM)), cache

    return next


def prompt(letter: str = "z", rows: int = 1) -> Any:
    return np.full((rows, LENGTH), ids(letter))


def hidden(rows: int = 1) -> Any:
    return np.ones((rows, LENGTH, DIM))


@pytest.mark.parametrize("make", SAMPLERS)
def test_without_a_cache_the_cells_from_the_index_on_are_filled(
    make: Callable[[], Sampler],
) -> None:
    found = make()(
        next=always(np.eye(VOCAB)[2] * 1e9), prompt=prompt(), index=5, hidden_states=hidden()
    )
    assert texts(found) == ["zzzzzccccccc"]


@pytest.mark.parametrize("make", SAMPLERS)
def test_a_cache_spells_a_word_for_each_row(make: Callable[[], Sampler]) -> None:
    cache = np.array([ids(WORD), ids(WORD[::-1])])
    found = make()(
        next=spelling, prompt=prompt(rows=2), cache=cache, index=1, hidden_states=hidden(2)
    )
    assert texts(found) == ["z" + WORD[1:LENGTH], "z" + WORD[::-1][1:LENGTH]]


@pytest.mark.parametrize("make", SAMPLERS)
def test_a_stop_id_ends_the_word(make: Callable[[], Sampler]) -> None:
    cache = np.array([ids(WORD)])
    found = make()(
        next=spelling,
        prompt=prompt(),
        cache=cache,
        stop_token_ids=ids("ks"),
        hidden_states=hidden(),
    )
    assert texts(found) == ["breakzzzzzzz"]


@pytest.mark.parametrize(
    ("sampler", "letters"),
    [
        (TopKSampler(5), "abcde"),
        (TopPSampler(1, k=5), "abcde"),
        (ContrastiveSampler(5, 0.2), "abcde"),
        (BeamSampler(3), "a"),
    ],
)
def test_only_the_best_ids_are_ever_chosen(sampler: Sampler, letters: str) -> None:
    found = sampler(always(FALLING), prompt(rows=20), index=1, hidden_states=hidden(20))
    assert set("".join(texts(found[:, 1:]))) <= set(letters)


def test_equal_ids_share_the_probability_that_top_p_lets_through() -> None:
    logits = np.zeros(VOCAB)
    logits[:3] = 1.0
    found = TopPSampler(2 / VOCAB)(always(logits), prompt(rows=50))
    assert set("".join(texts(found))) <= set("abc")


@pytest.mark.parametrize("make", DRAWING)
def test_a_temperature_near_zero_leaves_no_choice(make: Callable[..., Sampler]) -> None:
    assert texts(make(temperature=1e-9)(always(FALLING), prompt(rows=3))) == ["a" * LENGTH] * 3
    warm = make(temperature=3.0)(always(FALLING), prompt(rows=30))
    assert len(set("".join(texts(warm)))) > 1


def test_all_beams_come_in_order_of_their_scores() -> None:
    sampler = BeamSampler(5, return_all_beams=True)
    rows, scores = sampler(always(FALLING), prompt(rows=2), index=3)
    assert (rows.shape, scores.shape) == ((2, 5, LENGTH), (2, 5))
    assert (scores[:, 1:] <= scores[:, :-1]).all()
    assert texts(rows[:, 0]) == ["zzz" + "a" * 9] * 2
    assert len(set(texts(rows[0]))) == 5  # no beam twice


def test_a_model_with_one_row_for_all_beams_is_an_error() -> None:
    def next(prompt: Any, cache: Any, index: int) -> tuple[Any, Any, Any]:
        return FALLING[None], None, cache

    with pytest.raises(ValueError, match=r"next: must return logits \[5, V\], got \[1, 26\]"):
        BeamSampler(5)(next, prompt())


def test_likeness_alone_decides_where_alpha_is_one() -> None:
    favourite = ids("h")[0]
    draw = np.random.default_rng(4)

    def next(prompt: Any, cache: Any, index: int) -> tuple[Any, Any, Any]:
        logits = np.ones((len(prompt), VOCAB)) + 1e9 * np.eye(VOCAB)[favourite]
        is_favourite = prompt[:, index - 1] == favourite  # whose states are like all before
        states = draw.uniform(size=(len(prompt), DIM))
        states[is_favourite] = 1
        return logits, states, cache

    states = hidden() + 1e-5
    greedy = ContrastiveSampler(5, 0.2)(next, prompt(), index=5, hidden_states=states)
    assert texts(greedy) == ["zzzzzhhhhhhh"]
    shy = ContrastiveSampler(5, 1.0)(next, prompt(), index=5, hidden_states=states)
    assert "h" not in texts(shy)[0]
