# SPDX-License-Identifier: Apache-2.0
"""Logits against transformers; the larger shapes are in oracle_logits.py, run by hand."""

from pathlib import Path
from typing import Any

import fuseq
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import oracle_logits
import oracle_models


@pytest.fixture(scope="module", params=oracle_logits.SHAPES)
def pair(request: Any, tmp_path_factory: Any) -> Any:
    model = oracle_logits.make_model(request.param)
    return model, oracle_models.save(model, tmp_path_factory.mktemp("model"))


def test_ragged_float32_logits_equal_those_of_transformers(pair: Any) -> None:
    model, folder = pair
    rows = oracle_logits.make_rows(model, 5, 60)
    ours = fuseq.load_model(folder, num_threads=2)
    assert oracle_logits.largest_difference(model, ours, rows) < oracle_logits.TOLERANCE


def test_bfloat16_logits_are_near_those_of_transformers(pair: Any) -> None:
    model, folder = pair
    rows = oracle_logits.make_rows(model, 3, 20)
    ours = fuseq.load_model(folder, num_threads=1, dtype="bfloat16")
    assert ours.dtype == "bfloat16"
    difference = oracle_logits.largest_difference(model, ours, rows)
    assert 0 < difference < oracle_logits.BFLOAT16_TOLERANCE


def test_a_half_precision_checkpoint_is_read_as_it_is_stored(tmp_path: Path) -> None:
    model = oracle_logits.make_model("gpt2 tiny").bfloat16()
    ours = fuseq.load_model(oracle_models.save(model, tmp_path))
    assert ours.dtype == "bfloat16"
    wte = model.transformer.wte.weight.detach().float().numpy()
    assert np.array_equal(ours.weight("embed.tokens").float().numpy(), wte)

    ours = fuseq.load_model(oracle_models.save(model.half(), tmp_path))
    assert ours.dtype == "float32"
    rows = oracle_logits.make_rows(model, 2, 20)
    assert oracle_logits.largest_difference(model.float(), ours, rows) < oracle_logits.TOLERANCE
