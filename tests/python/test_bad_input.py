# SPDX-License-Identifier: Apache-2.0
"""What bad input gets: a clear error before work starts, and a model that goes on working."""

from typing import Any

import fuseq
import pytest
from fuseq import GenerationOptions, Prompt


def test_an_empty_list_gives_an_empty_list(bart_tiny: fuseq.Model, gpt2_tiny: fuseq.Model) -> None:
    assert fuseq.generate(bart_tiny, []) == []
    assert fuseq.generate(gpt2_tiny, [], GenerationOptions(num_beams=3)) == []


@pytest.mark.parametrize(
    ("prompt", "error", "message"),
    [
        ([5, 120], ValueError, r"prompts\[1\].*120"),
        ([5, -1], ValueError, r"prompts\[1\].*-1"),
        ([5, 2**31], ValueError, r"prompts\[1\]\[1\].*2147483648"),
        ([5, "6"], TypeError, r"prompts\[1\]\[1\].*str"),
        ([5, 6.0], TypeError, r"prompts\[1\]\[1\].*float"),
        ([5, True], TypeError, r"prompts\[1\]\[1\].*bool"),
        ("56", TypeError, r"prompts\[1\].*str"),
        (7, TypeError, r"prompts\[1\].*int"),
        ([5] * 33, ValueError, r"prompts\[1\].*33"),
        ([], ValueError, r"prompts\[1\].*empty"),
        (Prompt([5], [120]), ValueError, r"prompts\[1\].*120"),
        (Prompt([5], [5] * 33), ValueError, r"prompts\[1\].*33"),
        (Prompt([], [5]), ValueError, r"prompts\[1\].*encoder_ids"),
    ],
)
def test_a_bad_prompt_is_named(
    bart_tiny: fuseq.Model,
    prompt: Any,
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        fuseq.generate(bart_tiny, [[5, 6], prompt])
    assert len(fuseq.generate(bart_tiny, [[5, 6]])) == 1


def test_a_causal_model_takes_no_source(gpt2_tiny: fuseq.Model) -> None:
    with pytest.raises(ValueError, match="encoder_ids"):
        fuseq.generate(gpt2_tiny, [Prompt([5], [6])])
    with pytest.raises(ValueError, match="33"):
        fuseq.generate(gpt2_tiny, [[5] * 33])


@pytest.mark.parametrize(
    "options",
    [
        {"num_beams": 0},
        {"num_beams": -2},
        {"num_beams": 100_000},
        {"num_return_sequences": 0},
        {"num_return_sequences": 2},
        {"num_return_sequences": 3, "num_beams": 2},
        {"max_length": -1},
        {"max_length": 100},
        {"max_new_tokens": 100},
        {"max_new_tokens": -5},
        {"max_length": 10, "max_new_tokens": 5},
        {"max_length": 10, "min_length": 11},
        {"max_new_tokens": 5, "min_new_tokens": 6},
        {"min_length": -1},
        {"min_new_tokens": -1},
        {"length_penalty": float("nan")},
        {"length_penalty": float("inf")},
        {"repetition_penalty": 0.0},
        {"repetition_penalty": -1.0},
        {"repetition_penalty": float("nan")},
        {"no_repeat_ngram_size": -1},
        {"forced_bos_token_id": 120},
        {"forced_eos_token_id": -2},
        {"stop_token_ids": [120]},
        {"stop_token_ids": list(range(3, 60))},
        {"suppress_token_ids": [-1]},
        {"logit_bias": {120: 1.0}},
        {"logit_bias": {5: float("nan")}},
    ],
)
def test_an_option_out_of_range_or_contradictory_is_named(
    bart_tiny: fuseq.Model, options: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="|".join(options)):
        fuseq.generate(bart_tiny, [[5, 6]], GenerationOptions(**options))
    with pytest.raises(ValueError, match="|".join(options)):
        fuseq.Session(bart_tiny).submit([5, 6], GenerationOptions(**options))


@pytest.mark.parametrize(
    "weights", [{}, {"embed.tokens": None}, {"embed.tokens": [1.0]}, {3: None}]
)
def test_weights_must_be_arrays_under_names(
    gpt2_tiny: fuseq.Model, weights: dict[Any, Any]
) -> None:
    with pytest.raises((ValueError, TypeError, RuntimeError)):
        fuseq.Model.build(gpt2_tiny.spec, weights)


def test_an_unknown_weight_is_named(gpt2_tiny: fuseq.Model) -> None:
    with pytest.raises(ValueError, match=r"no\.such\.weight"):
        gpt2_tiny.weight("no.such.weight")


@pytest.mark.parametrize("threads", [-1, 5000])
def test_threads_out_of_range_are_an_error(golden: Any, threads: int) -> None:
    with pytest.raises(ValueError, match="num_threads"):
        fuseq.load_model(golden / "gpt2_tiny", num_threads=threads)
