# SPDX-License-Identifier: Apache-2.0
"""Metrics of generated text: bleu, chrf, rouge, exact_match."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import Any

TextMetric = Callable[[Sequence[str], Sequence[str]], float | Mapping[str, float]]

_ROUGE_TYPES = ("rouge1", "rouge2", "rougeL")


def bleu(
    predictions: Sequence[str], references: Sequence[str], *, tokenize: str = "13a"
) -> dict[str, float]:
    """BLEU of the whole corpus, as sacrebleu computes it.

    Args:
        predictions: The generated texts.
        references: The text wanted for each.
        tokenize: sacrebleu's tokenizer: "13a", "zh", "ja-mecab", "char" and others.

    Returns:
        `bleu`, from 0 to 100.

    Raises:
        ImportError: sacrebleu is not installed.
        ValueError: There are no texts, or not as many of both.
    """
    _check("bleu", predictions, references)
    metric = _package("bleu", "sacrebleu").metrics.BLEU(tokenize=tokenize)
    return {"bleu": float(metric.corpus_score(list(predictions), [list(references)]).score)}


def chrf(predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """The chrF of the whole corpus, as sacrebleu computes it.

    Args:
        predictions: The generated texts.
        references: The text wanted for each.

    Returns:
        `chrf`, from 0 to 100.

    Raises:
        ImportError: sacrebleu is not installed.
        ValueError: There are no texts, or not as many of both.
    """
    _check("chrf", predictions, references)
    metric = _package("chrf", "sacrebleu").metrics.CHRF()
    return {"chrf": float(metric.corpus_score(list(predictions), [list(references)]).score)}


def rouge(predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """ROUGE as the package rouge-score computes it: means over the texts of F1, without stemming.

    The package reads Latin letters without accents and digits only, so texts in other scripts
    score 0.

    Args:
        predictions: The generated texts.
        references: The text wanted for each.

    Returns:
        `rouge1`, `rouge2` and `rougeL`, from 0 to 1.

    Raises:
        ImportError: rouge-score is not installed.
        ValueError: There are no texts, or not as many of both.
    """
    _check("rouge", predictions, references)
    scorer = _package("rouge", "rouge_score.rouge_scorer").RougeScorer(_ROUGE_TYPES)
    scores = [
        scorer.score(reference, prediction)
        for prediction, reference in zip(predictions, references, strict=True)
    ]
    return {
        name: sum(float(score[name].fmeasure) for score in scores) / len(scores)
        for name in _ROUGE_TYPES
    }


def exact_match(predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """The share of texts that equal the wanted ones, apart from space around them.

    Args:
        predictions: The generated texts.
        references: The text wanted for each.

    Returns:
        `exact_match`, from 0 to 1.

    Raises:
        ValueError: There are no texts, or not as many of both.

    Example:
        >>> exact_match([" yes", "no"], ["yes", "maybe"])
        {'exact_match': 0.5}
    """
    _check("exact_match", predictions, references)
    pairs = zip(predictions, references, strict=True)
    num_equal = sum(prediction.strip() == reference.strip() for prediction, reference in pairs)
    return {"exact_match": num_equal / len(predictions)}


_METRICS: Mapping[str, TextMetric] = MappingProxyType(
    {"bleu": bleu, "chrf": chrf, "exact_match": exact_match, "rouge": rouge}
)


def get(identifier: str | TextMetric) -> TextMetric:
    """Finds a metric.

    Args:
        identifier: bleu, chrf, exact_match or rouge; or a function of predictions and references
            that returns a float or a dict of floats, which is returned as it is.

    Returns:
        The function.

    Raises:
        ValueError: There is no such name.
        TypeError: The identifier is neither a name nor a function.
    """
    if isinstance(identifier, str):
        if identifier not in _METRICS:
            raise ValueError(
                f"text_metrics: must be of {', '.join(_METRICS)}, or functions, got {identifier!r}"
            )
        return _METRICS[identifier]
    if not callable(identifier):
        raise TypeError(
            f"text_metrics: must be names or functions, got {type(identifier).__name__}"
        )
    return identifier


def compute(
    metrics: Sequence[str | TextMetric], predictions: Sequence[str], references: Sequence[str]
) -> dict[str, float]:
    """Computes several metrics.

    Args:
        metrics: Names or functions, as `get` takes them.
        predictions: The generated texts.
        references: The text wanted for each.

    Returns:
        The numbers by name; the single number of a function by the name of the function.

    Raises:
        ImportError: A package that a metric needs is not installed.
        ValueError: There is no such name, two numbers have the same name, or the texts do not fit.
        TypeError: A metric is neither a name nor a function.

    Example:
        >>> def length_ratio(predictions, references):
        ...     return sum(map(len, predictions)) / sum(map(len, references))
        >>> compute(["exact_match", length_ratio], ["yes"], ["yes!"])
        {'exact_match': 0.0, 'length_ratio': 0.75}
    """
    numbers: dict[str, float] = {}
    for metric in map(get, metrics):
        name = getattr(metric, "__name__", type(metric).__name__)
        found = metric(predictions, references)
        named = found if isinstance(found, Mapping) else {name: found}
        twice = sorted(set(named) & set(numbers))
        if twice:
            raise ValueError(
                f"text_metrics: must give each number its own name, got {', '.join(twice)} twice"
            )
        numbers.update({key: float(value) for key, value in named.items()})
    return numbers


def _check(name: str, predictions: Sequence[str], references: Sequence[str]) -> None:
    for argument, texts in (("predictions", predictions), ("references", references)):
        if isinstance(texts, str):
            raise ValueError(f"{name}({argument}): must be a list of texts, got one text")
    if len(predictions) == 0 or len(predictions) != len(references):
        raise ValueError(
            f"{name}: must get at least one text, and as many predictions as references, got "
            f"{len(predictions)} predictions and {len(references)} references"
        )


def _package(name: str, package: str) -> Any:  # noqa: ANN401
    try:
        return import_module(package)
    except ImportError as error:
        raise ImportError(
            f"{name}: the package {package.partition('.')[0]} must be installed, got none. Run "
            'pip install "fuseq[metrics]"'
        ) from error
