# SPDX-License-Identifier: Apache-2.0
"""Reads Multi30k, captions of pictures in English and German."""

import gzip
import os
from pathlib import Path

ORIGIN = "https://github.com/multi30k/dataset, folder data/task1/raw"
SPLITS = ("train", "val", "test_2016_flickr")
LANGUAGES = ("en", "de")
MAX_NEW_TOKENS = 80  # of a translation; the longest one of 10,000 pieces has 52


def default_folder() -> Path | None:
    """Where the corpus lies if `--data` is not given; None where `FUSEQ_TEST_DATA` is not set."""
    shared = os.environ.get("FUSEQ_TEST_DATA")
    return Path(shared) / "corpora" / "multi30k" if shared else None


def read_pairs(folder: Path | None, split: str, count: int | None = None) -> dict[str, list[str]]:
    """Reads English sentences and their German translations, as `fit` takes them.

    Args:
        folder: Where `<split>.en.gz` and `<split>.de.gz` lie, a sentence a line.
        split: "train", "val", "test_2016_flickr" or another one that lies there.
        count: Only so many pairs, the first ones; None: all.

    Returns:
        `encoder_text`, English, and `decoder_text`, German.

    Raises:
        SystemExit: There are no such files, or they have other numbers of lines.
    """
    names = [f"{split}.{language}.gz" for language in LANGUAGES]
    if folder is None or not all((folder / name).is_file() for name in names):
        wanted = ", ".join(f"{name}.{language}.gz" for name in SPLITS for language in LANGUAGES)
        raise SystemExit(
            f"--data: must be a folder with {wanted}, got {folder}. Get Multi30k from {ORIGIN}"
        )
    english, german = (_read_lines(folder / name) for name in names)
    if len(english) != len(german):
        raise SystemExit(
            f"--data: {' and '.join(names)} must have as many lines, got {len(english)} and "
            f"{len(german)}"
        )
    return {"encoder_text": english[:count], "decoder_text": german[:count]}


def _read_lines(path: Path) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as lines:
        return [line.strip() for line in lines]
