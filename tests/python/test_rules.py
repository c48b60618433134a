# SPDX-License-Identifier: Apache-2.0
"""Which rule holds for rows: the design's table, for KerasHub's presets and transformers'.

Recorded results are the word of KerasHub, transformers itself that of its folders.
"""

import json
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import fuseq
import keras_presets
import numpy as np
import pytest
from rule_tasks import KINDS, FolderOf, OracleOf, check_equal, keras, task

pytest_plugins = ("rule_fixtures",)

IDS = {"encoder_token_ids": [[0, 40, 77, 263, 2]], "decoder_token_ids": [[2, 0, 51, 1, 1, 1, 1]]}
MASK = {"decoder_padding_mask": [[1, 1, 1, 0, 0, 0, 0]]}


# ---- what a row starts with ----


@pytest.mark.parametrize("name", ["bart_017", "bart_032", "gpt2_017", "gpt2_032"])
def test_texts_and_ids_are_those_that_keras_hub_recorded(name: str) -> None:
    lm, record = keras(name), keras_presets.expected(name)
    greedy, length = record["greedy"], record["greedy"]["max_length"]
    rows = lm.generate(greedy["prompts"], max_length=length, return_scores=True)
    assert [row.text for row in rows] == greedy["texts"]
    assert [row.token_ids for row in rows] == greedy["ids"]
    for text, ids in record["texts"].items():
        assert lm.preprocessor.tokenizer(text).tolist() == ids


def test_a_decoder_of_keras_hub_begins_with_end_and_start_and_its_text() -> None:
    lm = keras()
    assert lm.generate("the fox", max_length=9, return_scores=True).token_ids[:2] == [2, 0]
    prompt = {"encoder_text": "the fox", "decoder_text": "a quick fox"}
    ids = lm.preprocessor.tokenizer("a quick fox").tolist()
    row = lm.generate(prompt, max_length=20, return_scores=True)
    assert row.token_ids[: 2 + len(ids)] == [2, 0, *ids]
    assert row.text.startswith("a quick fox")
    assert len(row.token_ids) > 2 + len(ids)


@pytest.mark.parametrize("decoder_text", [None, "the fox"])
@pytest.mark.parametrize("sampler", ["preset", "greedy"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"forced_bos_token_id": 0}, {"decoder_start_token_id": 7, "forced_bos_token_id": 90}],
)
def test_a_decoder_of_transformers_begins_with_start_and_forced_id_and_its_text(
    settings: dict[str, Any],
    sampler: str,
    decoder_text: str | None,
    folder_of: FolderOf,
    oracle_of: OracleOf,
) -> None:
    folder = folder_of("bart", {"max_length": 14, **settings})
    starts = [settings.get("decoder_start_token_id", 2)]
    starts += [id for key, id in settings.items() if key == "forced_bos_token_id"]
    lm = task(folder, sampler)
    row = lm.generate({"encoder_text": "a", "decoder_text": "the"}, return_scores=True)
    assert row.token_ids[: len(starts) + 1][:-1] == starts
    check_equal(lm, oracle_of(folder), decoder_text, max_length=14)


@pytest.mark.parametrize("settings", [{}, {"forced_bos_token_id": 0}])
def test_a_forced_id_of_the_call_comes_before_that_of_the_settings(
    settings: dict[str, Any], folder_of: FolderOf, oracle_of: OracleOf
) -> None:
    folder = folder_of("bart", {"max_length": 14, "num_beams": 2, **settings})
    check_equal(task(folder), oracle_of(folder), forced_bos_token_id=90)


@pytest.mark.parametrize("form", [None, "fuseq", "transformers"])
@pytest.mark.parametrize(
    "tokenizer",
    [
        {},
        {"mask_token": {"__type": "AddedToken", "content": "<mask>", "lstrip": True}},
        {"added_tokens_decoder": {"261": {"content": "he", "lstrip": False, "special": False}}},
        {"add_prefix_space": True},
        {"additional_special_tokens": ["Ġfox"]},
    ],
)
def test_special_tokens_of_transformers_are_found_in_texts_and_left_out_of_results(
    tokenizer: dict[str, Any],
    form: Any,
    folder_of: FolderOf,
    oracle_of: OracleOf,
    tmp_path: Path,
) -> None:
    # KerasHub takes <mask> and <unk> for words. The mask is what the pretrained model fills in.
    texts = ["the <mask> fox<mask>", "a <unk>  b</s> <s>c"]
    folder = folder_of("bart", {"max_length": 14}, tokenizer=tokenizer)
    theirs, lm = oracle_of(folder), task(folder)
    if form is not None:
        lm.save_to_preset(tmp_path / "saved", format=form)
        lm = task(tmp_path / "saved")
    if form == "transformers":
        theirs = oracle_of(tmp_path / "saved")
    first = oracle_of(folder).tokenizer
    for text in texts:
        want = first(text, add_special_tokens=False)["input_ids"]
        assert lm.preprocessor.tokenizer(text).tolist() == want
    for token in ("<mask>", "<unk>", "Ġfox", "he"):
        (id,) = theirs.tokenizer.convert_tokens_to_ids([token])
        found = [lm.generate(text, forced_bos_token_id=id, return_scores=True) for text in texts]
        assert all(row.token_ids[1] == id for row in found)
        for row in found:
            assert row.text == theirs.tokenizer.decode(row.token_ids, skip_special_tokens=True)
    check_equal(lm, theirs, texts=texts)


def test_a_causal_prompt_of_keras_hub_begins_with_the_start_token() -> None:
    lm = keras("gpt2_032")
    start = lm.preprocessor.tokenizer.start_token_id
    ids = lm.preprocessor.tokenizer("the fox").tolist()
    row = lm.generate("the fox", max_length=9, return_scores=True)
    assert row.token_ids[: 1 + len(ids)] == [start, *ids]


def test_a_causal_prompt_of_transformers_is_the_text_alone(
    folder_of: FolderOf, oracle_of: OracleOf
) -> None:
    folder = folder_of("gpt2", {"max_new_tokens": 8})
    lm = task(folder)
    ids = lm.preprocessor.tokenizer("the fox").tolist()
    row = lm.generate("the fox", return_scores=True)
    assert row.token_ids[: len(ids)] == ids
    check_equal(lm, oracle_of(folder))


# ---- how long a row is ----


@pytest.mark.parametrize("family", ["bart", "gpt2"])
def test_max_length_counts_the_whole_row(
    family: str, folder_of: FolderOf, oracle_of: OracleOf
) -> None:
    lm = keras(f"{family}_032")
    row = lm.generate("the fox", max_length=12, stop_token_ids=None, return_scores=True)
    assert len(row.token_ids) == 12
    folder = folder_of(family, {})
    row = task(folder).generate("the fox", max_length=12, stop_token_ids=None, return_scores=True)
    assert len(row.token_ids) == 12
    check_equal(task(folder), oracle_of(folder), max_length=28)


def test_without_max_length_a_row_is_as_long_as_the_preprocessor_says(folder_of: FolderOf) -> None:
    def length(lm: Any) -> int:
        return len(lm.generate("a", stop_token_ids=None, return_scores=True).token_ids)

    assert length(keras()) == 32  # the position table is shorter than 1024
    assert length(keras(decoder_sequence_length=11)) == 11
    assert length(keras("gpt2_032", sequence_length=11)) == 11
    folder = folder_of("bart", {"max_length": 17})
    assert length(task(folder, "greedy")) == 64  # positions
    assert length(task(folder, "greedy", decoder_sequence_length=11)) == 11
    assert length(task(folder, "preset")) == 17


@pytest.mark.filterwarnings("ignore:Using the model-agnostic default")
@pytest.mark.parametrize("settings", [{}, {"max_length": 17}, {"max_new_tokens": 9}, None])
@pytest.mark.parametrize("family", ["bart", "gpt2"])
def test_the_settings_length_or_20_new_tokens_hold_under_preset(
    family: str, settings: dict[str, Any] | None, folder_of: FolderOf, oracle_of: OracleOf
) -> None:
    if family == "gpt2" and settings == {"max_length": 17}:
        settings = {"max_length": 30}  # longer than the longest prompt
    folder = folder_of(family, settings)
    check_equal(task(folder), oracle_of(folder))


def test_max_length_and_max_new_tokens_exclude_each_other(either_task: Any) -> None:
    with pytest.raises(ValueError, match="max_length and max_new_tokens exclude each other"):
        either_task.generate("a", max_length=9, max_new_tokens=4)


def test_a_length_of_the_call_takes_the_place_of_the_other_one_in_the_settings(
    folder_of: FolderOf, oracle_of: OracleOf
) -> None:
    folder = folder_of("bart", {"max_length": 17})
    lm = task(folder)
    assert len(lm.generate("a", max_new_tokens=5, return_scores=True).token_ids) <= 6
    check_equal(lm, oracle_of(folder), max_new_tokens=5)


# ---- where a row ends ----


def with_end(lm: Any, at: int) -> int:
    """An id that a row of "the fox" has first at this place."""
    ids: list[int] = lm.generate(
        "the fox", max_length=24, stop_token_ids=None, return_scores=True
    ).token_ids
    return next(id for place, id in enumerate(ids[at:], at) if id not in ids[:place])


def test_auto_stops_at_the_tokenizers_end_id() -> None:
    lm = keras()
    assert lm.end_token_ids() == [2]
    free = lm.generate("the fox", max_length=20, logit_bias={2: 4.0}, return_scores=True)
    assert free.token_ids[-1] == 2
    assert free.stop_reason == "stop_id"
    full = lm.generate(
        "the fox", max_length=20, logit_bias={2: 4.0}, stop_token_ids=None, return_scores=True
    )
    assert len(full.token_ids) == 20
    assert full.token_ids[: len(free.token_ids)] == free.token_ids


def test_auto_stops_at_every_end_id_of_the_settings(
    folder_of: FolderOf, oracle_of: OracleOf
) -> None:
    plain = folder_of("bart", {"max_length": 24})
    ends = [2, with_end(task(plain), 6), with_end(task(plain), 9)]
    for settings, want in (({"eos_token_id": ends}, ends), ({"eos_token_id": ends[1]}, ends[1:2])):
        folder = folder_of("bart", {"max_length": 24, **settings})
        for sampler in ("preset", "greedy"):
            lm = task(folder, sampler)
            assert lm.end_token_ids() == want
            row = lm.generate("the fox", return_scores=True)
            assert row.token_ids[-1] in want
            assert len(row.token_ids) < 24
        check_equal(task(folder), oracle_of(folder))


def test_auto_without_end_ids_in_any_file_is_the_tokenizers(
    folder_of: FolderOf, tmp_path: Path
) -> None:
    folder = shutil.copytree(folder_of("bart", {"max_length": 24}), tmp_path / "bare")
    for name in ("config.json", "generation_config.json"):
        config = json.loads((folder / name).read_text("utf-8"))
        (folder / name).write_text(
            json.dumps({key: value for key, value in config.items() if key != "eos_token_id"})
        )
    assert task(folder).end_token_ids() == [2]


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_keeps_the_presets_end_ids_without_a_preprocessor(
    kind: str, request: pytest.FixtureRequest
) -> None:
    if kind == "keras_hub":
        lm = keras(preprocessor=None)
        assert lm.end_token_ids() == [2]
    else:
        folder = request.getfixturevalue("folder_of")("bart", {"eos_token_id": [2, 90]})
        lm = task(folder, "greedy", preprocessor=None)
        assert lm.end_token_ids() == [2, 90]
    result = lm.generate({**IDS, **MASK})
    assert result["decoder_token_ids"].shape == (1, 7)


def test_a_model_built_by_hand_must_be_told_its_end_ids() -> None:
    backbone = fuseq.models.GPT2Backbone(50, 1, 2, 8, 16, max_sequence_length=16, num_threads=1)
    lm = fuseq.models.GPT2CausalLM(backbone)
    inputs = {"token_ids": [[3, 4, 0, 0]], "padding_mask": [[1, 1, 0, 0]]}
    with pytest.raises(ValueError, match='"auto" needs a preprocessor or a preset that knows'):
        lm.generate(inputs)
    assert lm.generate(inputs, stop_token_ids=None)["padding_mask"].all()
    assert lm.generate(inputs, stop_token_ids=7)["token_ids"].shape == (1, 4)


def test_an_end_id_in_the_prompt_stops_nothing(either_task: Any) -> None:
    either_task.preprocessor = None
    clean = {**IDS, **MASK}
    behind = {**clean, "decoder_token_ids": [[2, 0, 51, 2, 1, 1, 1]]}  # behind the mask
    for key, value in either_task.generate(clean).items():
        assert np.array_equal(either_task.generate(behind)[key], value)
    within = {**clean, "decoder_token_ids": [[2, 0, 2, 1, 1, 1, 1]]}
    result = either_task.generate(within, stop_token_ids=[2])
    assert result["decoder_token_ids"][0, :3].tolist() == [2, 0, 2]
    assert result["decoder_padding_mask"].sum() > 3


def test_after_the_end_id_come_pad_ids_outside_the_mask(either_task: Any) -> None:
    either_task.preprocessor = None
    inputs = {**IDS, "decoder_token_ids": [[2, 0, 51] + [1] * 9]}
    inputs["decoder_padding_mask"] = [[1] * 3 + [0] * 9]
    full = either_task.generate(inputs, stop_token_ids=None)
    assert full["decoder_padding_mask"].all()
    stop = int(full["decoder_token_ids"][0, 5])
    end = full["decoder_token_ids"][0].tolist().index(stop, 3)
    cut = either_task.generate(inputs, stop_token_ids=[stop])
    ids, mask = cut["decoder_token_ids"][0], cut["decoder_padding_mask"][0]
    assert np.array_equal(ids[: end + 1], full["decoder_token_ids"][0, : end + 1])
    assert ids[end + 1 :].tolist() == [1] * (11 - end)
    assert mask.tolist() == [True] * (end + 1) + [False] * (11 - end)


# ---- arrays ----


def test_masks_are_one_run_and_may_be_short_or_padded_on_the_left(either_task: Any) -> None:
    either_task.preprocessor = None
    right = either_task.generate({**IDS, **MASK})
    left = {
        **IDS,
        "encoder_token_ids": [[1, 1, 0, 40, 77, 263, 2]],
        "encoder_padding_mask": [[0, 0, 1, 1, 1, 1, 1]],
        "decoder_token_ids": [[1, 1, 2, 0, 51, 1, 1]],
        "decoder_padding_mask": [[0, 0, 1, 1, 1, 0, 0]],
    }
    short = {**IDS, "decoder_padding_mask": [[True, True, True]]}
    for inputs in (left, short):
        for key, value in either_task.generate(inputs).items():
            assert np.array_equal(value, right[key])
    for mask in ([[1, 0, 1, 0, 0, 0, 0]], [[0] * 7]):
        with pytest.raises(ValueError, match="mask: row 0 must be true in one run"):
            either_task.generate({**IDS, "decoder_padding_mask": mask})
    with pytest.raises(ValueError, match=re.escape("must have shape [1, 7]")):
        either_task.generate({**IDS, "decoder_padding_mask": [[1] * 8]})


def test_arrays_of_ids_are_int32_padded_on_the_right_with_a_mask(either_task: Any) -> None:
    either_task.preprocessor = None
    inputs = {
        "encoder_token_ids": np.array([[0, 40, 77, 263, 2], [0, 99, 2, 1, 1]]),
        "encoder_padding_mask": np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
        "decoder_token_ids": np.array([[2, 0, 1, 1, 1, 1], [2, 0, 51, 1, 1, 1]]),
        "decoder_padding_mask": np.array([[1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0]]),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = either_task.generate(inputs, stop_token_ids=None)
    assert list(result) == ["decoder_token_ids", "decoder_padding_mask"]
    assert result["decoder_token_ids"].dtype == np.int32
    assert result["decoder_padding_mask"].dtype == np.bool_
    assert result["decoder_token_ids"].shape == result["decoder_padding_mask"].shape == (2, 6)
    assert result["decoder_token_ids"][:, :3][1].tolist() == [2, 0, 51]
    several = either_task.generate(inputs, sampler="beam", num_return_sequences=2)
    assert several["decoder_token_ids"].shape == (4, 6)
