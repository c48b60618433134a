# SPDX-License-Identifier: Apache-2.0
"""Keeping freed memory while training on a CPU.

A step frees and takes the same large blocks again: activations, gradients, logits. glibc gives
each of them back to the system at once, and every page of the next one has to be cleared and
mapped anew, which can cost as much as the arithmetic of a layer. `bench/NOTES.md` has figures.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

# Parameters of mallopt(3), and glibc's usual values.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_KEEP = {_MMAP_MAX: 0, _TRIM_THRESHOLD: -1, _TOP_PAD: 64 << 20}
_USUAL = {_MMAP_MAX: 65536, _TRIM_THRESHOLD: 128 << 10, _TOP_PAD: 0}


@contextmanager
def freed_memory_kept(*, enabled: bool) -> Iterator[None]:
    """Lets the process keep what it frees, inside; gives it back to the system at the end.

    Args:
        enabled: Whether to do anything. Elsewhere than on glibc nothing is done either.
    """
    library = ctypes.CDLL(None)
    if not enabled or not hasattr(library, "mallopt") or not hasattr(library, "malloc_trim"):
        yield
        return
    try:
        for parameter, value in _KEEP.items():
            library.mallopt(parameter, value)
        yield
    finally:
        for parameter, value in _USUAL.items():
            library.mallopt(parameter, value)
        library.malloc_trim(0)
