# SPDX-License-Identifier: Apache-2.0
"""Whose settings hold: the design's table, for KerasHub's presets and for transformers'.

Recorded results are the word of KerasHub, transformers itself that of its folders.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import fuseq
import keras_presets
import numpy as np
import pytest
from fuseq.samplers import BeamSampler, TopKSampler
from rule_tasks import KINDS, SETTINGS, FolderOf, OracleOf, check_equal, keras, task
from stand_in_presets import TINY_TEXTS as TEXTS

pytest_plugins = ("rule_fixtures",)


# ---- whose settings hold ----


@pytest.mark.parametrize("kind", KINDS)
def test_the_default_sampler_is_top_k_of_5(kind: str, request: pytest.FixtureRequest) -> None:
    folder = keras_presets.FOLDER / "bart_032"
    if kind == "transformers":
        folder = request.getfixturevalue("folder_of")("bart", SETTINGS)
    sampler = fuseq.CausalLM.from_preset(folder).sampler
    assert isinstance(sampler, TopKSampler)
    assert (sampler.k, sampler.temperature, sampler.seed) == (5, 1.0, None)


def test_the_command_takes_the_folders_settings_or_is_greedy(
    folder_of: FolderOf, oracle_of: OracleOf, capsys: pytest.CaptureFixture[str]
) -> None:
    from fuseq.cli import main

    folder = folder_of("bart", SETTINGS, eos_bias=4.0)
    assert main(["generate", "--preset", str(folder), "--json", TEXTS[0]]) == 0
    assert oracle_of(folder).generate(TEXTS[0])[0].text in read_json_text(capsys)
    record = keras_presets.expected("bart_032")["greedy"]
    preset = str(keras_presets.FOLDER / "bart_032")
    assert main(["generate", "--preset", preset, "--max-length", "14", record["prompts"][0]]) == 0
    assert record["texts"][0] in capsys.readouterr().out


def read_json_text(capsys: pytest.CaptureFixture[str]) -> str:
    """All texts in the JSON that the command printed."""
    found = []

    def walk(value: object) -> None:
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, dict):
            walk(list(value.values()))
        elif isinstance(value, list):
            for part in value:
                walk(part)

    for line in capsys.readouterr().out.splitlines():
        walk(json.loads(line))
    return "\n".join(found)


def test_another_sampler_takes_only_ids_from_the_settings(
    folder_of: FolderOf, oracle_of: OracleOf
) -> None:
    bare = {"forced_bos_token_id": 0, "eos_token_id": [2, 90]}
    folder = folder_of("bart", {**SETTINGS, **bare, "repetition_penalty": 1.5})
    plain = folder_of("bart", bare)
    for sampler in ("greedy", BeamSampler(3)):
        ours, other = task(folder, sampler), task(plain, sampler)
        rows = ours.generate(TEXTS, max_length=20, return_scores=True)
        assert rows == other.generate(TEXTS, max_length=20, return_scores=True)
    check_equal(task(plain, "greedy"), oracle_of(plain), max_length=20)


def test_ids_that_a_model_never_emits_stay_away_under_every_sampler(either_task: Any) -> None:
    row = either_task.generate("the fox", max_length=14, return_scores=True).token_ids
    banned = row[-1]
    backbone = either_task.backbone
    text = json.dumps({**backbone.spec, "never_emitted_ids": [banned]})
    weights = {name: backbone.model.weight(name) for name, _, _ in fuseq._core.weight_table(text)}
    backbone.engine.replace(fuseq.Model.build(text, weights, num_threads=1))
    for sampler in ("greedy", "beam", "top_k"):
        rows = either_task.generate(TEXTS, max_length=14, sampler=sampler, return_scores=True)
        assert banned not in [id for row in rows for id in row.token_ids[2:]]


@pytest.mark.parametrize(
    "field", [{"typical_p": 0.5, "do_sample": True}, {"guidance_scale": 2.0}, {"max_time": 1.0}]
)
def test_a_setting_that_is_not_here_is_named_by_preset_alone(
    field: dict[str, Any], folder_of: FolderOf
) -> None:
    folder = folder_of("bart", field)
    with pytest.raises(ValueError, match=next(iter(field))):
        task(folder).generate("a")
    assert isinstance(task(folder, "greedy").generate("a", max_length=6), str)


def test_silent_settings_are_transformers_defaults(folder_of: FolderOf) -> None:
    settings = task(folder_of("bart", {"do_sample": True})).generation_settings()
    assert settings.top_k == 50
    assert settings.max_new_tokens == 20
    settings = task(folder_of("bart", {})).generation_settings()
    assert (settings.num_beams, settings.do_sample, settings.top_k) == (1, False, 0)


def test_settings_in_config_json_count_where_there_are_no_others(
    folder_of: FolderOf, oracle_of: OracleOf, tmp_path: Path
) -> None:
    folder = shutil.copytree(folder_of("bart", None), tmp_path / "old")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config |= {"num_beams": 3, "max_length": 12, "length_penalty": 0.5, "forced_bos_token_id": 0}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    lm = task(folder)
    assert lm.generation_settings().num_beams == 3
    check_equal(lm, oracle_of(folder))


def test_the_call_comes_before_the_sampler_and_the_sampler_before_the_settings(
    folder_of: FolderOf, oracle_of: OracleOf
) -> None:
    folder = folder_of("bart", SETTINGS, eos_bias=4.0)
    lm = task(folder)
    check_equal(lm, oracle_of(folder), no_repeat_ngram_size=2, max_length=15)
    sampler = BeamSampler(2, length_penalty=0.0)
    rows = lm.generate(TEXTS, sampler=sampler, max_length=15, return_scores=True)
    for row, text in zip(rows, TEXTS, strict=True):
        want = oracle_of(folder).generate(
            text, num_beams=2, length_penalty=0.0, max_length=15, min_length=0,
            no_repeat_ngram_size=0, early_stopping=False, forced_eos_token_id=None,
        )[0]  # fmt: skip
        assert row.token_ids == want.ids
    assert type(lm.sampler) is fuseq.samplers.PresetSampler  # that of compile stays


def test_a_keyword_comes_before_a_samplers_field() -> None:
    lm = keras(sampler=BeamSampler(3, return_all_beams=True))
    assert len(lm.generate("a", max_length=8)) == 3
    assert len(lm.generate("a", max_length=8, num_return_sequences=2)) == 2


# ---- the rules of a step ----


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("bart", SETTINGS),
        ("bart", {**SETTINGS, "eos_token_id": [2, 67, 100], "num_beams": 3}),
        ("bart", {"repetition_penalty": 1.4, "no_repeat_ngram_size": 2, "min_new_tokens": 6,
                  "suppress_tokens": [67, 100, 199], "sequence_bias": [[[93], 3.0]],
                  "max_length": 20}),
        ("bart", {"repetition_penalty": 1.4, "num_beams": 4, "num_return_sequences": 3,
                  "early_stopping": "never", "length_penalty": -1.0, "max_new_tokens": 15}),
        ("gpt2", {"max_new_tokens": 20, "repetition_penalty": 1.2, "no_repeat_ngram_size": 3}),
        ("gpt2", {"num_beams": 3, "max_length": 34, "eos_token_id": [20, 30, 40],
                  "min_new_tokens": 4}),
    ],
)  # fmt: skip
def test_folders_with_settings_write_what_transformers_writes(
    family: str, settings: dict[str, Any], folder_of: FolderOf, oracle_of: OracleOf
) -> None:
    folder = folder_of(family, settings, eos_bias=4.0 if family == "bart" else 0.0)
    check_equal(task(folder), oracle_of(folder))
    if family == "bart":
        check_equal(task(folder), oracle_of(folder), "the quick")


def test_filters_come_after_the_rules_and_the_temperature(
    folder_of: FolderOf, oracle_of: OracleOf
) -> None:
    import torch

    settings = {
        "do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.9, "min_p": 0.02,
        "repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "max_new_tokens": 1,
    }  # fmt: skip
    folder = folder_of("gpt2", settings)
    theirs = oracle_of(folder)
    ids = theirs.tokenizer("the fox the", return_tensors="pt")
    scores = theirs.model.generate(**ids, return_dict_in_generate=True, output_scores=True).scores[
        0
    ][0]
    want = torch.softmax(scores.double(), -1).numpy()
    lm, count = task(folder), 6000
    rows = lm.generate(["the fox the"] * count, return_scores=True, seed=3)
    found = np.bincount([row.token_ids[-1] for row in rows], minlength=len(want)) / count
    assert set(np.nonzero(found)[0]) <= set(np.nonzero(want)[0])
    assert np.abs(found - want).max() < 5 * np.sqrt(0.25 / count)


@pytest.mark.parametrize("rule", [{"repetition_penalty": 1e6}, {"no_repeat_ngram_size": 1}])
def test_repetition_rules_see_the_row_with_its_prompt_and_not_the_source(
    rule: dict[str, Any],
    either_task: Any,
) -> None:
    tokenizer = either_task.preprocessor.tokenizer
    word, *_ = tokenizer("fox").tolist()
    likely = {"logit_bias": {word: 50.0}, "max_length": 10, "return_scores": True}
    start = len(either_task.preprocessor.start_ids())
    row = either_task.generate("fox", **likely, **rule).token_ids
    assert row[start] == word  # of the source, and yet the first
    assert word not in row[start + 1 :]
    row = either_task.generate(
        {"encoder_text": "a", "decoder_text": "fox"}, **likely, **rule
    ).token_ids
    prompt = start + len(tokenizer("fox"))
    assert word in row[start:prompt]
    assert word not in row[prompt:]
    assert len(set(row[prompt:])) == len(row[prompt:])


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0, -0.5])
def test_a_beams_score_is_the_sum_over_its_new_ids_to_the_power(
    penalty: float,
    either_task: Any,
) -> None:
    prompt = {"encoder_text": "the fox", "decoder_text": "a"}
    free = either_task.generate(prompt, max_length=12, stop_token_ids=None, return_scores=True)
    start = len(free.token_ids) - len(free.token_log_probs)
    rows = either_task.generate(
        prompt,
        max_length=12,
        stop_token_ids=sorted(set(free.token_ids[start + 2 :])),
        sampler=BeamSampler(3, return_all_beams=True, length_penalty=penalty),
        return_scores=True,
    )
    assert any(row.stop_reason == "stop_id" for row in rows)
    scores = [row.score for row in rows]
    assert scores == sorted(scores, reverse=True)
    for row in rows:
        count = len(row.token_ids) - start
        assert len(row.token_log_probs) == count
        assert row.score == pytest.approx(sum(row.token_log_probs) / count**penalty, rel=1e-4)


def test_beams_have_5_hypotheses_and_a_temperature_that_divides_logits() -> None:
    sampler = BeamSampler()
    assert (sampler.num_beams, sampler.length_penalty, sampler.early_stopping) == (5, 1.0, False)
    assert keras(sampler="beam").sampler.num_beams == 5
    lm = keras()
    flat = lm.generate(
        "a", max_length=8, sampler=BeamSampler(3, temperature=1e4), return_scores=True
    )
    size = lm.backbone.vocabulary_size
    assert flat.score == pytest.approx(-np.log(size), rel=1e-2)


def test_beams_of_a_folder_are_as_its_settings_say(folder_of: FolderOf) -> None:
    settings = task(folder_of("bart", SETTINGS)).generation_settings()
    got = (settings.num_beams, settings.length_penalty, settings.early_stopping)
    assert got == (4, 2.0, True)


# ---- what is refused ----


@pytest.mark.parametrize("sampler", ["greedy", BeamSampler(2)])
def test_more_results_than_greedy_or_the_beams_give_are_refused(
    sampler: object,
    either_task: Any,
) -> None:
    with pytest.raises(ValueError, match="num_return_sequences"):
        either_task.generate("a", max_length=8, num_return_sequences=3, sampler=sampler)
    rows = either_task.generate(
        "a", max_length=8, num_return_sequences=3, sampler=TopKSampler(seed=1)
    )
    assert [type(row) for row in rows] == [str] * 3


@pytest.mark.parametrize(
    "settings",
    [
        {"num_beams": 2, "do_sample": True},
        {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5},
        {"num_beams": 2, "force_words_ids": [[5]]},
        {"num_beams": 2, "constraints": ["x"]},
    ],
)
def test_beams_that_draw_or_come_in_groups_or_are_constrained_are_refused(
    settings: dict[str, Any], folder_of: FolderOf, tmp_path: Path
) -> None:
    folder = shutil.copytree(folder_of("bart", {}), tmp_path / "folder")
    path = folder / "generation_config.json"
    config = {**json.loads(path.read_text("utf-8")), **settings}
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ValueError, match=list(settings)[1]):
        task(folder).generate("a")


def test_beams_that_draw_are_refused_in_a_keras_preset_too() -> None:
    class Drawing(BeamSampler):
        def generation_fields(self) -> dict[str, Any]:
            return {**super().generation_fields(), "do_sample": True}

    with pytest.raises(ValueError, match="num_beams"):
        keras().generate("a", max_length=8, sampler=Drawing(2))


def test_a_prompt_longer_than_max_length_is_cut_with_one_warning(either_task: Any) -> None:
    prompts = {"encoder_text": ["a", "the"], "decoder_text": "the quick brown fox"}
    whole = either_task.generate(prompts, max_length=30, return_scores=True)
    with pytest.warns(UserWarning, match="prompts must be shorter than max_length 5") as caught:
        rows = either_task.generate(prompts, max_length=5, return_scores=True)
    assert len(caught) == 1
    for row, free in zip(rows, whole, strict=True):
        assert row.token_ids == free.token_ids[:5]
        assert row.token_log_probs == []


def test_a_prompt_longer_than_the_position_table_is_refused(either_task: Any) -> None:
    positions = either_task.backbone.max_sequence_length
    prompt = {"encoder_text": "a", "decoder_text": "x" * (positions + 1)}
    with pytest.raises(ValueError, match=rf"\b{positions}\b"):
        either_task.generate(prompt, max_length=positions + 9)
    # The last id is never fed back, so that a row may end one past the table.
    row = either_task.generate("a", positions + 1, stop_token_ids=None, return_scores=True)
    assert len(row.token_ids) == positions + 1
    with pytest.raises(ValueError, match=rf"at most {positions + 1} tokens"):
        either_task.generate("a", max_length=positions + 2)


def test_a_source_longer_than_encoder_sequence_length_is_cut(either_task: Any) -> None:
    long = "the quick brown fox"
    ids = either_task.preprocessor.tokenizer(long).tolist()
    cut = either_task.preprocessor.tokenizer.detokenize(ids[:4])
    short = either_task.generate(cut, max_length=14, return_scores=True)
    whole = either_task.generate(long, max_length=14, return_scores=True)
    assert whole.score != short.score
    lengths = {"max_length": 14, "encoder_sequence_length": 6}
    assert either_task.generate(long, **lengths, return_scores=True) == short
    either_task.preprocessor.encoder_sequence_length = 6
    assert either_task.generate(long, max_length=14, return_scores=True) == short
