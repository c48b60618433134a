# SPDX-License-Identifier: Apache-2.0
"""`fuseq bench`: hands over to the native benchmark."""

import os
import shutil
from collections.abc import Sequence

from fuseq.cli.parser import find_in_package


def run(words: Sequence[str]) -> int:
    """Becomes the native program.

    Args:
        words: For the program.

    Raises:
        FileNotFoundError: There is no such program.
    """
    named = os.environ.get("FUSEQ_BENCH_BINARY")
    binary = named or find_in_package("bin", "fuseq-bench") or shutil.which("fuseq-bench")
    if binary is None or not os.access(binary, os.X_OK):
        raise FileNotFoundError(
            f"the program fuseq-bench must be there, got {binary or 'none'}. Build it with cmake "
            "-DFUSEQ_BENCH=ON, and name it in FUSEQ_BENCH_BINARY"
        )
    os.execv(binary, [str(binary), *words])
