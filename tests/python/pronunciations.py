# SPDX-License-Identifier: Apache-2.0
"""Words of a dictionary as the ids of a trained spelling model, for tests on real weights."""

import json
from pathlib import Path

FOLDER = Path("weights") / "bart-g2p-us"
LEXICON = Path("corpora") / "g2p-misaki-en" / "us_gold.part90.json"


def read_words(test_data: Path, every: int) -> tuple[list[list[int]], list[str], str]:
    """Every so many words of the dictionary.

    Returns:
        The prompts, the right sounds of each, and the sound that each id stands for.
    """
    config = json.loads((test_data / FOLDER / "config.json").read_text())
    words = [
        (word, sound)
        for word, sound in json.loads((test_data / LEXICON).read_text()).items()
        if isinstance(sound, str) and word.isascii() and word.isalpha() and len(word) < 20
    ][::every]
    known = {letter: index for index, letter in enumerate(config["grapheme_chars"]) if index > 3}
    prompts = [[1, *(known.get(letter, 3) for letter in word), 2] for word, _ in words]
    return prompts, [sound for _, sound in words], config["phoneme_chars"]
