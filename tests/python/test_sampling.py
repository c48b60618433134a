# SPDX-License-Identifier: Apache-2.0
"""Draws through generate: samples of the oracles, and what KerasHub was recorded to do."""

import json
from pathlib import Path
from typing import Any

import fuseq
import numpy as np
import pytest

KERAS_HUB = Path(__file__).resolve().parents[1] / "golden" / "keras_hub"


@pytest.mark.parametrize("threads", [1, 3])
def test_draws_have_the_distribution_of_their_sampler(threads: int) -> None:
    pytest.importorskip("torch")
    import oracle_sampling as oracle

    for index, name in enumerate(oracle.SAMPLERS):
        row = oracle.test_distribution(name, 11, threads, 200_000, 50 * threads + index)
        assert row["draws"] >= 200_000
        assert row["p"] > oracle.LEAST_P, row
    for index, name in enumerate(("random", "all")):
        row = oracle.test_distribution(name, 50265, threads, 20_000, 70 * threads + index)
        assert row["p"] > oracle.LEAST_P, row


def test_the_chi_square_test_can_fail() -> None:
    pytest.importorskip("torch")
    import oracle_sampling as oracle

    p = oracle.expected(oracle.scores_of(11), {})
    counts = np.rint(p * 200_000).astype(np.int64)
    assert oracle.p_value(counts, p) > 0.99
    counts[0] += 1500
    assert oracle.p_value(counts, p) < 1e-4
    assert oracle.p_value(counts, oracle.expected(oracle.scores_of(11), {"top_k": 3})) == 0


@pytest.mark.parametrize("folder", ["bart_tiny", "gpt2_tiny"])
def test_a_seed_repeats_in_every_composition_of_a_batch(golden: Path, folder: str) -> None:
    import oracle_sampling as oracle

    assert oracle.compare_compositions(golden / folder, 200, 9) > 1000


def test_folders_with_settings_generate_as_transformers_does() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    import oracle_presets as oracle

    result = oracle.run(is_base=False, prompts=4, draws=5000)
    assert oracle.passed(result), json.dumps(result, indent=2)


def contrastive_cases() -> list[dict[str, Any]]:
    cases = json.loads((KERAS_HUB / "contrastive.json").read_text())["cases"]
    assert sum(not case["is_greedy"] for case in cases) > 50
    return list(cases)


@pytest.mark.parametrize("name", ["bart", "gpt2"])
def test_contrastive_search_is_that_of_keras_hub(name: str) -> None:
    model = fuseq.load_model(KERAS_HUB / name)
    for case in contrastive_cases():
        if case["model"] != name:
            continue
        options = fuseq.GenerationOptions(
            max_length=case["max_length"],
            temperature=case["temperature"],
            use_default_stop_ids=False,
            stop_token_ids=case["stop_ids"],
        )
        if case["alpha"] > 0:
            options.penalty_alpha = case["alpha"]
            options.top_k = case["k"]
        prompt = fuseq.Prompt(case["encoder_ids"] or (), case["decoder_ids"])
        ((row,),) = fuseq.generate(model, [prompt], options)
        assert row.ids == case["ids"]


def test_the_op_draws_as_generate_does() -> None:
    import oracle_sampling as oracle

    model = oracle.constant_model(11, 1)
    scores = oracle.scores_of(11)
    fields = {"temperature": 0.8, "top_k": 6, "top_p": 0.9}
    options = fuseq.GenerationOptions(do_sample=True, seed=3, max_new_tokens=40, **fields)
    rows = fuseq.generate(model, [[1], [2], [3]], options)
    for step in range(40):
        ids = fuseq.ops.sample(np.tile(scores, (3, 1)), seed=3, step=step, **fields)
        assert ids.tolist() == [row.ids[1 + step] for (row,) in rows]
