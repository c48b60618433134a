# SPDX-License-Identifier: Apache-2.0
"""Text evaluation: what a task generates from sources, compared with the texts wanted for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fuseq import samplers
from fuseq.models.call_options import takes_seed
from fuseq.models.inputs import read_texts
from fuseq.training import text_metrics
from fuseq.training.text_metrics import TextMetric


@dataclass(frozen=True)
class TextEvaluation:
    """Checked sources, the texts wanted for them, and what compares.

    Attributes:
        sources: Texts that the encoder reads.
        references: The text wanted for each.
        metrics: Names or functions, as `text_metrics.get` takes them.
        call: Names the call in errors.
    """

    sources: list[str]
    references: list[str]
    metrics: tuple[str | TextMetric, ...]
    call: str

    def compute(self, task: Any, arguments: Mapping[str, Any]) -> dict[str, float]:  # noqa: ANN401
        """Generates and compares.

        Args:
            task: Generates.
            arguments: Keywords of `generate`. Draws begin with seed 0 where it gives none and the
                sampler takes one, so that all processes of a run find the same numbers.

        Returns:
            The numbers by name.

        Raises:
            ValueError: `generate` gives more than a text for each source, or two numbers have one
                name.
            ImportError: A package that a metric needs is not installed.
        """
        sampler = samplers.get(arguments.get("sampler") or task.sampler)
        seed = {"seed": 0} if takes_seed(sampler) else {}
        found = task.generate(
            {"encoder_text": self.sources}, **{**seed, "progress_bar": False, **arguments}
        )
        if not all(isinstance(text, str) for text in found):
            raise ValueError(
                f"{self.call}: generate must give one text for each source, got "
                f"{type(found[0]).__name__}. Leave num_return_sequences and return_scores out"
            )
        return text_metrics.compute(self.metrics, found, self.references)


def read_text_evaluation(
    task: Any,  # noqa: ANN401
    x: object,
    metrics: str | TextMetric | Sequence[str | TextMetric] | None,
    *,
    call: str,
) -> TextEvaluation:
    """Reads and checks what is to be generated and compared.

    Args:
        task: Generates.
        x: A dict of lists of texts, `encoder_text` and `decoder_text`.
        metrics: One or several names or functions; None: the share of equal texts.
        call: Names the call in errors.

    Returns:
        The texts and the metrics.

    Raises:
        ValueError: The task has no encoder or no preprocessor, x is no dict of texts, or there is
            no such metric.
        TypeError: A metric is neither a name nor a function.
    """
    keys: tuple[str, ...] = task.keys.texts
    if len(keys) < 2:
        raise ValueError(
            f"{call}: the task must have an encoder, whose texts are what to generate from, got "
            f"{type(task).__name__}. Without one there is no reference text: compare what "
            "generate() gives with yours"
        )
    if task.preprocessor is None:
        raise ValueError(
            f"{call}: the task must have a preprocessor to generate text, got preprocessor=None"
        )
    if not isinstance(x, Mapping) or any(key in x for key in (*task.keys.ids, *task.keys.masks)):
        given = "ids" if isinstance(x, Mapping) else f"{type(x).__name__}, which is no dict"
        raise ValueError(
            f"{call}: x must be a dict of lists of texts, {' and '.join(map(repr, keys))}, to "
            f"generate from and compare with, got {given}"
        )
    columns = {key: np.asarray(x[key]) if hasattr(x[key], "__array__") else x[key] for key in x}
    texts, is_scalar = read_texts(columns, keys, keys, what=f"{call}: x")
    if is_scalar or not texts[keys[0]]:
        raise ValueError(f"{call}: x must have lists of one text or more, got no list of texts")
    chosen = ("exact_match",) if metrics is None else metrics
    listed: tuple[str | TextMetric, ...]
    if isinstance(chosen, Sequence) and not isinstance(chosen, str):
        listed = tuple(chosen)
    else:
        listed = (chosen,)
    for metric in listed:
        text_metrics.get(metric)
    return TextEvaluation(list(texts[keys[0]]), list(texts[keys[1]]), listed, call)
