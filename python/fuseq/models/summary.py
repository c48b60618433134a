# SPDX-License-Identifier: Apache-2.0
"""What a task is made of, as a table for people."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fuseq.models.task import Task


def summary(task: "Task", line_length: int) -> str:
    """The lines that `Task.summary` prints.

    Args:
        task: Of which.
        line_length: Columns of a line.

    Returns:
        Lines with ends between them.
    """
    width = max(line_length, 40)
    lines: list[str] = []
    if task.preprocessor is not None:
        tokenizer = task.preprocessor.tokenizer
        lines += [
            f'Preprocessor: "{task.preprocessor.name}"',
            *_table(
                [
                    ("Layer (type)", "Config"),
                    (
                        f"{tokenizer.name} ({type(tokenizer).__name__})",
                        f"Vocab size: {tokenizer.vocabulary_size():,}",
                    ),
                ],
                width,
            ),
        ]
    lines.append(f'Model: "{task.name}"')
    counts = _counts(task.backbone.weight_counts())
    rows = [(name, f"{count:,}") for name, count in counts.items()]
    lines += _table([("Part", "Param #"), *rows], width)
    totals = {"Total": sum(counts.values())}
    if task.backbone.engine.holder is not None:
        totals = _totals(task.backbone.torch_module())
    lines += [f" {name} params: {count:,}" for name, count in totals.items()]
    return "\n".join(lines)


def _totals(module: Any) -> dict[str, int]:  # noqa: ANN401
    """Numbers of a torch module's parameters, those of adapters too, by whether they train."""
    counts = {True: 0, False: 0}
    for parameter in module.parameters():
        counts[parameter.requires_grad] += parameter.numel()
    return {
        "Total": sum(counts.values()),
        "Trainable": counts[True],
        "Non-trainable": counts[False],
    }


def _counts(weights: Mapping[str, int]) -> dict[str, int]:
    """Numbers of each part: embeddings, each layer, norms and head."""
    counts: dict[str, int] = {}
    for name, count in weights.items():
        words = name.split(".")
        is_layer = words[0] in ("encoder", "decoder") and words[1].isdigit()
        part = f"{words[0]} layer {words[1]}" if is_layer else ".".join(words[:2])
        counts[part] = counts.get(part, 0) + count
    return counts


def _table(rows: list[tuple[str, str]], width: int) -> list[str]:
    right = max(len(row[1]) for row in rows)
    left = width - right - 3
    line = "-" * width
    made = [f" {a[:left]:<{left}} {b:>{right}}" for a, b in rows]
    return [line, made[0], line, *made[1:], line]
