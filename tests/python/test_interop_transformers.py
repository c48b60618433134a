# SPDX-License-Identifier: Apache-2.0
"""A sample of interop_transformers.py: what tasks export, transformers opens."""

from pathlib import Path

import pytest

pytest.importorskip("transformers")

import interop_transformers


@pytest.mark.parametrize("name", ["bart_032", "gpt2_032"])
def test_an_exported_folder_is_the_same_model_in_transformers(name: str, tmp_path: Path) -> None:
    row = interop_transformers.compare(
        interop_transformers.GOLDEN / name, tmp_path / "exported", "float32"
    )
    assert row["largest logits difference"] < interop_transformers.TOLERANCE
    assert row["texts with equal tokens"] == row["texts"]
    assert row["texts generated equally"] == row["texts"]
