# SPDX-License-Identifier: Apache-2.0
"""The recorded presets of KerasHub, and what the tests of them share."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from fuseq import _core
from fuseq.models.families import FAMILIES
from fuseq.presets import keras_format
from fuseq.presets.family import Family

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "keras_presets"
EXACT = ("bart_017", "bart_032", "bart_032_bfloat16", "gpt2_017", "gpt2_032", "gpt2_032_sharded")
INT8 = "gpt2_032_int8"


def load(folder: Path, dtype: str | None = None) -> _core.Model:
    """The model of a preset."""
    return keras_format.load_model(
        folder, FAMILIES, dtype=dtype, num_threads=1, cpu_isa="automatic"
    )


def family_of(model: _core.Model) -> Family:
    """Its tables."""
    return FAMILIES[model.family]


def expected(name: str) -> dict[str, Any]:
    """What KerasHub computed."""
    value: dict[str, Any] = json.loads((FOLDER / name / "expected.json").read_text("utf-8"))
    return value


def copy(name: str, folder: Path) -> Path:
    """A preset that a test may spoil."""
    return shutil.copytree(FOLDER / name, folder / name)


def largest_difference(
    model: _core.Model, record: dict[str, Any], *, cache_dtype: str | None = None
) -> float:
    """Of our logits and the recorded ones."""
    rows = record["rows"]
    encoder = rows.get("encoder", [[] for _ in rows["decoder"]])
    session = _core.Session(model, num_threads=1, cache_dtype=cache_dtype)
    largest = 0.0
    for encoder_ids, decoder_ids, theirs in zip(
        encoder, rows["decoder"], record["logits"], strict=True
    ):
        prompt = _core.Prompt(encoder_ids, decoder_ids)
        ours = session.forward([prompt]).numpy().reshape(len(decoder_ids), -1)
        difference = ours[:, :: record["every"]] - np.asarray(theirs)
        largest = max(largest, float(np.abs(difference).max()))
    return largest


def same_weights(a: _core.Model, b: _core.Model) -> bool:
    """Whether two models have the same spec and weights, bit for bit."""
    names = [name for name, _, _ in _core.weight_table(a.spec)]
    return a.spec == b.spec and all(
        np.array_equal(a.weight(name).float().numpy(), b.weight(name).float().numpy())
        for name in names
    )
