# SPDX-License-Identifier: Apache-2.0
"""Beam and contrastive search by KerasHub's protocol, and the cases recorded from KerasHub."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import fuseq
import numpy as np
import pytest
from fuseq import samplers
from fuseq.samplers import (
    BeamSampler,
    ContrastiveSampler,
    GreedySampler,
    Sampler,
)
from table_models import (
    LENGTH,
    STATES,
    TABLE,
    VOCAB,
    Array,
    Second,
    engine_model,
    model,
    padded,
    plain_greedy,
)

# The cases of KerasHub: what it does right is done alike, its faults are not.


def recorded(golden: Path, name: str) -> dict[str, Any]:
    return dict(json.loads((golden / "keras_hub" / f"{name}.json").read_text()))


def sampler_of(fields: dict[str, Any]) -> Sampler:
    return samplers.get(fields["name"]).from_config(
        {name: value for name, value in fields.items() if name != "name"}
    )


def test_calls_do_what_those_of_keras_hub_do(golden: Path) -> None:
    data = recorded(golden, "protocol")
    states = np.float32(data["hidden_states"])
    num_alike = 0
    for case in data["cases"]:
        table = np.float32(data["tables"][case["table"]])
        rows, stops = np.array(case["prompts"]), case["stop_ids"] or []
        mask = np.zeros(rows.shape, bool) if case["mask"] is None else np.array(case["mask"])
        filled = sampler_of(case["sampler"])(
            model(table, states[: len(table)]),
            rows,
            index=case["index"],
            mask=None if case["mask"] is None else mask,
            stop_token_ids=case["stop_ids"],
            hidden_states=states[rows],
        ).tolist()
        if case["sampler"]["name"] != "contrastive":
            assert filled == plain_greedy(table, rows, mask, case["index"], stops), case
        if np.isin(rows[~mask], stops).any():  # there, KerasHub takes cells to be filled as stops
            assert case["output"] == case["prompts"]
            assert filled != case["prompts"] or case["index"] == rows.shape[1], case
            continue
        num_alike += 1
        for row, expected in enumerate(case["output"]):  # KerasHub goes on after a stop id
            free = [at for at in range(case["index"], len(expected)) if not mask[row, at]]
            ends = [at + 1 for at in free if expected[at] in stops] or [len(expected)]
            whole = (
                expected[: ends[0]]
                + [
                    new if mask[row, at] else old
                    for at, (old, new) in enumerate(
                        zip(case["prompts"][row], expected, strict=True)
                    )
                ][ends[0] :]
            )
            assert filled[row] == whole, case
    assert num_alike > 20


def test_beams_are_right_where_those_of_keras_hub_are_not(golden: Path) -> None:
    data = recorded(golden, "beam_faults")
    num_wrong = 0
    for case in data["cases"]:
        table = np.float32(data["tables"][case["table"]])
        sampler = BeamSampler(case["num_beams"], True, length_penalty=0.0)
        rows, scores = sampler(
            model(table),
            case["prompts"],
            index=case["index"],
            mask=case["mask"],
            stop_token_ids=case["stop_ids"],
        )
        if case["fault"] == "end":
            num_wrong += case["top"][0][:3] != case["best"][0]["ids"]
            for row, best in enumerate(case["best"]):
                ids = best["ids"] + case["prompts"][row][len(best["ids"]) :]
                assert rows[row, 0].tolist() == ids
                assert scores[row, 0] == pytest.approx(best["score"], abs=1e-4)
        else:
            num_wrong += case["beams"] != rows.tolist()
            for row, alone in enumerate(case["alone"]):
                assert rows[row].tolist() == alone["beams"][0], case
                assert scores[row].tolist() == pytest.approx(alone["scores"][0], abs=1e-4)
                assert len({tuple(beam) for beam in rows[row].tolist()}) == case["num_beams"]
    assert num_wrong > 4


# Beams.


def hypotheses(row: list[int], length: int, stop_id: int) -> list[tuple[float, list[int]]]:
    """All ways on from a row, by the sum of their log-probabilities."""
    if len(row) == length:
        return [(0.0, row)]
    found = []
    for token, price in enumerate(np.log(Sampler().compute_probabilities(TABLE[row[-1]]))):
        ends = token == stop_id
        more = [(0.0, [*row, token])] if ends else hypotheses([*row, token], length, stop_id)
        found += [(float(price) + rest, whole) for rest, whole in more]
    return found


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
def test_enough_beams_find_the_best_of_all_hypotheses_in_order(penalty: float) -> None:
    length, beams, stop_id, prompt = 5, 300, 5, [2, 4]
    found = hypotheses(prompt, length, stop_id)
    ranked = sorted(
        ((score / (len(ids) - len(prompt)) ** penalty, ids) for score, ids in found), reverse=True
    )
    rows, scores = BeamSampler(beams, True, length_penalty=penalty, early_stopping="never")(
        model(TABLE), [[*prompt, 0, 0, 0]], index=2, stop_token_ids=[stop_id]
    )
    for place, (score, ids) in enumerate(ranked[:20]):
        assert rows[0, place].tolist() == ids + [0] * (length - len(ids))
        assert scores[0, place] == pytest.approx(score, abs=1e-5)
    assert (np.diff(scores[0]) <= 0).all()
    best = BeamSampler(beams, length_penalty=penalty, early_stopping="never")(
        model(TABLE), [[*prompt, 0, 0, 0]], index=2, stop_token_ids=[stop_id]
    )
    assert best.tolist() == [ranked[0][1] + [0] * (length - len(ranked[0][1]))]


def test_one_beam_is_the_greedy_row_with_its_score() -> None:
    rows, scores = BeamSampler(1, True, length_penalty=2.0)(
        model(TABLE), [[2] + [0] * 3], index=1, stop_token_ids=[]
    )
    greedy = GreedySampler()(model(TABLE), [[2] + [0] * 3], index=1)
    log_probs = np.log(Sampler().compute_probabilities(TABLE))
    assert rows.tolist() == [greedy.tolist()]
    assert scores.shape == (1, 1)
    wanted = sum(log_probs[old, new] for old, new in zip(greedy[0], greedy[0, 1:], strict=False))
    assert scores[0, 0] == pytest.approx(wanted / 3**2, rel=1e-4)


class Pair(NamedTuple):
    """A cache of two parts."""

    rows: object
    nothing: object


def test_caches_follow_the_beams_they_belong_to() -> None:
    seen: list[Array] = []

    def next(prompt: Array, cache: Any, index: int) -> Any:
        pair, (deep, count) = cache["pair"], cache["list"]
        for history in (pair.rows, deep[:, 0]):
            np.testing.assert_array_equal(history[:, : index - 1], prompt[:, : index - 1])
        assert pair.nothing is None
        assert count == 7
        history = np.array(pair.rows)
        seen.append(prompt)
        history[:, index - 1] = prompt[:, index - 1]
        return (
            TABLE[prompt[:, index - 1]],
            STATES[prompt[:, index - 1]],
            {
                "pair": Pair(history, None),
                "list": [history[:, None].copy(), count],
            },
        )

    rows, mask, index = padded([[2, 5], [4, 1, 3], [6, 5]])
    history = np.where(np.arange(LENGTH) < index - 1, rows, 0)
    for sampler in (GreedySampler(), BeamSampler(4), ContrastiveSampler(3)):
        sampler(
            next,
            rows,
            {"pair": Pair(history, None), "list": [history[:, None], 7]},
            index,
            mask,
            [int(TABLE[3].argmax())],
            hidden_states=STATES[rows],
        )
    beams = [prompt for prompt in seen if len(prompt) == 4 * len(rows)]
    pairs = itertools.pairwise(beams)
    assert any((new != old)[:, index : index + at].any() for at, (old, new) in enumerate(pairs))


def test_torch_caches_follow_too() -> None:
    torch = pytest.importorskip("torch")

    def next(prompt: Array, cache: Any, index: int) -> Any:
        assert cache[:, : index - 1].tolist() == prompt[:, : index - 1].tolist()
        cache = cache.clone()
        cache[:, index - 1] = torch.from_numpy(prompt[:, index - 1])
        return TABLE[prompt[:, index - 1]], None, cache

    rows, mask, index = padded([[2], [4, 1, 3]])
    cache = torch.zeros(2, LENGTH, dtype=torch.int32)
    expected = BeamSampler(3)(model(TABLE), rows, index=index, mask=mask).tolist()
    assert BeamSampler(3)(next, rows, cache, index, mask).tolist() == expected


@pytest.mark.parametrize(
    "make",
    [
        GreedySampler,
        lambda: BeamSampler(3),
        lambda: ContrastiveSampler(3, 0.7),
        Second,
    ],
)
def test_a_row_does_not_depend_on_its_company(make: Callable[[], Sampler]) -> None:
    prompts = [[2, 3], [4, 1, 3], [6], [5, 5, 5, 5]]
    next = model(TABLE, STATES)
    rows, mask, index = padded(prompts)
    together = make()(next, rows, None, index, mask, [1], STATES[rows]).tolist()
    for prompt, row in zip(prompts, together, strict=True):
        rows, mask, index = padded([prompt])
        assert make()(next, rows, None, index, mask, [1], STATES[rows]).tolist() == [row]


# Contrastive search.


def plain_contrastive(sampler: ContrastiveSampler, row: list[int], length: int) -> list[int]:
    """One row, id by id."""
    while len(row) < length:
        probabilities = Sampler(sampler.temperature).compute_probabilities(TABLE[row[-1]])
        scored = []
        for token in np.argsort(-probabilities)[: sampler.k].tolist():
            like = max(
                float(STATES[token] @ STATES[old])
                / float(np.linalg.norm(STATES[token]) * np.linalg.norm(STATES[old]))
                for old in row
            )
            value = (1 - sampler.alpha) * float(probabilities[token]) - sampler.alpha * like
            scored.append((value, token))
        row = [*row, max(scored)[1]]
    return row


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize(("k", "alpha"), [(2, 0.5), (4, 0.6), (VOCAB, 0.2), (VOCAB + 5, 0.9)])
def test_contrastive_search_equals_a_plain_loop(k: int, alpha: float, temperature: float) -> None:
    sampler = ContrastiveSampler(k, alpha, temperature=temperature)
    prompts = [[2], [4, 1, 3], [6, 5]]
    rows, mask, index = padded(prompts)
    calls: list[int] = []
    filled = sampler(
        model(TABLE, STATES, calls), rows, index=index, mask=mask, hidden_states=STATES[rows]
    )
    assert filled.tolist() == [plain_contrastive(sampler, prompt, LENGTH) for prompt in prompts]
    assert calls == list(range(index, LENGTH + 1))
    calls.clear()
    stop = int(filled[0, 4])
    stopped = sampler(
        model(TABLE, STATES, calls), rows, None, index, mask, [stop], hidden_states=STATES[rows]
    )
    ends = []
    for row, whole, prompt in zip(stopped.tolist(), filled.tolist(), prompts, strict=True):
        end = next((at + 1 for at in range(len(prompt), LENGTH) if whole[at] == stop), LENGTH)
        assert row == whole[:end] + [0] * (LENGTH - end)
        ends.append(end)
    assert calls == list(range(index, max(ends) + 1))


def test_states_of_length_zero_are_like_nothing() -> None:
    table = np.tile(np.float32([[0, 1, 2]]), (3, 1))
    states = np.float32([[1, 0], [-1, 0], [0, 0]])  # 1 is the opposite of 0, 2 is nothing
    rows = np.array([[0, 0, 0]])
    filled = ContrastiveSampler(3, 1.0)(
        model(table, states), rows, index=1, hidden_states=states[rows]
    )
    assert filled.tolist() == [[0, 1, 2]]


def test_contrastive_calls_do_what_keras_hub_does_with_a_model(golden: Path) -> None:
    cases = [case for case in recorded(golden, "contrastive")["cases"] if case["model"] == "gpt2"]
    engine = fuseq.load_model(golden / "keras_hub" / "gpt2", num_threads=1)
    next, states_of = engine_model(engine)
    assert len(cases) > 5
    for case in cases:
        sampler = ContrastiveSampler(case["k"], case["alpha"], temperature=case["temperature"])
        rows, mask, index = padded([case["decoder_ids"]], case["max_length"], 1)
        filled = sampler(
            next, rows, None, index, mask, case["stop_ids"], hidden_states=states_of(rows)
        )
        assert filled[0, : len(case["ids"])].tolist() == case["ids"], case
