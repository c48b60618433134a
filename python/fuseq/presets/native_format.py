# SPDX-License-Identifier: Apache-2.0
"""Folders of our own: `spec.json` and `model.safetensors`, read and written by the engine alone."""

from pathlib import Path

from fuseq._core import Model

SPEC_FILE = "spec.json"


def load_model(folder: Path, *, dtype: str | None, num_threads: int | None, cpu_isa: str) -> Model:
    """Loads a folder of our own."""
    return Model.load(folder, dtype=dtype, num_threads=num_threads, cpu_isa=cpu_isa)
