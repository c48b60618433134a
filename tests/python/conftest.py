# SPDX-License-Identifier: Apache-2.0
"""What the tests share: folders, and small random models."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of the tiny models of this repository."""
    return ROOT / "tests" / "golden"


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real weights; the test is skipped where there is none."""
    folder = os.environ.get("FUSEQ_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("FUSEQ_TEST_DATA must name the folder of real weights")
    return Path(folder)


@pytest.fixture(scope="session")
def bart_tiny(golden: Path) -> Any:
    """The tiny BART in our own format."""
    import fuseq

    return fuseq.load_model(golden / "bart_tiny", num_threads=1)


@pytest.fixture(scope="session")
def gpt2_tiny(golden: Path) -> Any:
    """The tiny GPT-2 in our own format."""
    import fuseq

    return fuseq.load_model(golden / "gpt2_tiny", num_threads=1)
