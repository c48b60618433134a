# SPDX-License-Identifier: Apache-2.0
"""One order of summation: float32 results are equal bit for bit however they are computed."""

from pathlib import Path
from typing import Any

import fuseq
import numpy as np
import pytest
from fuseq.ops import Context

pytest.importorskip("torch")
pytest.importorskip("transformers")

import oracle_logits
import oracle_models

SHAPES = ["bart odd", "bart medium", "gpt2 medium"]


@pytest.fixture(scope="module", params=SHAPES)
def made(request: Any, tmp_path_factory: Any) -> Any:
    model = oracle_logits.make_model(request.param)
    folder = oracle_models.save(model, tmp_path_factory.mktemp("model"))
    return folder, oracle_logits.make_rows(model, 6, 50)


def assert_same(a: list[np.ndarray], b: list[np.ndarray]) -> None:
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert np.array_equal(x, y)


def test_a_ragged_batch_equals_its_rows_alone(made: Any) -> None:
    folder, rows = made
    model = fuseq.load_model(folder, num_threads=2)
    together = oracle_logits.forward(model, rows)
    assert_same(together, [oracle_logits.forward(model, [row])[0] for row in rows])


@pytest.mark.parametrize("pieces", [(1,) * 50, (7, 1, 1, 30, 2, 9), (49, 1)])
def test_a_cached_row_equals_an_uncached_one(made: Any, pieces: tuple[int, ...]) -> None:
    folder, rows = made
    model = fuseq.load_model(folder, num_threads=2)
    source, ids = rows[0]
    session = fuseq.Session(model)
    sequence = session.open(source, len(ids))
    outputs, at = [], 0
    for length in pieces:
        outputs.append(session.extend(sequence, ids[at : at + length]).numpy())
        at += length
    session.close(sequence)
    assert at == len(ids)
    assert_same(oracle_logits.forward(model, [rows[0]]), [np.concatenate(outputs)])


def test_any_number_of_threads_gives_equal_logits(made: Any) -> None:
    folder, rows = made
    results = [
        oracle_logits.forward(fuseq.load_model(folder, num_threads=count), rows)
        for count in (1, 2, 3, 7)
    ]
    for other in results[1:]:
        assert_same(results[0], other)


def needs(isa: str) -> None:
    try:
        Context(cpu_isa=isa)
    except RuntimeError:
        pytest.skip(f"this machine has no {isa}")


def test_avx2_equals_avx512(made: Any) -> None:
    needs("avx2")
    needs("avx512")
    folder, rows = made
    results = [
        oracle_logits.forward(fuseq.load_model(folder, num_threads=1, cpu_isa=isa), rows)
        for isa in ("avx2", "avx512")
    ]
    assert_same(*results)


def test_portable_code_is_near_the_others(made: Any) -> None:
    folder, rows = made
    results = [
        oracle_logits.forward(fuseq.load_model(folder, num_threads=1, cpu_isa=isa), rows[:2])
        for isa in ("portable", "automatic")
    ]
    for a, b in zip(*results, strict=True):
        assert np.abs(a - b).max() < oracle_logits.TOLERANCE * np.abs(b).max()


@pytest.mark.parametrize("beams", [1, 4])
def test_generating_a_batch_equals_generating_each_prompt(golden: Path, beams: int) -> None:
    options = fuseq.GenerationOptions(max_length=20, num_beams=beams, num_return_sequences=beams)
    prompts = [[3 + i, 50, 7, 9][: 1 + i % 4] for i in range(23)]
    for name in ("bart_tiny", "gpt2_tiny"):
        together = fuseq.generate(fuseq.load_model(golden / name, num_threads=3), prompts, options)
        alone = fuseq.load_model(golden / name, num_threads=1)
        for prompt, rows in zip(prompts, together, strict=True):
            (expected,) = fuseq.generate(alone, [prompt], options)
            assert [(row.ids, row.score) for row in rows] == [
                (row.ids, row.score) for row in expected
            ]


def test_greedy_search_equals_the_largest_logits(gpt2_tiny: fuseq.Model) -> None:
    ids = [5, 9, 77]
    session = fuseq.Session(gpt2_tiny)
    while len(ids) < 12 and ids[-1] != 2:
        logits = session.forward([ids]).numpy()
        ids = [*ids, int(logits[-1].argmax())]
    options = fuseq.GenerationOptions(max_length=12)
    assert fuseq.generate(gpt2_tiny, [[5, 9, 77]], options)[0][0].ids == ids
