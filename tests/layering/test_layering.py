# SPDX-License-Identifier: Apache-2.0
"""The layers hold, and the checks see it when they do not."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def load(name: str) -> ModuleType:
    path = Path(__file__).parent / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


layering = load("check_layering")
isa_leaks = load("check_isa_leaks")


def test_all_includes_and_imports_are_allowed() -> None:
    assert layering.problems() == []


@pytest.mark.parametrize(
    ("file", "line", "says"),
    [
        ("csrc/src/base/arena.cc", '#include "io/safetensors.h"', "base must not include"),
        ("csrc/src/base/arena.cc", '#include "fuseq/session.h"', "the public header"),
        ("csrc/src/io/x.cc", '#include "kernels/check.h"', "io must not include"),
        ("csrc/src/kernels/norm.cc", '#include "model/layer.h"', "kernels must not include"),
        ("csrc/src/model/layer.cc", '#include "decode/loop.h"', "model must not include"),
        ("csrc/src/capi/c_api.cc", '#include "base/message.h"', "capi must not include"),
        ("csrc/bindings/bind_ops.cc", '#include "kernels/check.h"', "bindings must not include"),
        ("tests/embed/app/main.cc", '#include "base/message.h"', "embed must not include"),
        ("bench/decode/main.cc", '#include "model/layer.h"', "bench must not include"),
        ("csrc/src/kernels/cpu/x.cc", '#include "kernels/cuda/x.h"', "kernels/cpu must not"),
        ("csrc/src/kernels/norm.cc", "#include <cuda_runtime.h>", "folder called cuda"),
        ("csrc/src/model/layer.cc", "#include <pybind11/pybind11.h>", "csrc/bindings"),
        ("csrc/src/model/layer.cc", "#include <sys/mman.h>", "belongs into csrc/src/base"),
        ("csrc/src/kernels/cpu/x.cc", "#include <immintrin.h>", "belongs into csrc/src/base"),
        ("csrc/src/io/x.cc", "#include <gtest/gtest.h>", "tests or bench"),
        ("python/fuseq/models/x.py", "import torch", "fuseq.training"),
        (
            "python/fuseq/models/x.py",
            "def f() -> None:\n    from torch import nn",
            "fuseq.training",
        ),
        ("python/fuseq/presets/checkpoint.py", "import torch", "fuseq.training"),
        ("python/fuseq/ops.py", "from fuseq.models import task", "must not import fuseq.models"),
        ("python/fuseq/presets/x.py", "from ..models import task", "must not import fuseq.models"),
    ],
)
def test_a_planted_violation_is_found(tmp_path: Path, file: str, line: str, says: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(f"{line}\n")
    found = layering.problems(tmp_path)
    assert len(found) == 1
    assert found[0].startswith(f"{file}:")
    assert says in found[0]


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("csrc/src/base/file.cc", "#include <sys/mman.h>"),
        ("csrc/src/model/layer.cc", '#include "kernels/check.h"\n#include <vector>'),
        ("csrc/src/kernels/cuda/norm.cu", "#include <cuda_runtime.h>"),
        ("csrc/bindings/module.cc", "#include <pybind11/pybind11.h>"),
        ("python/fuseq/training/trainer.py", "import torch"),
        ("python/fuseq/presets/checkpoint.py", "def f() -> None:\n    import torch"),
        ("python/fuseq/presets/x.py", "if TYPE_CHECKING:\n    from fuseq.models import task"),
        ("python/fuseq/cli/generate.py", "from fuseq import models, ops"),
    ],
)
def test_what_is_allowed_passes(tmp_path: Path, file: str, line: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(f"{line}\n")
    assert layering.problems(tmp_path) == []


def test_a_weak_symbol_outside_its_namespace_is_a_leak() -> None:
    output = "\n".join(
        [
            "0000000000000000 T _ZN5fuseq2v03cpu4avx24normERKNS0_8NormArgsE",
            "0000000000000000 W _ZN5fuseq2v03cpu4avx24rowsEv",
            "0000000000000010 W _ZN5fuseq2v03cpu6avx5124rowsEv",
            "0000000000000000 W _ZNSt6vectorIfSaIfEED1Ev",
            "0000000000000000 u _ZGVZN5fuseq2v03cpu4avx24rowsEvE1x",
        ]
    )
    assert isa_leaks.leaks(output, "avx2") == [
        "_ZN5fuseq2v03cpu6avx5124rowsEv",
        "_ZNSt6vectorIfSaIfEED1Ev",
    ]
