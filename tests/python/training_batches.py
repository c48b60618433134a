# SPDX-License-Identifier: Apache-2.0
"""Texts to train on, and what to compare their batches with."""

from collections import Counter
from typing import Any

import numpy as np
from fuseq.models import CausalLM
from fuseq.models.preprocessor import Preprocessor
from fuseq.training.batches import TrainingBatch
from fuseq.training.data import read_training_data

WORDS = ["the", "quick", "fox", "inn", "a", "brown", "dog"]


def make_texts(count: int, seed: int = 1) -> list[str]:
    """Texts of zero words to five."""
    draw = np.random.default_rng(seed)
    return [" ".join(draw.choice(WORDS, size)) for size in draw.integers(0, 6, count)]


COUNT = 23
SOURCES, TARGETS = make_texts(COUNT), make_texts(COUNT, seed=2)
PAIRS = {"encoder_text": SOURCES, "decoder_text": TARGETS}


def without_preprocessor(task: CausalLM) -> CausalLM:
    return type(task)(task.backbone, preprocessor=None, compile=False)


def with_preprocessor(task: CausalLM, preprocessor: Preprocessor) -> CausalLM:
    return type(task)(task.backbone, preprocessor, compile=False)


def texts_of(task: CausalLM) -> Any:
    return PAIRS if task.backbone.is_seq2seq else TARGETS


def layout_of(task: CausalLM, texts: Any = None) -> tuple[dict[str, Any], Any, Any]:
    """KerasHub's arrays of the configured lengths."""
    preprocessor: Any = task.preprocessor
    found: tuple[dict[str, Any], Any, Any] = preprocessor(texts or texts_of(task))
    return found


def batches_of(task: CausalLM, *data: Any, epoch: int = 0, **options: Any) -> list[TrainingBatch]:
    return list(read_training_data(task, *data, **options).epoch(epoch))


def rows_of(batches: list[TrainingBatch]) -> list[tuple[Any, ...]]:
    """Real ids of each row with labels and weights, without padding."""
    rows = []
    for batch in batches:
        names = sorted(name for name in batch.inputs if name.endswith("token_ids"))
        for index in range(batch.num_rows):
            row: list[Any] = []
            for name in names:
                mask = batch.inputs[name.replace("token_ids", "padding_mask")][index]
                row.append(tuple(batch.inputs[name][index][mask].tolist()))
            counted = batch.weights[index] != 0
            row.append(tuple(batch.targets[index][counted].tolist()))
            row.append(tuple(batch.weights[index][counted].tolist()))
            rows.append(tuple(row))
    return rows


def assert_equal(got: list[TrainingBatch], expected: list[TrainingBatch]) -> None:
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        assert one.inputs.keys() == other.inputs.keys()
        for name, value in one.inputs.items():
            np.testing.assert_array_equal(value, other.inputs[name])
        np.testing.assert_array_equal(one.targets, other.targets)
        np.testing.assert_array_equal(one.weights, other.weights)
        assert (one.num_rows, one.num_positions) == (other.num_rows, other.num_positions)


def stack(batches: list[TrainingBatch]) -> Counter[tuple[Any, ...]]:
    return Counter(rows_of(batches))


def cut(value: Any, size: int = 5) -> list[Any]:
    """Batches of texts, arrays or dicts of them."""
    if isinstance(value, dict):
        columns = {key: cut(column, size) for key, column in value.items()}
        rows = zip(*columns.values(), strict=True)
        return [dict(zip(columns, row, strict=True)) for row in rows]
    return [value[start : start + size] for start in range(0, COUNT, size)]
