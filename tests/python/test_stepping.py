# SPDX-License-Identifier: Apache-2.0
"""Steps and samplers of users: what Python decides is what the engine would have decided."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from fuseq.models import BartSeq2SeqLM, CausalLM
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
from tiny_tasks import BART, bart, gpt2, ids_of, inputs_of

FAMILIES = [bart, gpt2]
SAMPLERS: list[Callable[[], Sampler]] = [
    GreedySampler,
    lambda: BeamSampler(3),
    lambda: BeamSampler(4, length_penalty=0.0, early_stopping=True, temperature=1.5),
    lambda: ContrastiveSampler(4, 0.6),
    lambda: ContrastiveSampler(3, 0.9, temperature=2.0),
    lambda: RandomSampler(3),
    lambda: RandomSampler(3, temperature=0.7),
    lambda: TopKSampler(4, 5),
    lambda: TopPSampler(0.8, seed=6),
    lambda: TopPSampler(0.6, 9, 6, temperature=2.0),
    lambda: MinPSampler(0.1, 7),
]


@pytest.fixture(scope="module", params=FAMILIES)
def task(request: pytest.FixtureRequest) -> CausalLM:
    made: CausalLM = request.param()
    return made


def stepping(task: CausalLM) -> AbstractContextManager[Any]:
    """The task with its step overridden by one that does the same."""
    step = getattr(task, task.step_method)
    return patch.object(task, task.step_method, wraps=step)


def stop_strings(task: CausalLM) -> list[str]:
    """What the best continuations have in them."""
    task.compile(sampler="greedy")
    texts = task.generate(inputs_of(task), stop_token_ids=None, strip_prompt=True)
    return [letter for letter in "".join(text[1:-1] for text in texts) if letter.isprintable()]


def both(task: CausalLM, make: Callable[[], Any], *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    """What the engine generates, and what the overridden step does."""
    task.compile(sampler=make())
    engine = task.generate(*args, **kwargs)
    task.compile(sampler=make())
    with stepping(task) as step:
        stepped = task.generate(*args, **kwargs)
        assert step.called
    return engine, stepped


@pytest.mark.parametrize("stop_token_ids", ["auto", None, [75, 82, 86, 260, 264]])
@pytest.mark.parametrize("make", SAMPLERS)
def test_an_overridden_step_changes_nothing_by_being_there(
    task: CausalLM,
    make: Callable[[], Sampler],
    stop_token_ids: Any,
) -> None:
    engine, stepped = both(task, make, inputs_of(task), stop_token_ids=stop_token_ids)
    assert stepped == engine
    assert len(set(engine)) == len(engine)


@pytest.mark.parametrize(
    "options",
    [{"stop_token_ids": [75, 82]}, {"max_new_tokens": 2}, {"max_new_tokens": 5}],
)
@pytest.mark.parametrize("make", SAMPLERS)
def test_arrays_of_ids_come_out_the_same(
    task: CausalLM, make: Callable[[], Sampler], options: dict[str, Any]
) -> None:
    arrays, _, _ = ids_of(task)
    engine, stepped = both(task, make, arrays, **options)
    assert engine.keys() == stepped.keys()
    for key, values in engine.items():
        np.testing.assert_array_equal(values, stepped[key])
        assert values.dtype == stepped[key].dtype


@pytest.mark.parametrize(
    "options",
    [
        {"max_length": 12},
        {"max_new_tokens": 5},
        {"min_new_tokens": 4, "stop_token_ids": [75, 82, 86, 260]},
        {"repetition_penalty": 3.0},
        {"no_repeat_ngram_size": 1},
        {"suppress_token_ids": [75, 82], "logit_bias": {70: 5.0}},
        {"forced_eos_token_id": 2, "stop_token_ids": [2]},
        {"stop_strings": [chr(code) for code in range(33, 80)]},
        {"strip_prompt": True},
        {"seed": 9},
        {"seed": [4, 5, 6]},
        {"num_return_sequences": 2},
        {"max_batch_size": 2},
    ],
)
@pytest.mark.parametrize("make", [lambda: TopKSampler(6, 2), lambda: BeamSampler(3)])
@pytest.mark.filterwarnings("error")
def test_options_of_the_call_are_heeded(
    task: CausalLM, make: Callable[[], Sampler], options: dict[str, Any]
) -> None:
    engine, stepped = both(task, make, inputs_of(task), **options)
    assert stepped == engine


@pytest.mark.parametrize("make", [lambda: TopKSampler(6, 2), lambda: BeamSampler(3)])
def test_a_step_sees_no_more_inputs_than_max_batch_size(
    task: CausalLM, make: Callable[[], Sampler]
) -> None:
    inputs = inputs_of(task)
    many = {key: texts * 12 for key, texts in inputs.items()} if isinstance(inputs, dict) else None
    sampler = make()
    width = getattr(sampler, "num_beams", 1)
    task.compile(sampler=make())
    engine = task.generate(many or inputs * 12)
    for size, most in ((None, 32 // width), (5, 5), (100, 36)):
        task.compile(sampler=make())
        with stepping(task) as step:
            assert task.generate(many or inputs * 12, max_batch_size=size) == engine
        ids = "decoder_token_ids" if task.backbone.is_seq2seq else "token_ids"
        rows = {len(call.kwargs[ids]) for call in step.call_args_list}
        assert max(rows) == most * width


def test_rows_without_a_prompt_begin_as_the_preset_says() -> None:
    arrays = {"encoder_token_ids": [[0, 86, 260, 2], [0, 67, 268, 2]]}
    reader = CausalLM.from_preset(BART)
    engine, stepped = both(reader, GreedySampler, arrays, max_new_tokens=4)
    for key, values in engine.items():
        np.testing.assert_array_equal(values, stepped[key])
    by_hand = bart()
    starts = by_hand.generate(arrays, max_new_tokens=4, sampler="greedy")["decoder_token_ids"]
    assert starts[:, :2].tolist() == [[2, 0], [2, 0]]  # as texts do
    by_hand.preprocessor = None  # now nothing says how rows begin, or end
    for context in (stepping(by_hand), nullcontext()):
        with context, pytest.raises(ValueError, match="decoder_ids: must not be empty for a"):
            by_hand.generate(arrays, stop_token_ids=[2])


def test_a_seeded_sampler_goes_on_from_call_to_call(task: CausalLM) -> None:
    task.compile(sampler=TopKSampler(8, 3))
    engine = [task.generate(inputs_of(task)) for _ in range(2)]
    task.compile(sampler=TopKSampler(8, 3))
    with stepping(task):
        stepped = [task.generate(inputs_of(task)) for _ in range(2)]
    assert stepped == engine
    assert engine[0] != engine[1]


def test_on_token_and_scores_need_the_engines_loop(task: CausalLM) -> None:
    task.compile(sampler="greedy")
    with stepping(task):
        with pytest.raises(ValueError, match="return_scores must come with the engine's own loop"):
            task.generate(inputs_of(task), return_scores=True)
        with pytest.raises(ValueError, match="on_token must come with the engine's own loop"):
            task.generate(inputs_of(task), on_token=lambda row, id, text: None)


def test_a_class_of_users_may_override_the_step(task: CausalLM) -> None:
    calls = []

    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(kwargs.keys())
        return getattr(type(task), task.step_method)(self, *args, **kwargs)

    kind = type("Mine", (type(task),), {task.step_method: step})
    mine = kind(task.backbone, task.preprocessor)
    for each in (task, mine):
        each.compile(sampler="greedy")
    assert mine.generate(inputs_of(task)) == task.generate(inputs_of(task))
    assert calls


def test_a_step_that_favours_the_end_gives_the_prompts_back(task: CausalLM) -> None:
    task.compile(sampler="top_k")
    step = getattr(task, task.step_method)
    assert task.preprocessor is not None
    end = task.preprocessor.end_id
    calls = []

    def ending(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        logits, *rest = step(*args, **kwargs)
        logits = np.array(logits)
        logits[..., end] = 1e9
        return logits, *rest

    inputs = inputs_of(task)
    prompts = inputs["decoder_text"] if isinstance(inputs, dict) else inputs
    with patch.object(task, task.step_method, wraps=ending):
        assert task.generate(inputs) == prompts
    steps = len(calls)
    assert task.generate(inputs) != prompts  # the step is the task's own again
    assert len(calls) == steps


# ---- samplers of users ----


class Third(Sampler):
    """Takes the third best id."""

    def get_next_token(self, probabilities: Any) -> Any:
        return np.argsort(-probabilities, axis=-1, kind="stable")[:, 2]


def greedy_loop(
    next: Any,
    prompt: Any,
    cache: Any = None,
    index: int = 0,
    mask: Any = None,
    stop_token_ids: Any = None,
    hidden_states: Any = None,
    model: Any = None,
) -> Any:
    """A sampler as a function, written as KerasHub's protocol has it."""
    assert isinstance(model, CausalLM)
    assert hidden_states.shape == (*prompt.shape, model.backbone.hidden_dim)
    prompt = prompt.copy()
    done = np.zeros(len(prompt), bool)
    for at in range(index, prompt.shape[1]):
        logits, _, cache = next(prompt, cache, at)
        best = np.asarray(logits).argmax(-1)
        given = mask[:, at]
        prompt[:, at] = np.where(given, prompt[:, at], best)
        done |= ~given & np.isin(prompt[:, at], stop_token_ids or [])
        if done.all():
            break
    return prompt


@pytest.mark.parametrize("stop_token_ids", ["auto", None, [75, 82, 86, 260, 264]])
def test_a_function_with_the_protocol_is_a_sampler(
    task: CausalLM,
    stop_token_ids: Any,
) -> None:
    task.compile(sampler="greedy")
    expected = task.generate(inputs_of(task), stop_token_ids=stop_token_ids)
    task.compile(sampler=greedy_loop)
    assert task.sampler is greedy_loop
    assert task.generate(inputs_of(task), stop_token_ids=stop_token_ids) == expected


def test_a_users_choice_is_the_same_in_both_loops(task: CausalLM) -> None:
    engine, stepped = both(task, Third, inputs_of(task), stop_token_ids=[75, 82])
    assert stepped == engine
    task.compile(sampler="greedy")
    assert engine != task.generate(inputs_of(task), stop_token_ids=[75, 82])


def test_a_sampler_of_users_may_override_the_whole_call(task: CausalLM) -> None:
    class Looping(Sampler):
        def __call__(self, **call: Any) -> Any:  # type: ignore[override]
            return greedy_loop(**call)

    task.compile(sampler="greedy")
    expected = task.generate(inputs_of(task))
    assert task.generate(inputs_of(task), sampler=Looping()) == expected


def test_a_sampler_that_fills_rows_itself_knows_nothing_of_the_engines_options(
    task: CausalLM,
) -> None:
    task.compile(sampler=greedy_loop)
    with pytest.raises(ValueError, match="repetition_penalty must come without a sampler that fil"):
        task.generate(inputs_of(task), repetition_penalty=1.5)
    whole = task.generate(inputs_of(task), strip_prompt=True, stop_token_ids=None)
    short = task.generate(inputs_of(task), strip_prompt=True, stop_token_ids=None, max_new_tokens=2)
    for all_new, two in zip(whole, short, strict=True):
        assert all_new.startswith(two)


class Uneven(TopKSampler):
    """Top k among the ids that are not even."""

    def get_next_token(self, probabilities: Any) -> Any:
        probabilities[:, ::2] = 0
        return super().get_next_token(probabilities)


class Warm(TopKSampler):
    """Top k of flatter probabilities."""

    def compute_probabilities(self, logits: Any) -> Any:
        return super().compute_probabilities(np.asarray(logits) / 9)


@pytest.mark.parametrize("sampler", [Uneven(20), Uneven(20, 3), Warm(20)])
def test_a_seed_of_the_call_reaches_a_choice_in_python(task: CausalLM, sampler: Sampler) -> None:
    def texts(seed: int) -> Any:
        return task.generate(inputs_of(task), sampler=sampler, seed=seed, stop_token_ids=None)

    for context in (nullcontext(), stepping(task)):
        with context:
            first = texts(5)
            assert texts(5) == first
            assert texts(6) != first
    with pytest.raises(ValueError, match=r"seed must be one number for a sampler.*a list of 3"):
        task.generate(inputs_of(task), sampler=sampler, seed=[1, 2, 3])


def test_a_sampler_that_fills_rows_itself_has_no_use_for_a_seed(task: CausalLM) -> None:
    class Looping(TopKSampler):
        def __call__(self, **call: Any) -> Any:  # type: ignore[override]
            return greedy_loop(**call)

    assert isinstance(task.generate(inputs_of(task), sampler=Looping(seed=3)), list)
    for sampler in (greedy_loop, Looping(seed=3)):
        for seed in (0, [1, 2, 3]):
            with pytest.raises(ValueError, match="seed must come without a sampler that fills row"):
                task.generate(inputs_of(task), sampler=sampler, seed=seed)


def test_a_sampler_that_returns_another_shape_is_told_so(task: CausalLM) -> None:
    task.compile(sampler=lambda prompt, **call: prompt[:, :3])
    with pytest.raises(ValueError, match=r"sampler: must return ids \[3, 13\], got .*\[3, 3\]"):
        task.generate(inputs_of(task))


# ---- caches ----


def test_an_encoder_of_users_is_what_the_decoder_attends_to() -> None:
    task = bart()
    task.compile(sampler="greedy")
    inputs = inputs_of(task)
    plain = task.generate(inputs)
    encode = task.call_encoder
    with patch.object(task, "call_encoder", wraps=encode) as mock:
        assert task.generate(inputs) == plain
        assert mock.call_count == 1
    with patch.object(task, "call_encoder", wraps=lambda **call: 0 * encode(**call)):
        assert task.generate(inputs) != plain


def test_cached_steps_equal_the_whole_forward_pass_of_gpt2() -> None:
    task = gpt2()
    arrays, ids, mask = ids_of(task)
    whole, hidden = task(arrays), task.backbone(arrays)
    rows, width = ids.shape
    cache: Any = None
    logits, states, cache = task.call_with_cache(ids[:, :2], np.zeros((rows, 2, 2, width, 2, 8)), 0)
    found, found_states = [logits], [states]
    for at in range(2, width):
        kept = cache.copy()
        logits, states, after = task.call_with_cache(ids[:, at : at + 1], cache, at)
        np.testing.assert_array_equal(cache, kept)  # a cache that was given is not changed
        cache = after
        found.append(logits)
        found_states.append(states)
    np.testing.assert_allclose(np.concatenate(found, 1)[mask], whole[mask], atol=1e-4)
    np.testing.assert_allclose(np.concatenate(found_states, 1)[mask], hidden[mask], atol=1e-4)


def decode(task: BartSeq2SeqLM, arrays: dict[str, Any], *, keeps_cross: bool) -> Any:
    """Logits of all cells, one after the other."""
    mask = arrays["encoder_padding_mask"]
    states = task.call_encoder(arrays["encoder_token_ids"], mask)
    ids = arrays["decoder_token_ids"]
    rows, width = ids.shape
    cache: Any = np.zeros((rows, 2, 2, width, 2, 8), np.float32)
    cross: Any = None
    found = []
    for at in range(width):
        first = cross is None or not keeps_cross
        logits, hidden, cache, cross = task.call_decoder_with_cache(
            states,
            mask,
            ids[:, at : at + 1],
            cache,
            at,
            np.zeros((rows, 2, 2, mask.shape[1], 2, 8), np.float32) if first else cross,
            0 if first else None,
        )
        assert hidden.shape == (rows, 1, 16)
        found.append(logits)
    return np.concatenate(found, 1)


def test_stop_strings_end_arrays_too(task: CausalLM) -> None:
    arrays, _, _ = ids_of(task)
    stops = stop_strings(task)
    engine, stepped = both(task, GreedySampler, arrays, stop_token_ids=None, stop_strings=stops)
    for key, values in engine.items():
        np.testing.assert_array_equal(values, stepped[key])
    assert not engine[task.keys.masks[-1]].all()


@pytest.mark.parametrize("keeps_cross", [True, False])
def test_cached_steps_equal_the_whole_forward_pass_of_bart(keeps_cross: bool) -> None:
    task = bart()
    arrays, _, mask = ids_of(task)
    whole = task(arrays)
    found = decode(task, arrays, keeps_cross=keeps_cross)
    np.testing.assert_allclose(found[mask], whole[mask], atol=1e-4)


def test_a_decoder_without_caches_computes_all_cells_at_once() -> None:
    task = bart()
    arrays, ids, mask = ids_of(task)
    states = task.call_encoder(arrays["encoder_token_ids"], arrays["encoder_padding_mask"])
    logits, hidden, cache, cross = task.call_decoder_with_cache(
        states, arrays["encoder_padding_mask"], ids
    )
    assert cache is None
    assert cross is not None
    assert cross.shape == (3, 2, 2, 14, 2, 8)
    np.testing.assert_allclose(logits[mask], task(arrays)[mask], atol=1e-4)
    expected = task.backbone(arrays)
    assert isinstance(expected, dict)
    np.testing.assert_allclose(hidden[mask], expected["decoder_sequence_output"][mask], atol=1e-4)


def test_shapes_of_steps_that_do_not_fit_are_named() -> None:
    writer, reader = gpt2(), bart()
    ids, cache = np.array([[3, 4]]), np.zeros((1, 2, 2, 5, 2, 8), np.float32)
    with pytest.raises(ValueError, match=r"token_ids: must be whole numbers \[B, T\], got float"):
        writer.call_with_cache(ids / 2, cache, 0)
    with pytest.raises(ValueError, match=r"token_ids: must be whole numbers \[B, T\], got .*\[2\]"):
        writer.call_with_cache(ids[0], cache, 0)
    with pytest.raises(ValueError, match=r"cache: must have shape \[1, 2, 2, 5, 2, 8\], got"):
        writer.call_with_cache(ids, cache[:, :1], 0)
    with pytest.raises(ValueError, match="cache_update_index: must leave room for 2 ids in 5 cell"):
        writer.call_with_cache(ids, cache, 4)
    states = reader.call_encoder(ids)
    with pytest.raises(ValueError, match=r"encoder_hidden_states: must have shape \[1, S, D\]"):
        reader.call_decoder_with_cache(states[0], None, ids)
    with pytest.raises(ValueError, match=r"encoder_padding_mask: must have shape \[1, 2\], got"):
        reader.call_decoder_with_cache(states, np.ones((1, 3)), ids)
