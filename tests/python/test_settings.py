# SPDX-License-Identifier: Apache-2.0
"""Settings of a folder of ours under the sampler "preset": lengths, ends and draws."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import fuseq
import numpy as np
import pytest
from fuseq.cli import main
from fuseq.models import CausalLM
from tiny_tasks import SOURCES, bart, gpt2


def saved(task: CausalLM, folder: Path, **fields: Any) -> Any:
    """The task with settings, as a folder has them."""
    options = fuseq.GenerationOptions(**fields)
    task.save_to_preset(folder, format="fuseq", generation_options=options)
    lm = type(task).from_preset(folder, num_threads=1)
    lm.compile(sampler="preset")
    return lm


def stepping(task: CausalLM) -> Any:
    """The task with its step overridden by one that does the same."""
    return patch.object(task, task.step_method, wraps=getattr(task, task.step_method))


def test_settings_without_a_length_leave_it_to_the_preprocessor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = saved(gpt2(), tmp_path, repetition_penalty=1.5, use_default_stop_ids=False)
    row = task.generate("the fox", return_scores=True)
    assert len(row.token_ids) == 13  # of 20 positions
    with stepping(task):
        assert task.generate("the fox") == row.text
    assert main(["generate", "--preset", str(tmp_path), "--json", "the fox"]) == 0
    assert json.loads(capsys.readouterr().out)["token_ids"] == row.token_ids


def test_the_models_own_end_ids_end_rows_that_are_stepped_in_python(tmp_path: Path) -> None:
    end = gpt2().end_token_ids()[0]
    bias = {end: 1000.0}
    task = saved(gpt2(), tmp_path, max_length=12, logit_bias=bias, min_new_tokens=3)
    inputs = {"token_ids": [[end, 67, 70, *[0] * 9]], "padding_mask": [[1] * 3]}
    engine = task.generate(inputs)
    assert engine["padding_mask"].sum() == 3 + 4
    assert engine["token_ids"][0, 6] == end
    with stepping(task):
        stepped = task.generate(inputs)
    for key, values in engine.items():
        np.testing.assert_array_equal(values, stepped[key])


def test_a_seed_of_the_settings_draws_anew_for_each_input_and_alike_in_each_call(
    tmp_path: Path,
) -> None:
    task = saved(gpt2(), tmp_path, do_sample=True, seed=4, max_length=9)
    texts = ["the"] * 300
    whole = task.generate(texts)
    assert whole[:44] != whole[256:]
    assert task.generate(texts) == whole
    assert task.generate(texts, progress_bar=True) == whole
    assert task.generate(text for text in texts) == whole
    with stepping(task):
        assert task.generate(texts[:40]) == whole[:40]


def test_a_least_length_of_the_settings_gives_way_to_a_shorter_row_that_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = saved(bart(), tmp_path, max_length=18, min_length=16)
    end = task.end_token_ids()[0]
    bias = {end: 1000.0}
    rows = task.generate(SOURCES, max_length=9, logit_bias=bias, return_scores=True)
    assert [len(row.token_ids) for row in rows] == [9] * 3
    arrays = {"encoder_token_ids": [[0, 67, 2]], "decoder_token_ids": [[2, 0, 0, 0, 0]]}
    masks = {"decoder_padding_mask": [[1, 1]]}
    found = task.generate({**arrays, **masks}, logit_bias=bias)
    assert found["decoder_padding_mask"].sum() == 5
    command = ["generate", "--preset", str(tmp_path), "--json", "--max-length", "9", "fox"]
    assert main(command) == 0
    assert len(json.loads(capsys.readouterr().out)["token_ids"]) == 9
    for least in ({"min_length": 10}, {"min_length": 16}):  # of the call
        with pytest.raises(ValueError, match="min_length: must be at most max_length 9, got 1"):
            task.generate(SOURCES, max_length=9, **least)
        with pytest.raises(ValueError, match="min_length: must be at most max_length 5, got 1"):
            task.generate({**arrays, **masks}, **least)
    assert main([*command, "--min-length", "10"]) == 1
    assert "min_length: must be at most max_length 9, got 10" in capsys.readouterr().err


def test_a_least_number_of_new_tokens_gives_way_too(tmp_path: Path) -> None:
    task = saved(gpt2(), tmp_path, max_new_tokens=8, min_new_tokens=7)
    row = task.generate("fox", max_new_tokens=3, return_scores=True)
    assert len(row.token_log_probs) == 3
    with pytest.raises(ValueError, match="min_new_tokens: must be at most max_new_tokens 3, got 7"):
        task.generate("fox", max_new_tokens=3, min_new_tokens=7)
