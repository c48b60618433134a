# SPDX-License-Identifier: Apache-2.0
"""Trained models from elsewhere give the ids that were recorded with them."""

import json
from pathlib import Path
from typing import Any

import fuseq
import numpy as np
import pronunciations
import pytest

LOGITS_TOLERANCE = 2e-4  # of the largest logit


def read(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "golden.jsonl").read_text().splitlines()]


def strip(ids: list[int], end: int) -> list[int]:
    """Without what was filled in after the end id; the start id may be the same."""
    return ids[: ids.index(end, 1) + 1]


def test_bart_spells_words_as_recorded(test_data: Path) -> None:
    folder = test_data / "weights" / "bart-g2p-us"
    model, lines = fuseq.load_model(folder), read(folder)
    prompts = [line["input_ids"] for line in lines]

    greedy = fuseq.generate(model, prompts, fuseq.GenerationOptions(max_new_tokens=60))
    assert [row[0].ids for row in greedy] == [line["greedy_ids"] for line in lines]

    options = fuseq.GenerationOptions(max_new_tokens=60, num_beams=4, num_return_sequences=4)
    beams = fuseq.generate(model, prompts, options)
    for rows, line in zip(beams, lines, strict=True):
        assert [row.ids for row in rows] == [strip(ids, 2) for ids in line["beam4_ids"]]
        assert [row.score for row in rows] == pytest.approx(line["beam4_scores"], abs=1e-3)

    session = fuseq.Session(model)
    for line in lines[:10]:
        logits = session.forward([fuseq.Prompt(line["input_ids"], line["greedy_ids"])]).numpy()
        recorded = np.array(line["second_step_logits"])
        assert np.abs(logits[1] - recorded).max() < LOGITS_TOLERANCE * np.abs(recorded).max()
        states = session.encode([line["input_ids"]]).numpy()
        assert np.abs(states).sum() == pytest.approx(line["encoder_last_hidden_sum_abs"], rel=1e-4)


def test_gpt2_sorts_as_recorded(test_data: Path) -> None:
    folder = test_data / "weights" / "gpt2-nano-sort"
    model, lines = fuseq.load_model(folder), read(folder)
    # The sixth new id is the twelfth of a row: one past the positions, since it is never fed back.
    options = fuseq.GenerationOptions(max_new_tokens=6)
    results = fuseq.generate(model, [line["prompt"] for line in lines], options)
    session = fuseq.Session(model)
    for line, (row,) in zip(lines, results, strict=True):
        assert row.ids[6:] == line["greedy"]
        logits = session.forward([line["input_ids"]]).numpy()
        recorded = np.array(line["logits"])
        assert np.abs(logits - recorded).max() < LOGITS_TOLERANCE * np.abs(recorded).max()


def test_bart_gets_as_many_words_right_as_recorded(test_data: Path) -> None:
    model = fuseq.load_model(test_data / pronunciations.FOLDER)
    prompts, right_sounds, sounds = pronunciations.read_words(test_data, 20)
    results = fuseq.generate(model, prompts, fuseq.GenerationOptions(max_new_tokens=60))
    texts = ["".join(sounds[i] for i in rows[0].ids if i > 3) for rows in results]
    right = sum(map(str.__eq__, texts, right_sounds))
    assert (len(prompts), right) == (3842, 2594)
