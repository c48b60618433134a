# SPDX-License-Identifier: Apache-2.0
"""Are the ids of two systems equal, or do they part at a near tie?"""

from __future__ import annotations

import itertools

from comparison.rivals import PeerError, PeerProcess

Ids = list[list[int]]
# Unequal ids count as a tie if their logits differ by less than this part of the largest logit.
TIE = 1e-4


def count_ids(ids: Ids, expected: Ids) -> dict[str, int]:
    """How many ids are those expected at their place, and how many are expected."""
    equal = 0
    for got, want in zip(ids, expected, strict=True):
        equal += sum(a == b for a, b in zip(got, want, strict=False))
    return {"equal_ids": equal, "ids": sum(map(len, expected))}


def check_lengths(ids: Ids, new_tokens: int) -> None:
    """All rows must have the length that was forced."""
    for row, got in enumerate(ids):
        if len(got) != new_tokens:
            raise PeerError(f"row {row}: must have {new_tokens} new ids, got {len(got)}")


def count_rows(ids: Ids, expected: Ids, prompts: Ids, judge: PeerProcess) -> dict[str, int]:
    """Rows with equal ids, and rows that part at a near tie. Anything else is a PeerError."""
    equal = ties = 0
    for row, (got, want, prompt) in enumerate(zip(ids, expected, prompts, strict=True)):
        if got == want:
            equal += 1
            continue
        pairs = enumerate(itertools.zip_longest(got, want))
        at, a, b = next((i, a, b) for i, (a, b) in pairs if a != b)
        if a is None or b is None:
            raise PeerError(f"row {row}: must have {len(want)} new ids, got {len(got)}")
        margin = judge.call("margin", ids=prompt, prefix=want[:at], a=a, b=b)["result"]
        if margin > TIE:
            raise PeerError(f"row {row}: id {at} must be {b}, got {a}; margin {margin:.1e}")
        ties += 1
    return {"equal_rows": equal, "tied_rows": ties}
