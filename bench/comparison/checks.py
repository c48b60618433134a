# SPDX-License-Identifier: Apache-2.0
"""Are the ids of a system right: those expected, or nearly as good in the eyes of the judge?"""

from __future__ import annotations

import dataclasses
import itertools

from comparison.rivals import PeerError, PeerProcess

Ids = list[list[int]]
# Greedy: the logit of each id may be below that of the judge's best id after the same ids by this
# part of the largest logit. The judge runs in float32; the key is the dtype of the system.
MARGINS = {"float32": 1e-4, "bfloat16": 0.1, "int8": 0.1}
# Beams: the judge's mean log-probability of a row's ids may be below that of its own row by this.
LOSSES = {"float32": 1e-3, "bfloat16": 0.4, "int8": 0.4}


def slack_of(model: str) -> float:
    """How many times the margins of int8 and bfloat16 a model may need: few columns round badly."""
    return 4.0 if "tiny" in model else 1.0


def count_ids(ids: Ids, expected: Ids) -> dict[str, int]:
    """How many ids are those expected at their place, and how many are expected."""
    equal = 0
    for got, want in zip(ids, expected, strict=True):
        equal += sum(a == b for a, b in zip(got, want, strict=False))
    return {"equal_ids": equal, "ids": sum(map(len, expected))}


def first_difference(got: list[int], want: list[int]) -> str:
    """Where two rows part, in words."""
    pairs = enumerate(itertools.zip_longest(got, want))
    at, a, b = next((i, a, b) for i, (a, b) in pairs if a != b)
    return f"id {at} is {a}, not {b}"


@dataclasses.dataclass
class Exam:
    """What the ids of every system in a row of the comparison must be.

    Attributes:
        judge: The peer that judges rows, in float32.
        prompts: What the ids follow.
        beams: 1 is greedy search.
        new_tokens: The most new ids of a row.
        min_new_tokens: The fewest.
        expected: The ids that need no judgement; those of the judge itself.
        end_id: A row of fewer than `new_tokens` ids must end with it.
        slack: Of the margins, for dtypes but float32.
        most: How many of the unequal rows are judged, spread over the list; None: all.
    """

    judge: PeerProcess
    prompts: Ids
    beams: int
    new_tokens: int
    min_new_tokens: int
    expected: Ids
    end_id: int | None = None
    slack: float = 1.0
    most: int | None = None

    def check_lengths(self, ids: Ids) -> None:
        """All rows must be there, with as many ids as were asked for."""
        if len(ids) != len(self.prompts):
            raise PeerError(f"must give {len(self.prompts)} rows, got {len(ids)}")
        for number, row in enumerate(ids):
            if not self.min_new_tokens <= len(row) <= self.new_tokens:
                wanted = f"{self.min_new_tokens} to {self.new_tokens}"
                raise PeerError(f"row {number}: must have {wanted} new ids, got {len(row)}")
            if len(row) < self.new_tokens and row[-1] != self.end_id:
                raise PeerError(f"row {number}: must end with id {self.end_id}, got {row[-1]}")

    def judge_row(self, number: int, row: list[int], dtype: str) -> None:
        """Is a row good enough for its dtype?"""
        fields = {"ids": self.prompts[number], "min_new_tokens": self.min_new_tokens}
        got = self.judge.call("judge", row=row, **fields)["result"]
        if self.beams == 1:
            slack = 1.0 if dtype == "float32" else self.slack
            what, found, most = "margin", got["margin"], MARGINS[dtype] * slack
        else:
            own = self.judge.call("judge", row=self.expected[number], **fields)["result"]
            what, found, most = "loss", own["score"] - got["score"], LOSSES[dtype]
        if not found <= most:  # no number is wrong too
            parting = ""
            if self.expected and row != self.expected[number]:
                parting = f" ({first_difference(row, self.expected[number])})"
            bound = f"{what} must be at most {most:g}"
            raise PeerError(f"row {number}: {bound}, got {found:.1e}{parting}")

    def check(self, ids: Ids, dtype: str) -> dict[str, int]:
        """Checks all rows of a system that runs in `dtype`.

        Returns:
            Counts of equal ids, of equal rows, and of rows that are near enough ("tied").

        Raises:
            PeerError: A row is wrong.
        """
        self.check_lengths(ids)
        unequal = [
            number
            for number, (got, want) in enumerate(zip(ids, self.expected, strict=True))
            if got != want
        ]
        step = 1 if self.most is None else max(1, -(-len(unequal) // self.most))
        for number in unequal[::step]:
            self.judge_row(number, ids[number], dtype)
        rows = {"equal_rows": len(ids) - len(unequal), "tied_rows": len(unequal)}
        return {**count_ids(ids, self.expected), **rows}
