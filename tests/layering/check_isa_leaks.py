# SPDX-License-Identifier: Apache-2.0
"""Checks that code compiled for one instruction set cannot be picked by the linker for another.

An inline function compiled with -mavx512f is a weak symbol: the linker may keep that copy for every
caller, also on machines without AVX-512. So the objects of the kernels may define weak symbols only
inside their own namespace, fuseq::v0::cpu::<instruction set>.

Usage: check_isa_leaks.py <build folder>
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

OBJECT_FOLDER = re.compile(r"fuseq_kernels_(\w+)\.dir")
WEAK = re.compile(r"^[0-9a-f]*\s+[WwVvu]\s+(?P<symbol>\S+)$")


def leaks(nm_output: str, isa: str) -> list[str]:
    """The weak symbols (mangled names, as `nm` prints them) outside the namespace of `isa`."""
    inside = re.compile(rf"^_Z[A-Z]*?N[rVKRO]*5fuseq2v03cpu{len(isa)}{isa}")
    return [
        match["symbol"]
        for match in map(WEAK.match, nm_output.splitlines())
        if match and not inside.match(match["symbol"])
    ]


def kernel_objects(build: Path) -> Iterator[tuple[str, Path]]:
    """Instruction set and path of every kernel object below a build folder."""
    for path in sorted(build.rglob("*.o")):
        match = OBJECT_FOLDER.search(path.as_posix())
        if match:
            yield match[1], path


def main(build: Path) -> int:
    """Prints all leaks; 1 if there are any, or nothing to check."""
    checked = 0
    found = []
    for isa, path in kernel_objects(build):
        command = ["nm", "--defined-only", str(path)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found += [f"{path}: {symbol}" for symbol in leaks(output, isa)]
        checked += 1
    if not checked:
        print(f"no kernel objects below {build}. Was the library built there?")
        return 1
    names = "\n".join(found)
    print(
        subprocess.run(["c++filt"], input=names, capture_output=True, text=True, check=True).stdout
    )
    print(f"weak symbols outside their namespace: {len(found)} in {checked} objects")
    return 1 if found else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1])))
