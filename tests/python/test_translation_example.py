# SPDX-License-Identifier: Apache-2.0
"""The translation recipe trains, goes on after a kill, and translates as transformers does."""

import csv
import gzip
import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

for package in ("torch", "transformers", "sacrebleu"):
    pytest.importorskip(package)

RECIPE = Path(__file__).resolve().parents[2] / "examples" / "translation"
EPOCHS = 10
SENTENCES = 40  # of the test set
ARTICLES = [("A", "Ein"), ("The", "Der")]
COLOURS = [("red", "rote"), ("blue", "blaue"), ("old", "alte"), ("small", "kleine")]
NOUNS = [("dog", "Hund"), ("man", "Mann"), ("boy", "Junge"), ("tree", "Baum"), ("fox", "Fuchs")]
VERBS = [("sees", "sieht"), ("likes", "mag"), ("finds", "findet"), ("paints", "malt")]
PLACES = [("on the grass", "auf dem Gras"), ("at home", "zu Hause"), ("today", "heute")]


def write_corpus(folder: Path) -> None:
    """Sentences word by word, in the files of Multi30k."""
    draw = random.Random(3)
    folder.mkdir()
    for split, count in (("train", 320), ("val", 16), ("test_2016_flickr", SENTENCES)):
        pairs = []
        for _ in range(count):
            words = [draw.choice(kind) for kind in (ARTICLES, COLOURS, NOUNS, VERBS, NOUNS, PLACES)]
            pairs.append([" ".join(texts) + "." for texts in zip(*words, strict=True)])
        for column, language in enumerate(("en", "de")):
            text = "".join(f"{pair[column]}\n" for pair in pairs)
            (folder / f"{split}.{language}.gz").write_bytes(gzip.compress(text.encode()))


def run(program: Sequence[str], *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def run_without(package: str, program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs a program of the recipe as if a package were not installed."""
    code = (
        f"import runpy, sys; sys.modules[{package!r}] = None; sys.path.insert(0, {str(RECIPE)!r}); "
        f"runpy.run_path({str(RECIPE / program)!r}, run_name='__main__')"
    )
    return run(["-c", code], *arguments)


def train(*arguments: object) -> subprocess.CompletedProcess[str]:
    return run([str(RECIPE / "train.py")], "--small", *arguments)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("translation") / "corpus"
    write_corpus(folder)
    return folder


@pytest.fixture(scope="module")
def trained(corpus: Path) -> Path:
    """The output of a run that was killed, and started again."""
    output = corpus.parent / "output"
    options = ["--data", corpus, "--output", output, "--epochs", EPOCHS, "--learning-rate", "5e-3"]
    command = [sys.executable, str(RECIPE / "train.py"), "--small", *map(str, options)]
    log = corpus.parent / "killed.log"
    deadline = time.monotonic() + 120
    with (
        log.open("wb") as file,
        subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT) as first,
    ):
        while first.poll() is None and time.monotonic() < deadline:
            if list(output.glob("checkpoints/step-*/state.pt")):
                break
            time.sleep(0.05)
        first.kill()
    assert list(output.glob("checkpoints/step-*/state.pt")), log.read_text(encoding="utf-8")
    assert not (output / "model").exists()
    second = train(*options)
    assert second.returncode == 0, second.stderr
    assert "Epoch 1/" not in second.stderr
    return output


def test_the_loss_falls_and_every_epoch_is_in_the_history_once(trained: Path) -> None:
    with (trained / "history.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == list(range(EPOCHS))
    for name in ("loss", "val_loss", "perplexity"):
        assert float(rows[-1][name]) < 0.6 * float(rows[0][name])
    assert float(rows[-1]["val_bleu"]) > float(rows[0]["val_bleu"])


def test_the_preset_translates(trained: Path) -> None:
    import fuseq

    lm = fuseq.Seq2SeqLM.from_preset(trained / "model")
    assert lm.backbone.dtype == "float32"
    text = lm.generate("The old dog sees boy today.", sampler="greedy", max_new_tokens=20)
    assert text.endswith(".") and len(text.split()) > 2


def test_transformers_translates_the_same(trained: Path, corpus: Path) -> None:
    numbers = trained / "results.json"
    result = run(
        [str(RECIPE / "evaluate.py")], "--small", "--threads", 1, "--data", corpus,
        "--model", trained / "model", "--output", numbers,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(numbers.read_text(encoding="utf-8"))
    assert found["sentences"] == SENTENCES and found["versions"]["transformers"]
    bleu, chrf = found["signatures"]["bleu"], found["signatures"]["chrf"]
    assert bleu.startswith("nrefs:1|") and "tok:13a" in bleu and "nc:6" in chrf
    lines = result.stdout.splitlines()
    assert len(lines) == 2 + 4 + 1 + 2 and lines[-2:] == [bleu, chrf]

    untrained = untrained_bleu(trained / "model", corpus)
    rows = {(row["search"], row["dtype"]): row for row in found["results"]}
    assert len(rows) == 4
    for search in ("greedy", "beam 4"):
        row = rows[search, "float32"]
        others = SENTENCES - row["same_texts"]  # a near tie may fall to either side
        assert row["same_ids"] >= SENTENCES - 2 and others <= 2
        for metric in ("bleu", "chrf"):
            ours, theirs = row["fuseq"][metric], row["transformers"][metric]
            assert ours == pytest.approx(theirs, abs=0.01 + 3 * others)
        assert row["fuseq"]["bleu"] > untrained + 30, "nothing learned: equal numbers say little"


def untrained_bleu(preset: Path, corpus: Path) -> float:
    """Of the same model before it has learned anything."""
    import fuseq
    from sacrebleu.metrics import BLEU

    lm = fuseq.Seq2SeqLM.from_preset(preset, load_weights=False)
    english, german = (
        gzip.decompress((corpus / f"test_2016_flickr.{language}.gz").read_bytes()).decode()
        for language in ("en", "de")
    )
    texts = lm.generate(english.splitlines(), sampler="greedy", max_new_tokens=20)
    return float(BLEU().corpus_score(texts, [german.splitlines()]).score)


def test_without_transformers_half_of_the_table_is_left_out(trained: Path, corpus: Path) -> None:
    result = run_without(
        "transformers", "evaluate.py", "--data", corpus, "--model", trained / "model", "--small"
    )
    assert result.returncode == 0, result.stderr
    message, install, _, head, *_ = result.stdout.splitlines()
    assert message == "Left out transformers: no transformers found."
    assert install == "Run: pip install transformers torch"
    assert "BLEU, fuseq" in head and "transformers" not in head


@pytest.mark.parametrize(
    ("program", "package"),
    [("train.py", "torch"), ("train.py", "tokenizers"), ("evaluate.py", "sacrebleu")],
)
def test_a_missing_package_is_named_with_the_install_line(program: str, package: str) -> None:
    result = run_without(package, program)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert f"got no {package}." in result.stderr
    assert 'pip install "fuseq[train,metrics]"' in result.stderr


def test_every_vocabulary_is_trained_for_its_texts_and_size(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus")
    code = (
        f"import sys; sys.path.insert(0, {str(RECIPE)!r}); from pathlib import Path; "
        "from corpus import read_pairs; from translation_model import make_tokenizer; "
        "texts = read_pairs(Path(sys.argv[1]), 'train')['decoder_text']; "
        "first, again, larger = (make_tokenizer(texts, size) for size in (290, 290, 300)); "
        "assert first.get_vocabulary() == again.get_vocabulary(); "
        "print(first.vocabulary_size(), larger.vocabulary_size())"
    )
    result = run(["-c", code], tmp_path / "corpus")
    assert result.stdout.split() == ["290", "300"], result.stderr


def test_a_missing_or_uneven_corpus_is_named(tmp_path: Path) -> None:
    missing = train("--data", tmp_path / "none", "--output", tmp_path / "output")
    assert missing.returncode == 1
    assert "train.en.gz, train.de.gz" in missing.stderr and "multi30k/dataset" in missing.stderr
    write_corpus(tmp_path / "corpus")
    (tmp_path / "corpus" / "train.de.gz").write_bytes(gzip.compress(b"Ein Hund.\n"))
    uneven = train("--data", tmp_path / "corpus", "--output", tmp_path / "output")
    assert uneven.returncode == 1
    assert "must have as many lines, got 320 and 1" in uneven.stderr
