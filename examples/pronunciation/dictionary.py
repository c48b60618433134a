# SPDX-License-Identifier: Apache-2.0
"""Reads the CMU Pronouncing Dictionary, and compares pronunciations with it."""

import argparse
import os
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

ORIGIN = "https://github.com/cmusphinx/cmudict"
Pronunciations = dict[str, list[str]]

_LINE = re.compile(r"(?P<word>[^\s(]+)(\(\d+\))? (?P<phonemes>[A-Z]+[012]?( [A-Z]+[012]?)*)")


def read_dictionary(path: Path) -> Pronunciations:
    """Reads a dictionary.

    Args:
        path: Lines `word P H O N E S`, further pronunciations as `word(2) …`; what follows " #" is
            a comment.

    Returns:
        The pronunciations of each word, as the dictionary prints them: {"hello": ["HH AH0 L OW1",
        "HH EH0 L OW1"]}.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A line is of another form.
    """
    words: Pronunciations = {}
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            text = line.partition(" #")[0].strip()
            found = _LINE.fullmatch(text)
            if found is None:
                raise ValueError(f'{path}, line {number}: must be "word P H O N E S", got {text!r}')
            words.setdefault(found["word"], []).append(found["phonemes"])
    return words


def add_data_option(parser: argparse.ArgumentParser) -> None:
    """Adds `--data`, which is where the tests' data lie if there are any."""
    shared = os.environ.get("FUSEQ_TEST_DATA")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(shared) / "corpora" / "cmudict" if shared else Path("cmudict.dict"),
        help=f"cmudict.dict of {ORIGIN}, or a folder with train.dict and dev.dict of its form",
    )


def read_parts(data: Path) -> tuple[Pronunciations, Pronunciations]:
    """Reads words to train on, and others to look at meanwhile.

    A dictionary in one file is split by a hash of the word: eight tenths, one, and one that stays
    untouched.

    Args:
        data: The file, or a folder with the two parts, train.dict and dev.dict.

    Returns:
        The two parts.

    Raises:
        SystemExit: There is neither.
    """
    if (data / "train.dict").is_file() and (data / "dev.dict").is_file():
        return read_dictionary(data / "train.dict"), read_dictionary(data / "dev.dict")
    if not data.is_file():
        raise SystemExit(
            f"--data: must be cmudict.dict, or a folder with train.dict and dev.dict, got {data}. "
            f"Get the dictionary from {ORIGIN}"
        )
    parts: tuple[Pronunciations, Pronunciations, Pronunciations] = ({}, {}, {})
    for word, pronunciations in read_dictionary(data).items():
        tenth = zlib.crc32(word.encode()) % 10
        parts[0 if tenth < 8 else tenth - 7][word] = pronunciations
    return parts[0], parts[1]


def without_stress(pronunciation: str) -> str:
    """A pronunciation without the digits that tell the stress of vowels."""
    return re.sub("[012]", "", pronunciation)


def edit_distance(one: Sequence[str], other: Sequence[str]) -> int:
    """The fewest insertions, removals and changes that make one sequence the other."""
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        previous, row[0] = row[0], i
        for j, right in enumerate(other, 1):
            change = previous + (left != right)
            previous, row[j] = row[j], min(change, row[j] + 1, row[j - 1] + 1)
    return row[-1]


def error_rates(found: Iterable[str], right: Iterable[Sequence[str]]) -> Mapping[str, float]:
    """The shares of wrong words and wrong phonemes.

    A word is right if it equals any of its pronunciations. Wrong phonemes are the edit distance to
    the nearest pronunciation, the shortest of several, divided by the phonemes of these.

    Args:
        found: A pronunciation of each word.
        right: The pronunciations of each word that count as right.

    Returns:
        `word_error_rate` and `phoneme_error_rate`, in per cent, and both `…_without_stress`.
    """
    pairs = list(zip(found, right, strict=True))
    rates = {}
    for suffix, form in (("", str), ("_without_stress", without_stress)):
        wrong_words = wrong_phonemes = phonemes = 0
        for text, accepted in pairs:
            guess = form(text).split()
            distances = [
                (edit_distance(guess, form(one).split()), len(one.split())) for one in accepted
            ]
            distance, length = min(distances)
            wrong_words += distance > 0
            wrong_phonemes += distance
            phonemes += length
        rates[f"word_error_rate{suffix}"] = 100 * wrong_words / len(pairs)
        rates[f"phoneme_error_rate{suffix}"] = 100 * wrong_phonemes / phonemes
    return rates
