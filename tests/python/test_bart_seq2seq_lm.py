# SPDX-License-Identifier: Apache-2.0
"""BartSeq2SeqLM: from texts or ids to texts or ids, as KerasHub's tests ask for it."""

from typing import Any
from unittest.mock import patch

import keras_presets
import numpy as np
import pytest
from fuseq.models import BartSeq2SeqLM
from fuseq.samplers import BeamSampler, GreedySampler, TopKSampler
from tiny_tasks import PROMPTS, SOURCES, bart, ids_of, inputs_of

ONE = {"encoder_text": SOURCES[0], "decoder_text": PROMPTS[0]}


@pytest.fixture
def task() -> BartSeq2SeqLM:
    return bart()


def test_a_text_gives_a_text_and_a_list_gives_a_list(task: BartSeq2SeqLM) -> None:
    assert isinstance(task.generate(SOURCES[0]), str)
    for inputs in (SOURCES, tuple(SOURCES), np.array(SOURCES), {"encoder_text": SOURCES}):
        found = task.generate(inputs)
        assert isinstance(found, list)
        assert [type(text) for text in found] == [str] * 3
    assert isinstance(task.generate(SOURCES[:1]), list)
    assert task.generate([]) == []


def test_the_prompt_begins_the_text_unless_it_is_stripped(task: BartSeq2SeqLM) -> None:
    task.compile(sampler="greedy")
    whole = task.generate(ONE)
    assert isinstance(whole, str)
    assert whole.startswith(PROMPTS[0])
    assert len(whole) > len(PROMPTS[0])
    assert task.generate(ONE, strip_prompt=True) == whole.removeprefix(PROMPTS[0])
    batch = task.generate(inputs_of(task))
    assert batch[0] == whole
    for text, prompt in zip(batch, PROMPTS, strict=True):
        assert text.startswith(prompt)


def test_one_decoder_text_goes_with_all_sources(task: BartSeq2SeqLM) -> None:
    task.compile(sampler="greedy")
    found = task.generate({"encoder_text": SOURCES, "decoder_text": PROMPTS[0]})
    assert found == task.generate({"encoder_text": SOURCES, "decoder_text": [PROMPTS[0]] * 3})


def test_inputs_are_left_as_they_were(task: BartSeq2SeqLM) -> None:
    inputs: dict[str, Any] = dict(ONE)
    task.generate(inputs)
    assert inputs == ONE
    arrays, _, _ = ids_of(task)
    copies = {key: values.copy() for key, values in arrays.items()}
    task.generate(arrays)
    for key, values in copies.items():
        np.testing.assert_array_equal(arrays[key], values)


@pytest.mark.parametrize("has_preprocessor", [True, False])
def test_ids_give_ids_with_their_prompts_first(has_preprocessor: bool) -> None:
    task = bart()
    arrays, ids, mask = ids_of(task)
    if not has_preprocessor:
        task.preprocessor = None
    found = task.generate(arrays, stop_token_ids=None)
    assert found.keys() == {"decoder_token_ids", "decoder_padding_mask"}
    assert found["decoder_token_ids"].dtype == np.int32
    assert found["decoder_padding_mask"].dtype == np.bool_
    assert found["decoder_token_ids"].shape == ids.shape
    np.testing.assert_array_equal(found["decoder_token_ids"][mask], ids[mask])
    assert found["decoder_padding_mask"].all()  # nothing stops a row


def test_rows_are_padded_behind_their_stop_ids(task: BartSeq2SeqLM) -> None:
    task.compile(sampler="greedy")
    arrays, _, mask = ids_of(task)
    free = task.generate(arrays, stop_token_ids=None)["decoder_token_ids"]
    stop = int(free[0, mask[0].sum() + 1])
    found = task.generate(arrays, stop_token_ids=[stop])
    for row, alone, given, shown in zip(
        found["decoder_token_ids"], free, mask, found["decoder_padding_mask"], strict=True
    ):
        places = [at for at in np.flatnonzero(~given) if alone[at] == stop]
        end = places[0] + 1 if places else len(row)
        np.testing.assert_array_equal(row[:end], alone[:end])
        assert shown.tolist() == [True] * end + [False] * (len(row) - end)
        assert (row[end:] == 1).all()
    assert not found["decoder_padding_mask"][0].all()
    one = task.generate(arrays, stop_token_ids=stop)
    np.testing.assert_array_equal(one["decoder_token_ids"], found["decoder_token_ids"])


def test_texts_and_ids_tell_the_same(task: BartSeq2SeqLM) -> None:
    task.compile(sampler="greedy")
    texts = task.generate(inputs_of(task))
    arrays, _, _ = ids_of(task)
    assert task.preprocessor is not None
    assert task.preprocessor.generate_postprocess(task.generate(arrays)) == texts  # type: ignore[attr-defined]


def test_a_stop_id_in_the_prompt_stops_nothing(task: BartSeq2SeqLM) -> None:
    task.compile(sampler="greedy")
    source = {"encoder_token_ids": [[0, 86, 2]]}
    rows = {"decoder_token_ids": [[2, 0, 67, 2, 1, 1, 1]]}
    mask = {"decoder_padding_mask": [[1, 1, 1, 1, 0, 0, 0]]}
    found = task.generate({**source, **rows, **mask}, stop_token_ids=[2])
    assert found["decoder_token_ids"][0, :4].tolist() == [2, 0, 67, 2]
    assert found["decoder_padding_mask"].sum() > 4


@pytest.mark.parametrize("length", [3, 5, 13])
def test_max_length_counts_the_prompt_and_the_special_tokens(
    task: BartSeq2SeqLM, length: int
) -> None:
    task.compile(sampler="greedy")
    rows = task.generate(SOURCES, max_length=length, stop_token_ids=None, return_scores=True)
    assert [len(row.token_ids) for row in rows] == [length] * 3
    assert [row.token_ids[:2] for row in rows] == [[2, 0]] * 3


def test_no_room_for_new_ids_gives_the_prompt(task: BartSeq2SeqLM) -> None:
    assert task.generate(SOURCES, max_length=2) == ["", "", ""]
    with pytest.warns(UserWarning, match="prompts must be shorter than max_length 1 to be contin"):
        assert task.generate(SOURCES, max_length=1) == ["", "", ""]


@pytest.mark.parametrize("sampler", ["greedy", "beam", "top_k"])
def test_a_forced_first_id_takes_the_place_of_the_second_start_id(
    task: BartSeq2SeqLM, sampler: str
) -> None:
    assert task.preprocessor is not None
    whole = task.preprocessor.generate_preprocess(SOURCES)  # type: ignore[attr-defined]
    sources = {"encoder_token_ids": whole["encoder_token_ids"]}
    options: dict[str, Any] = {"sampler": sampler, "forced_bos_token_id": 90}
    rows = task.generate(SOURCES, return_scores=True, **options)
    assert [row.token_ids[:2] for row in rows] == [[2, 90]] * 3
    for arrays in (whole, sources):
        found = task.generate(arrays, **options)["decoder_token_ids"]
        assert found[:, :2].tolist() == [[2, 90]] * 3
    with patch.object(task, task.step_method, wraps=task.call_decoder_with_cache):
        assert (task.generate(whole, **options)["decoder_token_ids"][:, 1] == 90).all()
    assert task.generate(SOURCES[0], sampler="greedy") != task.generate(
        SOURCES[0], sampler="greedy", forced_bos_token_id=90
    )


def test_a_forced_first_id_and_a_row_that_has_begun_exclude_each_other(
    task: BartSeq2SeqLM,
) -> None:
    arrays, _, _ = ids_of(task)
    for inputs in (inputs_of(task), arrays, {"encoder_text": "fox", "decoder_text": " the"}):
        with pytest.raises(ValueError, match="forced_bos_token_id must come with rows that are th"):
            task.generate(inputs, forced_bos_token_id=90)
    assert isinstance(task.generate(ONE, forced_bos_token_id=-1), str)  # none is forced


def test_a_row_does_not_depend_on_its_company(task: BartSeq2SeqLM) -> None:
    task.compile(sampler="greedy")
    batch = task.generate(inputs_of(task))
    alone = [
        task.generate({"encoder_text": source, "decoder_text": prompt})
        for source, prompt in zip(SOURCES, PROMPTS, strict=True)
    ]
    assert batch == alone


@pytest.mark.parametrize("name", ["bart_032", "bart_017"])
def test_greedy_rows_are_those_of_keras_hub(name: str) -> None:
    task = BartSeq2SeqLM.from_preset(keras_presets.FOLDER / name, encoder_sequence_length=14)
    record = keras_presets.expected(name)["greedy"]
    task.compile(sampler="greedy")
    prompts, length = record["prompts"], record["max_length"]
    assert task.generate(prompts, max_length=length) == record["texts"]
    assert task.preprocessor is not None
    arrays = task.preprocessor.generate_preprocess(prompts, sequence_length=length)  # type: ignore[attr-defined]
    found = task.generate(arrays)["decoder_token_ids"]
    for row, expected in zip(found, record["ids"], strict=True):
        end = expected.index(2, 2) + 1 if 2 in expected[2:] else length
        assert row[:end].tolist() == expected[:end]


@pytest.mark.parametrize("sampler", ["beam", BeamSampler(3), {"class_name": "BeamSampler"}])
def test_beams_run(task: BartSeq2SeqLM, sampler: object) -> None:
    task.compile(sampler=sampler)
    assert isinstance(task.generate(SOURCES[0]), str)
    rows = task.generate(SOURCES, num_return_sequences=2, return_scores=True)
    assert [len(row) for row in rows] == [2, 2, 2]
    for best, second in rows:
        assert best.score >= second.score


def test_the_likeliest_of_many_beams_is_at_least_as_likely_as_the_greedy_row(
    task: BartSeq2SeqLM,
) -> None:
    options = {"return_scores": True, "stop_token_ids": None}
    greedy = task.generate(SOURCES, sampler=GreedySampler(), **options)
    beams = task.generate(SOURCES, sampler=BeamSampler(5, length_penalty=0.0), **options)
    for one, best in zip(greedy, beams, strict=True):
        assert best.score >= one.score - 1e-5


def test_the_generate_function_is_kept_until_compile(task: BartSeq2SeqLM) -> None:
    assert task.generate_function is None
    task.generate(SOURCES[0])
    first = task.generate_function
    assert first is not None
    task.generate(SOURCES[1])
    assert task.generate_function is first
    task.compile(sampler="greedy")
    assert task.generate_function is None
    assert task.make_generate_function() is task.make_generate_function()


def test_the_generate_function_takes_arrays(task: BartSeq2SeqLM) -> None:
    task.compile(sampler="greedy")
    arrays, _, _ = ids_of(task)
    expected = task.generate(arrays, stop_token_ids=[2])
    for found in (
        task.make_generate_function()(arrays, stop_token_ids=[2]),
        task.generate_step(arrays, [2]),
    ):
        for key, values in expected.items():
            np.testing.assert_array_equal(found[key], values)


def test_the_same_seed_gives_the_same_texts_after_each_compile(task: BartSeq2SeqLM) -> None:
    sampler = TopKSampler(20, seed=3)
    task.compile(sampler=sampler)
    calls = [task.generate(SOURCES) for _ in range(2)]
    assert calls[0] != calls[1]
    task.compile(sampler=sampler)
    assert [task.generate(SOURCES) for _ in range(2)] == calls


def test_sources_are_cut_to_the_length_of_the_call(task: BartSeq2SeqLM) -> None:
    task.compile(sampler="greedy")
    long = " fox" * 30  # 14 fit, with <s> and </s>

    def score(text: str, **options: int) -> float:
        return float(task.generate(text, return_scores=True, **options).score)

    assert score(long) == score(" fox" * 12)
    assert score(long, encoder_sequence_length=5) == score(" fox" * 3)
    assert score(long, encoder_sequence_length=5) != score(long)


def test_keys_and_types_that_do_not_fit_are_named(task: BartSeq2SeqLM) -> None:
    with pytest.raises(ValueError, match="inputs: must have 'encoder_text', got 'decoder_text'"):
        task.generate({"decoder_text": "a"})
    with pytest.raises(ValueError, match=r"inputs: must have keys of .* got 'text'"):
        task.generate({"text": "a", "encoder_text": "b"})
    with pytest.raises(ValueError, match="inputs: must have 'encoder_token_ids', got 'decoder_to"):
        task.generate({"decoder_token_ids": [[2]]})
    with pytest.raises(TypeError, match=r"inputs: must be text, .* got int"):
        task.generate(3)
    task.preprocessor = None
    with pytest.raises(ValueError, match="texts must come with a preprocessor, got none"):
        task.generate("fox", stop_token_ids=None)
    with pytest.raises(ValueError, match='"auto" needs a preprocessor or a preset that knows'):
        task.generate({"encoder_token_ids": [[0, 2]], "decoder_token_ids": [[2, 0, 1]]})


def test_scores_of_the_decoder_are_its_logits_and_losses(task: BartSeq2SeqLM) -> None:
    arrays, ids, mask = ids_of(task)
    logits = task.score(**arrays)
    np.testing.assert_array_equal(logits, task(arrays))
    losses = task.score(**arrays, scoring_mode="loss", target_ids=np.roll(ids, -1, 1))
    chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    wanted = -np.log(np.take_along_axis(chances, np.roll(ids, -1, 1)[..., None], -1)[..., 0])
    np.testing.assert_allclose(losses[mask], wanted[mask], atol=1e-4)
    assert (losses[~mask] == 0).all()
