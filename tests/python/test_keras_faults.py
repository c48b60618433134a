# SPDX-License-Identifier: Apache-2.0
"""Faults of KerasHub 0.17 and 0.32 that fuseq does not have: the right behaviour of each."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fuseq
import keras_presets
import numpy as np
import pytest
from fuseq.samplers import BeamSampler
from rule_tasks import FolderOf, OracleOf, check_equal, keras, task

pytest_plugins = ("rule_fixtures",)

TEXTS = ["the fox", "a quick inn", "the quick brown fox over the wall"]


def ids_of(rows: Any) -> list[list[int]]:
    """The ids of `Generation`s."""
    return [row.token_ids for row in rows]


# KerasHub: ValueError.
def test_ids_without_a_preprocessor_stop_at_the_presets_end_id() -> None:
    lm = keras(preprocessor=None)
    inputs = {"encoder_token_ids": [[0, 40, 77, 263, 2]], "decoder_token_ids": [[2, 0] + [1] * 12]}
    inputs["decoder_padding_mask"] = [[1, 1] + [0] * 12]
    auto = lm.generate(inputs)
    for key, value in lm.generate(inputs, stop_token_ids=[2]).items():
        assert np.array_equal(auto[key], value)


# KerasHub: KeyError 'padding_mask'.
@pytest.mark.parametrize("sampler", ["greedy", BeamSampler(3)])
def test_strip_prompt_leaves_the_decoders_text_out(sampler: object) -> None:
    lm = keras(sampler=sampler)
    prompt = {"encoder_text": TEXTS, "decoder_text": "the fox"}
    whole = lm.generate(prompt, max_length=16, return_scores=True)
    new = lm.generate(prompt, max_length=16, strip_prompt=True, return_scores=True)
    start = 2 + len(lm.preprocessor.tokenizer("the fox"))
    assert ids_of(new) == [row[start:] for row in ids_of(whole)]
    assert ["the fox" + row.text for row in new] == [row.text for row in whole]
    assert lm.generate(prompt, 16, strip_prompt=True) == [row.text for row in new]


def test_strip_prompt_of_ids_begins_with_the_new_ones() -> None:
    lm = keras(preprocessor=None)
    inputs = {
        "encoder_token_ids": [[0, 40, 77, 263, 2]] * 2,
        "decoder_token_ids": [[2, 0, 51, 261, 1, 1, 1, 1], [2, 0, 133, 1, 1, 1, 1, 1]],
        "decoder_padding_mask": [[1] * 4 + [0] * 4, [1] * 3 + [0] * 5],
    }
    whole = lm.generate(inputs, stop_token_ids=None)["decoder_token_ids"]
    new = lm.generate(inputs, stop_token_ids=None, strip_prompt=True)
    assert new["decoder_token_ids"].shape == (2, 8)
    for row, (start, full) in enumerate(zip((4, 3), whole, strict=True)):
        cells = new["decoder_padding_mask"][row]
        assert cells.tolist() == [True] * (8 - start) + [False] * start
        assert new["decoder_token_ids"][row][cells].tolist() == full[start:].tolist()


# KerasHub: every row goes on until all have ended, and shorter prompts wait for longer ones.
@pytest.mark.parametrize("name", ["bart_032", "gpt2_032"])
@pytest.mark.parametrize("sampler", ["greedy", BeamSampler(3, length_penalty=-2.0)])
def test_a_row_ends_on_its_own_whatever_the_others_do(name: str, sampler: object) -> None:
    lm = keras(name, sampler)
    free = lm.generate(TEXTS[0], max_length=28, stop_token_ids=None, return_scores=True)
    stop = free.token_ids[-len(free.token_log_probs) + 1]
    alone = [
        lm.generate(text, max_length=28, stop_token_ids=[stop], return_scores=True)
        for text in TEXTS
    ]
    together = lm.generate(TEXTS, max_length=28, stop_token_ids=[stop], return_scores=True)
    assert together == alone
    assert len({len(row.token_ids) for row in together}) > 1
    for row in together:
        new = row.token_ids[len(row.token_ids) - len(row.token_log_probs) :]
        assert stop not in new[:-1]


# KerasHub: one call of the model for every cell up to max_length, or until the last row ended.
def test_nothing_is_generated_after_the_last_row_ended() -> None:
    lm = keras()
    seen: list[int] = []

    def on_token(row: int, token_id: int, text: str) -> None:
        seen.append(token_id)

    row = lm.generate(TEXTS[0], max_length=28, stop_token_ids=None, return_scores=True)
    stop = row.token_ids[4]
    seen.clear()
    lm.generate(TEXTS[0], max_length=28, stop_token_ids=[stop], on_token=on_token)
    assert seen == row.token_ids[2 : row.token_ids.index(stop, 2) + 1]


# KerasHub: the input comes back unchanged.
def test_an_end_id_left_behind_the_prompts_mask_does_not_stop_the_first_step() -> None:
    lm = keras(preprocessor=None)
    inputs = {
        "encoder_token_ids": [[0, 133, 261, 263, 2, 1]],
        "encoder_padding_mask": [[1, 1, 1, 1, 1, 0]],
        "decoder_token_ids": [[2, 0, 133, 261, 2, 1, 1]],
        "decoder_padding_mask": [[1, 1, 1, 1, 0, 0, 0]],
    }
    result = lm.generate(inputs, stop_token_ids=[2])
    ids = result["decoder_token_ids"][0]
    assert ids[:4].tolist() == [2, 0, 133, 261]
    assert result["decoder_padding_mask"][0, 4]
    inputs["decoder_token_ids"] = [[2, 0, 133, 261, 1, 1, 1]]
    assert np.array_equal(lm.generate(inputs, stop_token_ids=[2])["decoder_token_ids"][0], ids)


# ---- beams; KerasHub's go on after the end id and have no length penalty ----


def log_probs(lm: Any, source: list[int], row: list[int]) -> np.ndarray[Any, Any]:
    """The log-probabilities of the next id after every id of a row, [T, V]."""
    logits = lm({"encoder_token_ids": [source], "decoder_token_ids": [row]})[0]
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    result: np.ndarray[Any, Any] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result


def best_row(
    lm: Any,
    source: list[int],
    start: list[int],
    stops: list[int],
    length: int,
    penalty: float,
) -> tuple[list[int], float]:
    """The best of all rows, every one of them tried."""
    best: tuple[list[int], float] = ([], -math.inf)

    def walk(row: list[int], total: float) -> None:
        nonlocal best
        new = len(row) - len(start)
        if new and (row[-1] in stops or len(row) == length):
            score = total / new**penalty
            best = max(best, (row, score), key=lambda found: found[1])
            return
        step = log_probs(lm, source, row)[-1]
        for id in range(len(step)):
            walk([*row, id], total + float(step[id]))

    walk(start, 0.0)
    return best


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
def test_as_many_beams_as_there_are_rows_find_the_best_one(penalty: float) -> None:
    backbone = fuseq.models.BartBackbone(9, 1, 1, 8, 16, max_sequence_length=16, num_threads=1)
    from stand_in_presets import spread_weights

    spread_weights(backbone, seed=4)
    lm = fuseq.models.BartSeq2SeqLM(backbone)
    source, stops, length = [0, 5, 6, 2], [4, 7], 5
    inputs = {"encoder_token_ids": [source], "decoder_token_ids": [[2, 0] + [1] * (length - 2)]}
    inputs["decoder_padding_mask"] = [[1, 1] + [0] * (length - 2)]
    result = lm.generate(
        inputs,
        stop_token_ids=stops,
        sampler=BeamSampler(81, length_penalty=penalty, early_stopping="never"),
        return_scores=True,
    )
    want, score = best_row(lm, source, [2, 0], stops, length, penalty)
    cells = result["decoder_padding_mask"][0]
    assert result["decoder_token_ids"][0][cells].tolist() == want
    assert result["scores"][0] == pytest.approx(score, abs=1e-4)


def test_a_finished_beam_keeps_its_score_and_a_length_penalty_moves_the_choice() -> None:
    lm = keras()
    free = lm.generate("the fox", max_length=20, stop_token_ids=None, return_scores=True)
    stops = free.token_ids[5:7]
    found = {}
    for penalty in (-2.0, 0.0, 3.0):
        row = lm.generate(
            "the fox",
            max_length=20,
            stop_token_ids=stops,
            sampler=BeamSampler(4, length_penalty=penalty),
            return_scores=True,
        )
        count = len(row.token_log_probs)
        assert row.score == pytest.approx(sum(row.token_log_probs) / count**penalty, rel=1e-4)
        assert not set(stops) & set(row.token_ids[2:-1])
        found[penalty] = count
    assert found[-2.0] <= found[0.0] <= found[3.0]
    assert found[-2.0] < found[3.0]


def test_beams_of_ragged_prompts_are_those_of_each_prompt_alone() -> None:
    lm = keras(sampler=BeamSampler(3, return_all_beams=True))
    prompts = ["a", "the quick fox", ""]
    sources = TEXTS
    together = lm.generate(
        {"encoder_text": sources, "decoder_text": prompts}, max_length=20, return_scores=True
    )
    for source, prompt, rows in zip(sources, prompts, together, strict=True):
        alone = lm.generate(
            {"encoder_text": source, "decoder_text": prompt}, max_length=20, return_scores=True
        )
        assert rows == alone
        assert len({tuple(row.token_ids) for row in rows}) == 3  # no beam comes twice


# ---- checkpoints of transformers; KerasHub drops what follows ----


@pytest.mark.parametrize(
    ("fields", "settings"),
    [
        ({}, {"max_length": 16}),  # final_logits_bias is never 0 in these models
        ({"scale_embedding": True}, {"max_length": 16}),
        ({"activation_function": "relu"}, {"max_length": 16}),
        ({"activation_function": "gelu_new"}, {"max_length": 16, "num_beams": 2}),
        ({"encoder_layers": 1, "decoder_layers": 4}, {"max_length": 16}),
        ({"encoder_layers": 3, "decoder_layers": 1}, {"max_length": 16, "num_beams": 2}),
        ({}, {"max_length": 16, "forced_bos_token_id": 90, "forced_eos_token_id": 2}),
    ],
)
def test_nothing_of_a_transformers_checkpoint_is_ignored(
    fields: dict[str, Any], settings: dict[str, Any], folder_of: FolderOf, oracle_of: OracleOf
) -> None:
    import torch

    folder = folder_of("bart", settings, **fields)
    lm, theirs = task(folder), oracle_of(folder)
    check_equal(lm, theirs)
    source, row = [0, 40, 77, 263, 2], [2, 0, 51, 261]
    with torch.no_grad():
        want = theirs.model(
            input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([row])
        ).logits.numpy()
    logits = lm({"encoder_token_ids": [source], "decoder_token_ids": [row]})
    assert np.abs(logits - want).max() < 1e-3
    assert theirs.model.final_logits_bias.abs().max() > 0.1


# ---- presets ----


# KerasHub: back to 1024, since they are not written.
@pytest.mark.parametrize("form", ["keras_hub", "transformers", "fuseq"])
def test_the_preprocessors_lengths_are_saved(form: Any, tmp_path: Path) -> None:
    lm = keras(encoder_sequence_length=13, decoder_sequence_length=11)
    lm.save_to_preset(tmp_path / form, format=form)
    other = fuseq.Seq2SeqLM.from_preset(tmp_path / form)
    lengths = (
        other.preprocessor.encoder_sequence_length,
        other.preprocessor.decoder_sequence_length,
    )
    # A folder of transformers has no place for them: the position tables say it there.
    assert lengths == ((32, 32) if form == "transformers" else (13, 11))


# KerasHub: lengths as keywords are passed over in silence, as any other keyword.
def test_lengths_are_arguments_of_the_task_and_unknown_arguments_are_refused() -> None:
    lm = keras(encoder_sequence_length=13, decoder_sequence_length=11)
    assert lm.preprocessor.encoder_sequence_length == 13
    assert lm.preprocessor.sequence_length == 11
    with pytest.raises(TypeError, match="got encoder_sequence_lenght"):
        keras(encoder_sequence_lenght=5)


# KerasHub 0.17: stays float32 where there is a task.json; 0.32: bfloat16 is forgotten when loading.
@pytest.mark.parametrize("name", ["bart_017", "bart_032", "gpt2_017"])
def test_dtype_holds_for_a_preset_with_a_task_file(name: str, tmp_path: Path) -> None:
    assert (keras_presets.FOLDER / name / "task.json").is_file()
    lm = keras(name, dtype="bfloat16")
    assert lm.backbone.dtype == "bfloat16"
    lm.save_to_preset(tmp_path / "half")
    other = fuseq.CausalLM.from_preset(tmp_path / "half")
    assert other.backbone.dtype == "bfloat16"
    other.compile(sampler="greedy")
    assert other.generate(TEXTS, max_length=12) == lm.generate(TEXTS, max_length=12)
    assert fuseq.CausalLM.from_preset(tmp_path / "half", dtype="float32").backbone.dtype == (
        "float32"
    )
    config = json.loads((tmp_path / "half" / "config.json").read_text("utf-8"))
    assert "bfloat16" in json.dumps(config)


# ---- texts ----


# KerasHub 0.32: the pattern that splits words is taken as plain text when generating.
def test_generation_and_training_split_words_alike() -> None:
    lm = keras()
    tokenizer = lm.preprocessor.tokenizer
    blank, a, b = (tokenizer.token_to_id(token) for token in ("Ġ", "a", "b"))
    assert tokenizer("a  b").tolist() == [a, blank, blank, b]
    for text in ("a  b", " the  fox ", "the\n\nfox", "fox's"):
        source = lm.preprocessor.generate_preprocess(text, encoder_sequence_length=24)
        x, _, _ = lm.preprocessor(
            {"encoder_text": text, "decoder_text": text}, encoder_sequence_length=24
        )
        assert np.array_equal(source["encoder_token_ids"], x["encoder_token_ids"])
        assert tokenizer.detokenize(tokenizer(text)) == text


class Dataset:
    """Gives numpy batches as tf.data does."""

    def __init__(self, batches: list[Any]) -> None:
        """Keeps the batches."""
        self.batches = batches

    def as_numpy_iterator(self) -> Iterator[Any]:
        """The batches, strings as bytes."""
        return iter(self.batches)


# KerasHub 0.32: ValueError for numpy arrays and datasets, and for tuples with an encoder.
@pytest.mark.parametrize("name", ["bart_032", "gpt2_032"])
@pytest.mark.parametrize(
    "inputs",
    [
        tuple(TEXTS),
        np.array(TEXTS),
        np.array(TEXTS, object),
        np.array([text.encode() for text in TEXTS], object),
        Dataset([np.array([text.encode() for text in TEXTS[:2]], object), np.array(TEXTS[2:])]),
        iter([TEXTS[:1], TEXTS[1:]]),
    ],
    ids=["tuple", "array", "objects", "bytes", "dataset", "iterator"],
)
def test_every_kind_of_texts_gives_the_same_results(name: str, inputs: Any) -> None:
    lm = keras(name)
    if isinstance(inputs, Iterator):
        inputs = iter([TEXTS[:1], TEXTS[1:]])  # one for each test
    want = lm.generate(TEXTS, max_length=28)
    assert want == [lm.generate(text, max_length=28) for text in TEXTS]
    assert lm.generate(inputs, max_length=28) == want


def test_an_array_of_one_text_is_one_text() -> None:
    lm = keras()
    assert lm.generate(np.array("the fox"), max_length=12) == lm.generate("the fox", max_length=12)


def test_datasets_of_dicts_and_dicts_of_arrays_are_taken_and_left_as_they_are() -> None:
    lm = keras()
    prompts = np.array(["a", "the", ""])
    together = {"encoder_text": np.array(TEXTS), "decoder_text": prompts}
    want = [
        lm.generate({"encoder_text": text, "decoder_text": str(prompt)}, max_length=20)
        for text, prompt in zip(TEXTS, prompts, strict=True)
    ]
    assert lm.generate(together, max_length=20) == want
    assert together["encoder_text"].tolist() == TEXTS
    batches = [{key: value[cut] for key, value in together.items()} for cut in ([0, 1], [2])]
    assert lm.generate(Dataset(batches), max_length=20) == want
