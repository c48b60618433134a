# SPDX-License-Identifier: Apache-2.0
"""Predicting: the logits of texts or ids, batch by batch, on the engine."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from fuseq.callbacks import CallbackList, ProgressBar
from fuseq.models.counts import check_count
from fuseq.models.inputs import Batch, Keys, is_one_batch, read_batches

Floats = npt.NDArray[np.float32]
BATCH_SIZE = 32  # where nobody says otherwise, as in Keras


def predict(
    task: Any,  # noqa: ANN401
    x: object,
    *,
    batch_size: int | None,
    verbose: Any,  # noqa: ANN401
    steps: int | None,
    callbacks: object,
) -> Floats:
    """Computes logits; `CausalLM.predict` says what the arguments are.

    Returns:
        float32 [N, T, V].

    Raises:
        ValueError: An argument does not fit, or there is nothing to predict.
    """
    for name, value in (("batch_size", batch_size), ("steps", steps)):
        if value is not None:
            check_count(name, value, "None or ", call="predict")
    listed = CallbackList(callbacks, task, {"verbose": verbose, "steps": steps}, add_history=False)
    found: list[Floats] = []
    shown = verbose if task.is_main_process else 0
    with ProgressBar(shown, epochs=1, steps=steps, what="Predict") as bar:
        listed.on_predict_begin()
        bar.epoch_begin(0)
        batches = _batches(task, x, batch_size or BATCH_SIZE)
        for index, inputs in enumerate(islice(batches, steps)):
            listed.on_predict_batch_begin(index)
            logits, _ = task.backbone.forward(inputs)
            if found and logits.shape[1] != found[0].shape[1]:
                raise ValueError(
                    f"predict: batches must have rows of one length, {found[0].shape[1]}, got "
                    f"{logits.shape[1]} in batch {index}. Pad them"
                )
            found.append(logits)
            listed.on_predict_batch_end(index, {})
            bar.update({}, logits.shape[0] * logits.shape[1])
        if not found:
            raise ValueError("predict: x must have one row or more, got none")
        listed.on_predict_end()
        bar.epoch_end({})
    return np.concatenate(found)


def _batches(task: Any, x: object, size: int) -> Iterator[Mapping[str, Any]]:  # noqa: ANN401
    """Ids and masks of at most `size` rows; batches that come one by one stay as they are."""
    keys: Keys = task.keys
    if isinstance(x, str | bytes) or (isinstance(x, Mapping) and _has_single(x)):
        raise ValueError(
            f"predict: x must have a batch dimension, got one {type(x).__name__}. Give a list of "
            "texts"
        )
    in_memory = is_one_batch(x)
    for batch in read_batches(x if in_memory else _inputs_alone(x), keys):
        step = size if in_memory else max(len(batch), 1)
        for start in range(0, len(batch), step):
            yield _arrays(task, batch, slice(start, start + step))


def _has_single(x: Mapping[str, Any]) -> bool:
    return any(isinstance(value, str | bytes) for value in x.values())


def _inputs_alone(x: Any) -> Iterator[object]:  # noqa: ANN401
    """Items without the labels that may come with them."""
    items = x.as_numpy_iterator() if hasattr(x, "as_numpy_iterator") else x
    for item in items:
        is_tuple = isinstance(item, tuple) and item and not isinstance(item[0], str | bytes)
        yield item[0] if is_tuple else item


def _arrays(task: Any, batch: Batch, rows: slice) -> Mapping[str, Any]:  # noqa: ANN401
    if batch.arrays is not None:
        return {name: value[rows] for name, value in batch.arrays.items()}
    assert batch.texts is not None
    keys = task.keys.texts
    missing = [key for key in keys if key not in batch.texts]
    if missing:
        names = ", ".join(map(repr, keys))
        raise ValueError(f"predict: x must have {names}, got no {missing[0]!r}")
    texts = {key: batch.texts[key][rows] for key in keys}
    preprocessor = task.text_preprocessor("predict")
    made: Any = preprocessor(texts if len(keys) > 1 else texts[keys[0]])
    inputs: Mapping[str, Any] = made[0]
    return inputs
