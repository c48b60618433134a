# SPDX-License-Identifier: Apache-2.0
"""Logits and losses of given rows, as KerasHub's `score` has them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fuseq.models.backbone import Backbone

Floats = npt.NDArray[np.float32]


def without_none(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs that were given."""
    return {key: value for key, value in inputs.items() if value is not None}


def score(
    backbone: Backbone,
    inputs: Mapping[str, npt.ArrayLike],
    padding_mask: npt.ArrayLike | None,
    scoring_mode: str,
    layer_intercept_fn: object,
    target_ids: npt.ArrayLike | None,
) -> Floats:
    """Logits [B, T, V] or losses [B, T]; see `CausalLM.score`."""
    if scoring_mode not in ("logits", "loss"):
        raise ValueError(f'score: scoring_mode must be "logits" or "loss", got {scoring_mode!r}')
    if layer_intercept_fn is not None:
        raise ValueError(
            "score: layer_intercept_fn must be None, got a function. The engine does not stop "
            "between layers"
        )
    if scoring_mode == "logits":
        return backbone.forward(inputs)[0]
    if target_ids is None:
        raise ValueError('score: scoring_mode="loss" must come with target_ids, got None')
    logits = backbone.forward(inputs)[0]
    targets = np.asarray(target_ids)
    if targets.shape != logits.shape[:2]:
        raise ValueError(
            f"score: target_ids must have shape {list(logits.shape[:2])}, got {list(targets.shape)}"
        )
    if targets.dtype.kind not in "iu":
        raise ValueError(f"score: target_ids must be whole numbers, got {targets.dtype}")
    cells = np.ones(targets.shape, np.bool_)
    if padding_mask is not None:
        given = np.asarray(padding_mask).astype(np.bool_)
        cells[:] = False
        cells[:, : given.shape[1]] = given
    targets = np.where(cells, targets, 0)  # labels of padding may be anything
    outside = targets[(targets < 0) | (targets >= logits.shape[2])]
    if outside.size:
        raise ValueError(
            f"score: target_ids must be in 0 ... {logits.shape[2] - 1}, got {outside[0]}"
        )
    return np.where(cells, _cross_entropy(logits, targets), np.float32(0))


def _cross_entropy(logits: Floats, targets: npt.NDArray[Any]) -> Floats:
    losses = np.empty(targets.shape, np.float32)
    for row, ids, out in zip(logits, targets, losses, strict=True):  # row by row: V is large
        largest = row.max(-1, keepdims=True)
        sums = np.log(np.exp(row - largest).sum(-1)) + largest[:, 0]
        out[:] = sums - np.take_along_axis(row, ids[:, None], -1)[:, 0]
    return losses
