# SPDX-License-Identifier: Apache-2.0
"""Generation against transformers: a sample of oracle_generation.py, and the recorded models."""

import json
from pathlib import Path
from typing import Any

import fuseq
import pytest
from covering import all_pairs, covering_rows, pairs_of

ORACLE_ROWS = 7
ORACLE_PROMPTS = 3


def test_the_covering_set_has_every_pair_of_values() -> None:
    factors = {"a": (1, 2, 3), "b": ("x", "y"), "c": (True, False, None), "d": (0, 1)}
    rows = covering_rows(factors)
    covered: set[Any] = set()
    for row in rows:
        covered |= pairs_of({name: factors[name].index(value) for name, value in row.items()})
    assert covered == all_pairs(factors)
    assert len(rows) < 3 * 2 * 3 * 2


def test_ids_and_scores_equal_those_of_transformers() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    import oracle_generation as oracle

    rows = covering_rows(oracle.FACTORS)
    sample = rows[:: len(rows) // ORACLE_ROWS]
    tally = oracle.run(ORACLE_PROMPTS, sample)
    assert tally.failures == []
    assert len(tally.ties) <= 1
    assert tally.prompts == ORACLE_PROMPTS * len(sample)


@pytest.mark.parametrize("folder", ["bart_tiny", "bart_tiny_hf", "gpt2_tiny", "gpt2_tiny_hf"])
def test_the_recorded_models_generate_what_was_recorded(golden: Path, folder: str) -> None:
    model = fuseq.load_model(golden / folder)
    expected = json.loads((golden / folder.removesuffix("_hf") / "expected.json").read_text())
    assert model.is_seq2seq == expected["seq2seq"]
    for case in expected["cases"]:
        options = fuseq.GenerationOptions(**case["options"])
        (rows,) = fuseq.generate(model, [case["prompt"]], options)
        assert [row.ids for row in rows] == [row["ids"] for row in case["hypotheses"]]
        for row, recorded in zip(rows, case["hypotheses"], strict=True):
            assert row.score == pytest.approx(recorded["score"], abs=1e-3)


@pytest.mark.parametrize("folder", ["bart_tiny", "gpt2_tiny"])
def test_the_recorded_logits_come_out(golden: Path, folder: str) -> None:
    expected = json.loads((golden / folder / "expected.json").read_text())["logits"]
    session = fuseq.Session(fuseq.load_model(golden / folder))
    prompt = fuseq.Prompt(expected["encoder_ids"], expected["decoder_ids"])
    logits = session.forward([prompt]).numpy()
    for ours, recorded in zip(logits, expected["first_columns"], strict=True):
        assert ours[: len(recorded)] == pytest.approx(recorded, abs=2e-4 * float(abs(logits).max()))
