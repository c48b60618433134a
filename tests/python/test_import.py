# SPDX-License-Identifier: Apache-2.0
"""What an import loads, and that the examples in the documentation run."""

import doctest
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import fuseq
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


def modules() -> list[str]:
    root = Path(fuseq.__file__).parent
    # Not rglob, which passes over folders that are links, as in an editable layout.
    found = [
        Path(folder, name) for folder, _, names in os.walk(root, followlinks=True) for name in names
    ]
    paths = sorted(path.relative_to(root).with_suffix("") for path in found if path.suffix == ".py")
    return [
        ".".join(("fuseq", *path.parts)).removesuffix(".__init__")
        for path in paths
        if path.name != "__main__"
    ]


def examples(module: str) -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    return [test for test in finder.find(import_module(module)) if test.examples]


@pytest.mark.parametrize("module", [name for name in modules() if examples(name)])
def test_the_examples_run(module: str, golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(golden.parents[1])
    results = doctest.testmod(import_module(module))
    assert results.attempted > 0
    assert results.failed == 0


def test_most_parts_have_examples() -> None:
    parts = {name.split(".")[1] for name in modules() if examples(name)}
    assert parts >= {"hub", "models", "ops", "prompts", "samplers", "tokenizers"}
