# SPDX-License-Identifier: Apache-2.0
"""Metrics of generated text."""

import sys
from typing import Any

import pytest
from fuseq.training import text_metrics

PREDICTIONS = ["the cat sat on the mat today", "a quick brown fox jumped over it"]
REFERENCES = ["the cat sat on a mat today", "the quick brown fox jumped over it"]
NAMES = ["bleu", "chrf", "exact_match", "rouge"]


def test_bleu_and_chrf_are_those_of_sacrebleu() -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    expected_bleu = sacrebleu.corpus_bleu(PREDICTIONS, [REFERENCES]).score
    expected_chrf = sacrebleu.corpus_chrf(PREDICTIONS, [REFERENCES]).score
    assert text_metrics.bleu(PREDICTIONS, REFERENCES) == {"bleu": expected_bleu}
    assert text_metrics.chrf(PREDICTIONS, REFERENCES) == {"chrf": expected_chrf}
    assert 0 < expected_bleu < 100 and 0 < expected_chrf < 100
    assert text_metrics.bleu(REFERENCES, REFERENCES)["bleu"] == pytest.approx(100)


def test_bleu_can_split_chinese() -> None:
    pytest.importorskip("sacrebleu")
    texts = ["今天天气很好。我们去公园。"], ["今天天气很好。他们去公园。"]
    assert text_metrics.bleu(*texts, tokenize="zh")["bleu"] > text_metrics.bleu(*texts)["bleu"]


def test_rouge_is_the_mean_of_f1() -> None:
    pytest.importorskip("rouge_score")
    # 6 of 7 words of each pair; pairs of words: 4 of 6 and 5 of 6; in order: 6 of 7
    expected = {"rouge1": 6 / 7, "rouge2": 4.5 / 6, "rougeL": 6 / 7}
    assert text_metrics.rouge(PREDICTIONS, REFERENCES) == pytest.approx(expected)


def test_exact_match_passes_over_space_around_texts() -> None:
    assert text_metrics.exact_match([" a b\n", "A b"], ["a b", "a b"]) == {"exact_match": 0.5}


@pytest.mark.parametrize(
    ("name", "package"),
    [("bleu", "sacrebleu"), ("chrf", "sacrebleu"), ("rouge", "rouge_score.rouge_scorer")],
)
def test_missing_package_is_named_with_its_install_line(
    monkeypatch: Any, name: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    top = package.partition(".")[0]
    with pytest.raises(ImportError, match=rf'{name}: .* {top} .*pip install "fuseq\[metrics\]"'):
        text_metrics.get(name)(PREDICTIONS, REFERENCES)


@pytest.mark.parametrize("name", NAMES)
def test_unequal_numbers_of_texts_are_an_error(name: str) -> None:
    metric = text_metrics.get(name)
    with pytest.raises(ValueError, match=rf"{name}: .* got 2 predictions and 1 references"):
        metric(PREDICTIONS, REFERENCES[:1])
    with pytest.raises(ValueError, match=rf"{name}: must get at least one text"):
        metric([], [])
    with pytest.raises(ValueError, match=rf"{name}\(references\): must be a list"):
        metric(PREDICTIONS, "the cat")


def test_unknown_metric_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(ValueError, match=r"bleu, chrf, exact_match, rouge, .* got 'meteor'"):
        text_metrics.get("meteor")
    with pytest.raises(TypeError, match="must be names or functions, got int"):
        text_metrics.get(3)  # type: ignore[arg-type]


def test_functions_are_metrics_too() -> None:
    def first_words(predictions: Any, references: Any) -> float:
        pairs = zip(predictions, references, strict=True)
        return sum(a.split()[0] == b.split()[0] for a, b in pairs) / len(predictions)

    def counts(predictions: Any, references: Any) -> dict[str, int]:
        return {"num_texts": len(predictions)}

    assert text_metrics.get(first_words) is first_words
    found = text_metrics.compute(["exact_match", first_words, counts], PREDICTIONS, REFERENCES)
    assert found == {"exact_match": 0.0, "first_words": 0.5, "num_texts": 2.0}


def test_two_numbers_of_one_name_are_an_error() -> None:
    with pytest.raises(ValueError, match="its own name, got exact_match twice"):
        text_metrics.compute(["exact_match", "exact_match"], PREDICTIONS, REFERENCES)
