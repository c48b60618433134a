# SPDX-License-Identifier: Apache-2.0
"""A small set of choices in which every pair of values of any two factors occurs."""

import itertools
import random
from collections.abc import Mapping, Sequence
from typing import Any

Factors = Mapping[str, Sequence[Any]]
Row = dict[str, int]  # factor: index of its value


def pairs_of(row: Row) -> set[tuple[str, int, str, int]]:
    """The pairs of values that a row covers."""
    return {(a, row[a], b, row[b]) for a, b in itertools.combinations(row, 2)}


def all_pairs(factors: Factors) -> set[tuple[str, int, str, int]]:
    """Every pair of values of any two factors."""
    return {
        (a, i, b, j)
        for a, b in itertools.combinations(factors, 2)
        for i in range(len(factors[a]))
        for j in range(len(factors[b]))
    }


def covering_rows(factors: Factors, seed: int = 0, tries: int = 60) -> list[dict[str, Any]]:
    """Rows of values that cover all pairs: each row is the best of several greedy tries."""
    chance = random.Random(seed)
    left = all_pairs(factors)
    rows = []
    while left:
        candidates = [_greedy_row(factors, left, chance) for _ in range(tries)]
        row = max(candidates, key=lambda row: len(pairs_of(row) & left))
        left -= pairs_of(row)
        rows.append({factor: factors[factor][i] for factor, i in row.items()})
    return rows


def _greedy_row(factors: Factors, left: set[Any], chance: random.Random) -> Row:
    first = chance.choice(sorted(left))
    chosen = {first[0]: first[1], first[2]: first[3]}
    others = [factor for factor in factors if factor not in chosen]
    chance.shuffle(others)
    order = list(factors)

    def gain(factor: str, index: int) -> int:
        count = 0
        for other, i in chosen.items():
            early, late = sorted([(factor, index), (other, i)], key=lambda x: order.index(x[0]))
            count += (*early, *late) in left
        return count

    for factor in others:
        indices = list(range(len(factors[factor])))
        chance.shuffle(indices)
        chosen[factor] = max(indices, key=lambda index: gain(factor, index))
    return {factor: chosen[factor] for factor in factors}
