# SPDX-License-Identifier: Apache-2.0
"""GPT2CausalLM: from texts or ids to texts or ids, and scores, as KerasHub's tests ask for it."""

import keras_presets
import numpy as np
import pytest
from fuseq.models import GPT2CausalLM
from tiny_tasks import PROMPTS, gpt2, ids_of


@pytest.fixture
def task() -> GPT2CausalLM:
    return gpt2()


def test_a_text_gives_a_text_that_begins_with_it(task: GPT2CausalLM) -> None:
    found = task.generate(PROMPTS[0])
    assert isinstance(found, str)
    assert found.startswith(PROMPTS[0])
    for inputs in (PROMPTS, tuple(PROMPTS), np.array(PROMPTS), {"text": PROMPTS}):
        texts = task.generate(inputs)
        assert isinstance(texts, list)
        for text, prompt in zip(texts, PROMPTS, strict=True):
            assert text.startswith(prompt)


def test_only_new_text_is_left_of_a_stripped_prompt(task: GPT2CausalLM) -> None:
    task.compile(sampler="greedy")
    whole = task.generate(PROMPTS)
    new = task.generate(PROMPTS, strip_prompt=True)
    for text, end, prompt in zip(whole, new, PROMPTS, strict=True):
        assert text == prompt + end
        assert end


@pytest.mark.parametrize("has_preprocessor", [True, False])
def test_ids_give_ids_with_their_prompts_first(has_preprocessor: bool) -> None:
    task = gpt2()
    arrays, ids, mask = ids_of(task)
    if not has_preprocessor:
        task.preprocessor = None
    found = task.generate(arrays, stop_token_ids=None)
    assert found.keys() == {"token_ids", "padding_mask"}
    assert (found["token_ids"].dtype, found["padding_mask"].dtype) == (np.int32, np.bool_)
    assert found["token_ids"].shape == ids.shape
    np.testing.assert_array_equal(found["token_ids"][mask], ids[mask])
    assert found["padding_mask"].all()


def test_rows_are_padded_behind_their_stop_ids(task: GPT2CausalLM) -> None:
    task.compile(sampler="greedy")
    arrays, _, mask = ids_of(task)
    free = task.generate(arrays, stop_token_ids=None)["token_ids"]
    start = int(mask[0].sum())
    stop = int(free[0, start + 1])
    end = start + free[0, start:].tolist().index(stop) + 1
    found = task.generate(arrays, stop_token_ids=(stop,))
    assert found["token_ids"][0].tolist() == free[0, :end].tolist() + [0] * (free.shape[1] - end)
    assert found["padding_mask"][0].tolist() == [True] * end + [False] * (free.shape[1] - end)


def test_a_stripped_prompt_leaves_the_new_ids_on_the_left(task: GPT2CausalLM) -> None:
    task.compile(sampler="greedy")
    arrays, _, mask = ids_of(task)
    whole = task.generate(arrays, stop_token_ids=None)["token_ids"]
    found = task.generate(arrays, stop_token_ids=None, strip_prompt=True)
    for row, shown, all_ids, given in zip(
        found["token_ids"], found["padding_mask"], whole, mask, strict=True
    ):
        count = int(given.sum())
        np.testing.assert_array_equal(row[shown], all_ids[count:])
        assert shown.tolist() == [True] * (len(row) - count) + [False] * count


def test_max_length_counts_the_prompt(task: GPT2CausalLM) -> None:
    task.compile(sampler="greedy")
    for length in (11, 13):
        rows = task.generate(PROMPTS, max_length=length, stop_token_ids=None, return_scores=True)
        assert [len(row.token_ids) for row in rows] == [length] * 3
    assert task.preprocessor is not None
    assert task.preprocessor.sequence_length == 13
    shorter = task.generate(PROMPTS[0], max_new_tokens=1, stop_token_ids=None)
    assert task.generate(PROMPTS[0], stop_token_ids=None).startswith(shorter)


def test_a_prompt_that_fills_the_row_is_cut_with_a_warning(task: GPT2CausalLM) -> None:
    with pytest.warns(UserWarning, match="prompts must be shorter than max_length 3 to be contin"):
        assert task.generate(" fox fox fox fox", max_length=3) == " fox fox"


def test_the_default_length_is_the_preprocessors(task: GPT2CausalLM) -> None:
    task.compile(sampler="greedy")
    assert task.preprocessor is not None
    task.preprocessor.sequence_length = 12
    row = task.generate(PROMPTS[0], stop_token_ids=None, return_scores=True)
    assert len(row.token_ids) == 12
    task.preprocessor.sequence_length = 1000  # the model has 20 positions
    row = task.generate(PROMPTS[0], stop_token_ids=None, return_scores=True)
    assert len(row.token_ids) == 20


@pytest.mark.parametrize("name", ["gpt2_032", "gpt2_017", "gpt2_032_sharded"])
def test_greedy_rows_are_those_of_keras_hub(name: str) -> None:
    task = GPT2CausalLM.from_preset(keras_presets.FOLDER / name)
    record = keras_presets.expected(name)["greedy"]
    task.compile(sampler="greedy")
    prompts, length = record["prompts"], record["max_length"]
    assert task.generate(prompts, max_length=length) == record["texts"]
    assert task.preprocessor is not None
    arrays = task.preprocessor.generate_preprocess(prompts, sequence_length=length)  # type: ignore[attr-defined]
    found = task.generate(arrays)["token_ids"]
    for row, expected in zip(found, record["ids"], strict=True):
        end = expected.index(267, 1) + 1 if 267 in expected[1:] else length
        assert row[:end].tolist() == expected[:end]


def test_the_generate_function_is_kept_until_compile(task: GPT2CausalLM) -> None:
    task.generate(PROMPTS[0])
    first = task.generate_function
    assert first is not None
    task.generate(PROMPTS[1])
    assert task.generate_function is first
    task.compile(sampler="greedy")
    assert task.generate_function is None


# ---- scores ----


def test_logits_of_rows_are_what_the_task_computes(task: GPT2CausalLM) -> None:
    arrays, ids, mask = ids_of(task)
    logits = task.score(**arrays)
    assert logits.shape == (*ids.shape, task.backbone.vocabulary_size)
    assert logits.dtype == np.float32
    np.testing.assert_array_equal(logits, task(arrays))
    assert (logits[~mask] == 0).all()
    without = task.score(token_ids=ids)
    np.testing.assert_allclose(without[mask], logits[mask], atol=1e-5)  # causal: no row looks on


@pytest.mark.parametrize("name", ["gpt2_032", "gpt2_017"])
def test_scores_are_those_of_keras_hub(name: str) -> None:
    task = GPT2CausalLM.from_preset(keras_presets.FOLDER / name)
    record = keras_presets.expected(name)
    for row, expected in zip(record["rows"]["decoder"], record["logits"], strict=True):
        logits = task.score([row])[0, :, :: record["every"]]
        np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_losses_are_the_cross_entropy_of_the_targets(task: GPT2CausalLM) -> None:
    arrays, ids, mask = ids_of(task)
    targets = np.roll(ids, -1, axis=1)
    losses = task.score(**arrays, scoring_mode="loss", target_ids=targets)
    assert losses.shape == ids.shape
    logits = task.score(**arrays)
    chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    wanted = -np.log(np.take_along_axis(chances, targets[..., None], -1)[..., 0])
    np.testing.assert_allclose(losses[mask], wanted[mask], atol=1e-4)
    assert (losses[~mask] == 0).all()


def test_scores_of_new_ids_are_the_logarithms_of_their_chances(task: GPT2CausalLM) -> None:
    task.compile(sampler="greedy")
    arrays, _, mask = ids_of(task)
    found = task.generate(arrays, stop_token_ids=None, return_scores=True)
    ids = found["token_ids"]
    losses = task.score(ids, scoring_mode="loss", target_ids=np.roll(ids, -1, axis=1))
    new = ~mask[:, 1:]
    np.testing.assert_allclose(
        found["token_log_probs"][:, 1:][new], -losses[:, :-1][new], atol=1e-4
    )


def test_wrong_arguments_of_score_are_named(task: GPT2CausalLM) -> None:
    ids = np.array([[3, 4, 5]])
    with pytest.raises(ValueError, match='scoring_mode must be "logits" or "loss", got \'sum\''):
        task.score(ids, scoring_mode="sum")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match='scoring_mode="loss" must come with target_ids, got None'):
        task.score(ids, scoring_mode="loss")
    with pytest.raises(ValueError, match=r"target_ids must have shape \[1, 3\], got \[1, 2\]"):
        task.score(ids, scoring_mode="loss", target_ids=ids[:, 1:])
    with pytest.raises(ValueError, match=r"target_ids must be in 0 \.\.\. 267"):
        task.score(ids, scoring_mode="loss", target_ids=ids + 300)
    with pytest.raises(ValueError, match="layer_intercept_fn must be None, got a function"):
        task.score(ids, layer_intercept_fn=lambda x, i: x)
