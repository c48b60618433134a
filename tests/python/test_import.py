# SPDX-License-Identifier: Apache-2.0
"""What an import loads, and that the examples in the documentation run."""

import doctest
import subprocess
import sys
from pathlib import Path

import fuseq.models
import fuseq.ops
import pytest


def loaded_after(code: str) -> set[str]:
    script = f"import sys; {code}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    return set(done.stdout.decode().split())


def test_import_loads_neither_torch_nor_numpy_nor_the_engine() -> None:
    modules = loaded_after("import fuseq")
    assert "fuseq" in modules
    assert not {"torch", "numpy", "transformers", "fuseq._core"} & modules


def test_loading_a_model_and_generating_needs_no_torch(golden: Path) -> None:
    modules = loaded_after(
        f"import fuseq; m = fuseq.load_model({str(golden / 'bart_tiny_hf')!r}); "
        "fuseq.generate(m, [[5, 6]])"
    )
    assert not {"torch", "transformers"} & modules


@pytest.mark.parametrize("module", [fuseq.ops, fuseq.models])
def test_the_examples_run(module: object, golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(golden.parents[1])
    results = doctest.testmod(module)  # type: ignore[arg-type]
    assert results.attempted > 0
    assert results.failed == 0
