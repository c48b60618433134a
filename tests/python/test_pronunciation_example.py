# SPDX-License-Identifier: Apache-2.0
"""The script that trained the shipped preset runs from start to end; what it made is measured."""

import csv
import importlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import fuseq
import pytest

pytest.importorskip("torch")

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "pronunciation"
SOUNDS = {"a": "AE1", "e": "EH0", "i": "IH2", "b": "B", "d": "D", "k": "K", "n": "N", "t": "T"}
VOWELS, CONSONANTS = "aei", "bdknt"


def run(script: str, *arguments: object) -> str:
    command = [sys.executable, str(EXAMPLE / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def dictionary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real dictionary, or where it is not there one of words that are spelled as they sound."""
    shared = os.environ.get("FUSEQ_TEST_DATA")
    if shared and (Path(shared) / "corpora" / "cmudict").is_dir():
        return Path(shared) / "corpora" / "cmudict"
    folder = tmp_path_factory.mktemp("dictionary")
    draw = random.Random(7)
    words = sorted(
        {
            "".join(
                draw.choice(CONSONANTS) + draw.choice(VOWELS) for _ in range(draw.choice([2, 3]))
            )
            for _ in range(2500)
        }
    )
    draw.shuffle(words)
    lines = [f"{word} {' '.join(SOUNDS[letter] for letter in word)}\n" for word in words]
    (folder / "train.dict").write_text("".join(lines[:-400]) * 20)
    (folder / "dev.dict").write_text("".join(lines[-400:]))
    return folder


@pytest.fixture(scope="module")
def trained(dictionary: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("g2p")
    printed = run("train.py", "--small", "--data", dictionary, "--output", output)
    assert "parameters" in printed.splitlines()[0]
    assert [line.partition(":")[0] for line in printed.splitlines()[-3:]] == [
        "blockchain",
        "selfie",
        "tokenizer",
    ]
    return output


def test_the_loss_falls(trained: Path) -> None:
    with (trained / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    assert float(rows[-1]["loss"]) < 0.9 * float(rows[0]["loss"])
    assert float(rows[-1]["val_loss"]) < float(rows[0]["val_loss"])


def test_the_presets_are_whole(trained: Path) -> None:
    precise, rounded = (
        fuseq.Seq2SeqLM.from_preset(trained / name) for name in ("float32", "g2p_en")
    )
    assert (precise.backbone.model.dtype, rounded.backbone.model.dtype) == ("float32", "bfloat16")
    settings = rounded.generation_settings()
    assert settings is not None
    assert (settings.num_beams, settings.max_length) == (4, 64)
    spec = json.loads((trained / "g2p_en" / "spec.json").read_text())
    assert (spec["decoder_start_id"], spec["eos_ids"]) == (2, [2])


def test_errors_are_counted_for_each_number_of_beams(
    dictionary: Path, trained: Path, tmp_path: Path, example: Any
) -> None:
    few = tmp_path / "few"
    few.mkdir()
    lines = (dictionary / "dev.dict").read_text().splitlines(keepends=True)
    (few / "train.dict").write_text("".join(lines[60:70]))
    (few / "dev.dict").write_text("".join(lines[:60]))
    printed = run(
        "evaluate.py", "--data", few, "--presets", trained / "float32", trained / "g2p_en",
        "--beams", 1, 4, "--output", tmp_path / "errors.json",
    )  # fmt: skip
    rows = json.loads((tmp_path / "errors.json").read_text())
    assert [(row["dtype"], row["num_beams"]) for row in rows] == [
        ("float32", 1),
        ("float32", 4),
        ("bfloat16", 1),
        ("bfloat16", 4),
    ]
    assert len(printed.splitlines()) == 6
    words: Any = example.read_dictionary(few / "dev.dict")
    lm = fuseq.Seq2SeqLM.from_preset(trained / "g2p_en", dtype="float32")
    found = lm.generate([word.upper() for word in words], sampler="greedy")
    expected = example.error_rates(found, words.values())
    printed = run(
        "evaluate.py", "--data", few, "--presets", trained / "g2p_en", "--beams", 1,
        "--dtype", "float32", "--case", "upper", "--output", tmp_path / "errors.json",
    )  # fmt: skip
    (row,) = json.loads((tmp_path / "errors.json").read_text())
    assert {name: row[name] for name in expected} == pytest.approx(expected, abs=0.006)
    assert f"| {row['phoneme_error_rate']:.2f} |" in printed


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of the dictionary."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    return importlib.import_module("dictionary")


def test_any_listed_pronunciation_is_right_and_stress_may_be_left_out(example: Any) -> None:
    found = ["HH AH0 L OW1", "HH AH1 L OW1", "B", ""]
    right = [["HH EH0 L OW1", "HH AH0 L OW1"], ["HH AH0 L OW1"], ["B IY1", "K AE1 T"], ["EY1"]]
    assert example.error_rates(found, right) == {
        "word_error_rate": 75.0,  # the first is right
        "phoneme_error_rate": pytest.approx(100 * 3 / 11),  # stress, a vowel, a word
        "word_error_rate_without_stress": 50.0,
        "phoneme_error_rate_without_stress": pytest.approx(100 * 2 / 11),
    }


def test_a_dictionary_of_another_form_is_told(example: Any, tmp_path: Path) -> None:
    read_dictionary = example.read_dictionary
    path = tmp_path / "dev.dict"
    path.write_text("hello HH AH0 L OW1 # greeting\nhello(2) HH EH0 L OW1\n")
    assert read_dictionary(path) == {"hello": ["HH AH0 L OW1", "HH EH0 L OW1"]}
    path.write_text("hello HH AH0 L OW1\nhello\n")
    with pytest.raises(ValueError, match=r'dev\.dict, line 2: must be "word P H .*, got .hello.'):
        read_dictionary(path)


def test_one_file_is_split_by_the_words(example: Any, tmp_path: Path) -> None:
    draw = random.Random(3)
    words = sorted({"".join(draw.choices("abdeikn", k=6)) for _ in range(3000)})
    path = tmp_path / "cmudict.dict"
    path.write_text("".join(f"{word} AH0\n{word}(2) EH0\n" for word in words))
    train, dev = example.read_parts(path)
    assert not set(train) & set(dev)
    assert 0.77 < len(train) / len(words) < 0.83
    assert 0.08 < len(dev) / len(words) < 0.12
    assert set(map(tuple, train.values())) == {("AH0", "EH0")}
    assert example.read_parts(path) == (train, dev)
    with pytest.raises(SystemExit, match=r"--data: must be cmudict\.dict, or .*cmusphinx/cmudict"):
        example.read_parts(tmp_path / "none")
