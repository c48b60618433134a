# SPDX-License-Identifier: Apache-2.0
"""Checks who includes and imports whom, against the table of docs/style.md.

Run by itself it prints what is wrong and exits with 1; pytest runs it as well.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Public headers that are no more than values and small services: what the lowest layers may see.
VALUE_TYPES = {
    f"fuseq/{name}.h"
    for name in (
        "context", "copy", "device", "dtype", "error", "export", "shape", "tensor", "token_bytes",
        "version",
    )
}  # fmt: skip
OPS = VALUE_TYPES | {
    "fuseq/kernels.h",
    "fuseq/ops.h",
    "fuseq/options.h",
    "fuseq/spec.h",
    "fuseq/token_sampler.h",
}
FILES = OPS | {"fuseq/files.h", "fuseq/model.h"}
MODEL = FILES

# Folder: (folders of csrc/src it may include, public headers it may include; None: all of them).
LAYERS: dict[str, tuple[set[str], set[str] | None]] = {
    "csrc/src/base": ({"base"}, VALUE_TYPES),
    "csrc/src/io": ({"base", "io"}, FILES),
    "csrc/src/kernels": ({"base", "kernels"}, OPS),
    "csrc/src/model": ({"base", "io", "kernels", "model"}, MODEL),
    "csrc/src/decode": ({"base", "io", "kernels", "model", "decode"}, None),
    "csrc/src/capi": ({"capi"}, None),
    "csrc/bindings": (set(), None),
    "csrc/include": (set(), None),
    "tests/embed": (set(), None),
    "examples": (set(), None),
    "bench": ({"kernels/ref", "kernels/quantized_rows.h"}, None),
}

# System headers that are not C++ standard ones are for what speaks to the machine, and plain C.
MACHINE_FOLDERS = (
    "csrc/src/base/",
    "csrc/src/kernels/cpu/simd/",
    "csrc/src/kernels/cpu/linear_avx512_bf16.cc",  # twins written for single instructions
    "csrc/src/kernels/cpu/linear_avx2_bytes.cc",
    "csrc/src/kernels/cpu/linear_vnni.cc",
    "csrc/include/fuseq/c_api.h",
    "bench/",
    "tests/embed/plain_c/",
    "examples/c/",
)
C_HEADERS_IN_CPP = re.compile(r"[a-z_0-9]+/?[a-z_0-9/]*\.h(pp)?$")
CUDA_HEADERS = re.compile(
    r"^(cuda|cublas|curand|cutlass|cub/|nv|thrust/|mma\.h|cooperative_groups)"
)
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)


def cpp_files(folder: Path) -> Iterator[Path]:
    """All C and C++ sources and headers below a folder."""
    for path in sorted(folder.rglob("*")):
        if path.suffix in {".h", ".c", ".cc", ".cu", ".cuh"}:
            yield path


def check_quoted(where: str, folder: str, header: str, path: Path, root: Path) -> Iterator[str]:
    """A header of our own must lie in a folder that `folder` may use."""
    allowed_folders, allowed_public = LAYERS[folder]
    if header.startswith("fuseq/"):
        if allowed_public is not None and header not in allowed_public:
            yield f'{where}: {folder} must not include the public header "{header}"'
        return
    own = path.parent / header
    if folder in {"csrc/bindings", "tests/embed", "bench", "examples"} and own.is_file():
        return
    if folder == "bench" and (root / "bench" / header).is_file():
        return
    if not any(header == a or header.startswith(f"{a}/") for a in allowed_folders):
        yield f'{where}: {folder} must not include "{header}"'


def check_kernels(where: str, name: str, header: str) -> Iterator[str]:
    """The twins of an op never see each other."""
    for ours, other in (("cpu", "cuda"), ("cuda", "cpu")):
        inside = name.startswith(f"csrc/src/kernels/{ours}/")
        if inside and header.startswith(f"kernels/{other}/"):
            yield f'{where}: kernels/{ours} must not include "{header}"'
    if name.startswith("csrc/src/kernels/cuda/device/") and not header.startswith(
        "kernels/cuda/device/"
    ):
        yield f'{where}: kernels/cuda/device includes nothing outside itself, got "{header}"'


def check_system(where: str, name: str, header: str) -> Iterator[str]:
    """System headers: CUDA in folders called cuda, pybind11 in bindings, POSIX near the machine."""
    if CUDA_HEADERS.match(header) and "/cuda/" not in name:
        yield f"{where}: <{header}> belongs into a folder called cuda"
    elif header.startswith("pybind11/"):
        if not name.startswith("csrc/bindings/"):
            yield f"{where}: <{header}> belongs into csrc/bindings"
    elif header.startswith(("gtest/", "gmock/", "benchmark/")):
        if not name.startswith(("tests/", "bench/")):
            yield f"{where}: <{header}> belongs into tests or bench"
    elif C_HEADERS_IN_CPP.match(header) and not name.startswith(MACHINE_FOLDERS):
        if "/cuda/" not in name:
            yield f"{where}: <{header}> belongs into csrc/src/base or csrc/src/kernels/cpu/simd"


def check_includes(root: Path) -> Iterator[str]:
    """Every include that the table does not allow."""
    for folder in LAYERS:
        for path in cpp_files(root / folder):
            name = path.relative_to(root).as_posix()
            text = path.read_text(encoding="utf-8")
            for match in INCLUDE.finditer(text):
                where = f"{name}:{text.count(chr(10), 0, match.start()) + 1}"
                kind, header = match.groups()
                if kind == "<":
                    if header.startswith("fuseq/"):  # an embedding app may write it so
                        continue
                    yield from check_system(where, name, header)
                else:
                    yield from check_quoted(where, folder, header, path, root)
                    yield from check_kernels(where, name, header)


# Package or module of python/fuseq: what of fuseq it may import; the others may import anything.
PYTHON_LAYERS = {
    "ops": {"_core"},
    "prompts": {"_core"},
    "samplers": {"_core", "samplers"},
    "hub": {"hub"},
    "callbacks": {"callbacks"},
    "tokenizers": {"_core", "hub", "tokenizers"},
    "presets": {"_core", "hub", "tokenizers", "presets"},
}


# Reads torch's own weight files, which only torch can: may import it inside a function.
TORCH_FILE_READER = ("presets", "checkpoint")


def imports(node: ast.AST, package: str, top_level: bool = True) -> Iterator[tuple[int, str, bool]]:
    """Line, absolute name and whether at the top level, of everything imported at run time."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield child.lineno, alias.name, top_level
        elif isinstance(child, ast.ImportFrom):
            base = child.module or ""
            if child.level:
                parents = package.split(".")[: len(package.split(".")) - child.level + 1]
                base = ".".join([*parents, base] if base else parents)
            for alias in child.names:
                yield child.lineno, f"{base}.{alias.name}", top_level
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield from imports(other, package, top_level)
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from imports(child, package, top_level and not inside)


def check_imports(root: Path) -> Iterator[str]:
    """Every Python import that the table does not allow."""
    source = root / "python"
    for path in sorted((source / "fuseq").rglob("*.py")):
        name = path.relative_to(root).as_posix()
        parts = path.relative_to(source / "fuseq").with_suffix("").parts
        package = ".".join(["fuseq", *parts[:-1]])
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for line, imported, top_level in imports(tree, package):
            where = f"{name}:{line}"
            top, _, rest = imported.partition(".")
            allowed = parts[0] == "training" or (parts == TORCH_FILE_READER and not top_level)
            if top == "torch" and not allowed:
                yield f"{where}: torch belongs into fuseq.training"
            if top == "fuseq" and parts[0] in PYTHON_LAYERS and rest:
                part = rest.split(".")[0]
                if part not in PYTHON_LAYERS[parts[0]]:
                    yield f"{where}: fuseq.{parts[0]} must not import fuseq.{part}"


def problems(root: Path = ROOT) -> list[str]:
    """One line per violation, with file and line."""
    return [*check_includes(root), *check_imports(root)]


def main() -> int:
    """Prints all violations; 1 if there are any."""
    found = problems()
    print("\n".join(found) if found else "layering: all includes and imports are allowed")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
