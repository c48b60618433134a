# SPDX-License-Identifier: Apache-2.0
"""fuseq.samplers called with KerasHub's protocol."""

from collections.abc import Callable
from typing import Any

import fuseq
import numpy as np
import pytest
from fuseq.samplers import (
    BeamSampler,
    ContrastiveSampler,
    GreedySampler,
    MinPSampler,
    PresetSampler,
    RandomSampler,
    Sampler,
    TopKSampler,
    TopPSampler,
)
from table_models import (
    LENGTH,
    TABLE,
    VOCAB,
    Array,
    Second,
    call,
    engine_model,
    model,
    padded,
    plain_greedy,
)

BEST = [
    GreedySampler(),
    GreedySampler(temperature=0.5),
    TopKSampler(1),
    TopPSampler(1e-6),
    TopPSampler(1e-6, k=2),
    MinPSampler(1.0),
    RandomSampler(temperature=1e-9),
    BeamSampler(1),
    ContrastiveSampler(k=1),
    ContrastiveSampler(alpha=0),
    PresetSampler({}),
    PresetSampler({"max_length": 3}),  # the prompt's cells say how long rows are
]


@pytest.mark.parametrize("stop_ids", [None, [int(TABLE[2].argmax())], [5, 1, VOCAB + 3, -1]])
@pytest.mark.parametrize("sampler", BEST, ids=repr)
def test_samplers_without_a_choice_take_the_best_id(
    sampler: Sampler, stop_ids: list[int] | None
) -> None:
    prompts = [[2], [4, 1, 3], [6, 5]]
    rows, mask, index = padded(prompts)
    before = rows.copy()
    filled = sampler(model(TABLE), rows, index=index, mask=mask, stop_token_ids=stop_ids)
    assert (type(filled), filled.dtype) == (np.ndarray, np.int32)
    assert filled.tolist() == plain_greedy(TABLE, rows, mask, index, stop_ids or [])
    np.testing.assert_array_equal(rows, before)


def cycle(length: int) -> Array:
    """A table in which id n is followed by n + 1."""
    return np.roll(np.eye(length, dtype=np.float32), 1, axis=1) * 9


def test_the_loop_ends_with_the_last_row_and_leaves_what_follows() -> None:
    calls: list[int] = []
    filled = call(
        GreedySampler(), model(cycle(VOCAB), calls=calls), [[2], [1, 2, 3]], stop_token_ids=[4]
    )
    assert filled.tolist() == [[2, 3, 4] + [0] * 6, [1, 2, 3, 4] + [0] * 5]
    assert calls == [1, 2, 3]


def test_given_cells_stay_wherever_they_are_and_do_not_end_a_row() -> None:
    rows = np.array([[2, 0, 0, 5, 0, 0], [1, 0, 4, 0, 0, 5], [6, 5, 4, 3, 2, 1]])
    mask = np.array([[1, 0, 0, 1, 0, 0], [1, 0, 1, 0, 0, 1], [1, 1, 1, 1, 1, 1]], bool)
    expected = [[2, 3, 4, 5, 6, 0], [1, 2, 4, 5, 0, 5], [6, 5, 4, 3, 2, 1]]
    for sampler in (GreedySampler(), TopKSampler(1), ContrastiveSampler(2, 0.01)):
        hidden = {"hidden_states": np.ones((3, 6, 2))}
        states = np.ones((VOCAB, 2), np.float32)
        filled = sampler(
            model(cycle(VOCAB), states), rows, index=1, mask=mask, stop_token_ids=[5], **hidden
        )
        assert filled.tolist() == expected, sampler
    # Beams too, and the given cells cost nothing: the sum is that of the 4 free cells, all alike.
    found, scores = BeamSampler(2, True, length_penalty=0.0)(
        model(cycle(VOCAB)), rows[:1], index=1, mask=mask[:1], stop_token_ids=[5]
    )
    price = np.log(Sampler().compute_probabilities(cycle(VOCAB))[2, 3])
    assert found[0, 0].tolist() == expected[0]
    np.testing.assert_allclose(scores[0, 0], 4 * price, rtol=1e-3)


def test_the_first_cell_can_be_filled() -> None:
    seen: list[Array] = []

    def next(prompt: Array, cache: object, index: int) -> tuple[Array, None, object]:
        seen.append(prompt)
        return np.eye(VOCAB, dtype=np.float32)[[index + 1] * len(prompt)], None, cache

    for sampler in (GreedySampler(), BeamSampler(2)):
        assert sampler(next, np.zeros((2, 3), int)).tolist() == [[1, 2, 3]] * 2
    # What `next` was given before is not written to.
    assert [prompt[0].tolist() for prompt in seen[:3]] == [[0, 0, 0], [1, 0, 0], [1, 2, 0]]


def test_nothing_to_fill_calls_nothing() -> None:
    def next(prompt: Array, cache: object, index: int) -> Any:
        raise AssertionError

    rows = np.array([[1, 2, 3]])
    for sampler in (GreedySampler(), BeamSampler(2), ContrastiveSampler()):
        hidden = np.zeros((1, 3, 2))
        assert sampler(next, rows, index=3, hidden_states=hidden).tolist() == rows.tolist()
        filled = sampler(next, rows, mask=np.ones((1, 3)), hidden_states=hidden)
        assert filled.tolist() == rows.tolist()
    assert BeamSampler(2, True)(next, rows, index=3)[0].tolist() == [[[1, 2, 3]] * 2]


def test_torch_tensors_are_taken() -> None:
    torch = pytest.importorskip("torch")
    rows, mask, index = padded([[2], [4, 1, 3]])
    expected = plain_greedy(TABLE, rows, mask, index, [5])
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        table = torch.tensor(TABLE, requires_grad=True).to(dtype)

        def next(prompt: Array, cache: object, index: int, table: Any = table) -> Any:
            return table[torch.from_numpy(prompt[:, index - 1]).long()], None, cache

        filled = GreedySampler()(
            next,
            torch.from_numpy(rows),
            index=torch.tensor(index),
            mask=torch.from_numpy(mask),
            stop_token_ids=torch.tensor([5]),
        )
        assert filled.tolist() == expected


def test_wrong_calls_are_named() -> None:
    rows = np.zeros((2, 4), int)
    wrong: list[tuple[Sampler, dict[str, Any], str]] = [
        (GreedySampler(), {"prompt": rows[0]}, r"prompt: must be ids \[B, T\], got int64 \[4\]"),
        (GreedySampler(), {"prompt": rows * 0.5}, r"prompt: must be ids \[B, T\], got float64"),
        (GreedySampler(), {"mask": rows[:1] > 0}, r"mask: must have the prompt's shape \[2, 4\]"),
        (GreedySampler(), {"index": 5}, "index: must be in 0 ... 4, the prompt's cells, got 5"),
        (GreedySampler(), {"index": -1}, "index: must be in 0 ... 4, the prompt's cells, got -1"),
        (GreedySampler(), {"next": model(TABLE[:, 0])}, r"must return logits \[2, V\], got \[2\]"),
        (
            BeamSampler(3),
            {"next": lambda p, c, i: (TABLE[p[:2, 0]], None, c)},
            r"next: must return logits \[6, V\], got \[2, 7\]",
        ),
        (ContrastiveSampler(), {}, "ContrastiveSampler: hidden_states must be those of the prompt"),
        (ContrastiveSampler(), {"hidden_states": rows}, r"\[2, 4, 'D'\], got \[2, 4\]"),
        (
            ContrastiveSampler(2),
            {"hidden_states": np.zeros((2, 4, 3))},
            r"next: must return hidden states \[4, D\], got \[\]",
        ),
    ]
    for sampler, change, message in wrong:
        arguments = {"next": model(TABLE), "prompt": rows, "index": 1, **change}
        with pytest.raises(ValueError, match=message):
            sampler(**arguments)


# Draws.

DRAWING = [
    lambda seed: RandomSampler(seed),
    lambda seed: TopKSampler(4, seed),
    lambda seed: TopPSampler(0.9, None, seed),
    lambda seed: MinPSampler(0.05, seed),
]


@pytest.mark.parametrize("make", DRAWING)
def test_a_seed_repeats_a_sampler_which_itself_goes_on(
    make: Callable[[int | None], Sampler],
) -> None:
    prompts = [[2], [4, 1, 3], [6, 5]]
    next = model(TABLE / 4)
    sampler, twin, other = make(5), make(5), make(6)
    rows = [call(sampler, next, prompts).tolist() for _ in range(3)]
    assert rows == [call(twin, next, prompts).tolist() for _ in range(3)]
    assert rows[0] != rows[1]
    assert rows[0] != call(other, next, prompts).tolist()
    # The first row draws as the first sequence, alone too; calls of 3 rows take 3 each.
    assert call(make(5), next, prompts[:1]).tolist() == rows[0][:1]
    fresh = [call(make(None), next, prompts).tolist() for _ in range(3)]
    assert fresh[0] != fresh[1] or fresh[1] != fresh[2]


def test_draws_have_the_distribution_of_their_probabilities() -> None:
    wanted = Sampler(temperature=1.5).compute_probabilities(TABLE[2])
    rows = np.full((3000, 2), 2)
    filled = RandomSampler(8, temperature=1.5)(model(TABLE), rows, index=1)
    found = np.bincount(filled[:, 1], minlength=VOCAB) / len(rows)
    np.testing.assert_allclose(found, wanted, atol=4 * np.sqrt(0.25 / len(rows)))


# Samplers of users.


def test_a_users_choice_is_asked_for_the_running_rows_only() -> None:
    sizes = []

    class Recording(Second):
        def get_next_token(self, probabilities: Array) -> Array:
            assert probabilities.dtype == np.float32
            np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-5)
            sizes.append(len(probabilities))
            return super().get_next_token(probabilities)

    order = np.argsort(-TABLE, axis=-1)[:, 1]
    second = np.eye(VOCAB, dtype=np.float32)[order]  # its best are the second best of TABLE
    prompts = [[2], [4, 1, 3]]
    rows, mask, index = padded(prompts)
    whole = call(Recording(), model(TABLE), prompts)
    assert whole.tolist() == plain_greedy(second, rows, mask, index, [])
    assert sizes == [1, 1] + [2] * (LENGTH - 3)  # one call for both, once both run
    sizes.clear()
    stop = next(int(id) for id in whole[1, 3:] if id not in whole[0])
    filled = call(Recording(), model(TABLE), prompts, stop_token_ids=[stop])
    assert filled.tolist() == plain_greedy(second, rows, mask, index, [stop])
    end = 4 + whole[1, 3:].tolist().index(stop)
    assert sizes == [1, 1] + [2] * (end - 3) + [1] * (LENGTH - end)


def test_a_users_choice_neither_replaces_given_cells_nor_ends_a_row_there() -> None:
    class Ending(Sampler):
        def get_next_token(self, probabilities: Array) -> Array:
            return np.where(probabilities.max(-1) > 0.9999, 6, probabilities.argmax(-1))

    rows, mask = np.array([[0, 0, 3, 0]]), np.array([[True, False, True, False]])
    filled = Ending()(model(cycle(VOCAB) / 2), rows, index=1, mask=mask, stop_token_ids=[6])
    assert filled.tolist() == [[0, 1, 3, 4]]


class Uneven(TopKSampler):
    """Top k among the ids that are not even."""

    def get_next_token(self, probabilities: Array) -> Array:
        probabilities[:, ::2] = 0
        return super().get_next_token(probabilities)


class UnevenBest(GreedySampler):
    """The best of the ids that are not even."""

    def get_next_token(self, probabilities: Array) -> Array:
        probabilities[:, ::2] = 0
        return super().get_next_token(probabilities)


def test_a_class_may_build_on_another(gpt2_tiny: Any) -> None:
    sampler = Uneven(2, 11, temperature=2.0)
    fields = sampler.generation_fields()
    assert fields.keys() == {"sampler", "temperature"}
    found = set(call(sampler, model(TABLE), [[2]] * 40)[:, 1:].ravel().tolist())
    assert found == {1, 3, 5}
    assert call(Uneven(1, 11), model(TABLE), [[2]])[0, 1] == 1 + 2 * TABLE[2, 1::2].argmax()
    assert call(UnevenBest(), model(TABLE), [[2]])[0, 1] == 1 + 2 * TABLE[2, 1::2].argmax()
    options = fuseq.GenerationOptions(**fields, max_length=12, use_default_stop_ids=False)
    for (row,) in fuseq.generate(gpt2_tiny, [[3, 4], [5]], options):
        assert all(id % 2 for id in row.ids[row.prompt_length :])


def test_errors_of_users_reach_the_caller() -> None:
    class Failing(Sampler):
        def get_next_token(self, probabilities: Array) -> Array:
            raise KeyError("mine")

    class Short(Sampler):
        def get_next_token(self, probabilities: Array) -> Array:
            return np.zeros(1, int)

    with pytest.raises(KeyError, match="mine"):
        call(Failing(), model(TABLE), [[2]])
    with pytest.raises(ValueError, match="sampler: must return 2 ids, got 1"):
        call(Short(), model(TABLE), [[2], [3]])
    with pytest.raises(NotImplementedError):
        call(Sampler(), model(TABLE), [[2]])


# The engine's models.


@pytest.mark.parametrize(
    "make",
    [
        GreedySampler,
        lambda: BeamSampler(3),
        lambda: BeamSampler(4, length_penalty=2.0, early_stopping=True, temperature=0.7),
        lambda: RandomSampler(3),
        lambda: TopKSampler(4, 3, temperature=1.4),
        lambda: TopPSampler(0.8, 20, 3),
        lambda: MinPSampler(0.1, 3),
        lambda: PresetSampler({"repetition_penalty": 3.0, "no_repeat_ngram_size": 2}),
        Second,
    ],
)
def test_a_call_does_what_the_engine_does_with_the_fields(
    make: Callable[[], Sampler],
    gpt2_tiny: Any,
) -> None:
    prompts, length, stop_ids = [[3, 4], [7, 8, 9], [5, 3]], 10, [2, 11, 30]
    fields = make().generation_fields()
    seed, first = make().next_draws(len(prompts))
    options = fuseq.GenerationOptions(
        **fields,
        max_length=length,
        stop_token_ids=stop_ids,
        use_default_stop_ids=False,
        **({} if seed is None else {"seed": seed}),
    )
    expected = [rows[0].ids for rows in fuseq.generate(gpt2_tiny, prompts, options)]
    rows, mask, index = padded(prompts, length)
    filled = make()(engine_model(gpt2_tiny)[0], rows, None, index, mask, stop_ids)
    assert first == 0
    assert filled.tolist() == [ids + [0] * (length - len(ids)) for ids in expected]
