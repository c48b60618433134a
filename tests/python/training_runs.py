# SPDX-License-Identifier: Apache-2.0
"""Tiny tasks that are fitted, and what tests look at while they are."""

from typing import Any

import numpy as np
from fuseq.callbacks import Callback
from fuseq.models import BartSeq2SeqLM, CausalLM, GPT2CausalLM
from tiny_tasks import BART, GPT2
from training_batches import COUNT, PAIRS, TARGETS, layout_of, without_preprocessor

ADAM = {"class_name": "Adam", "config": {"learning_rate": 1e-2}}
SGD = {"class_name": "SGD", "config": {"learning_rate": 0.1}}
LENGTH = 10  # that GPT-2 pads to
KINDS = ("train", "test", "predict", "epoch", "train_batch", "test_batch", "predict_batch")
HOOKS = [f"on_{kind}_{end}" for kind in KINDS for end in ("begin", "end")]


def make_gpt2(*, dropout: bool = False, **compiled: Any) -> GPT2CausalLM:
    task = GPT2CausalLM.from_preset(GPT2, sequence_length=LENGTH, num_threads=1)
    return prepare(task, dropout, compiled)


def make_bart(*, dropout: bool = False, **compiled: Any) -> BartSeq2SeqLM:
    task = BartSeq2SeqLM.from_preset(
        BART, encoder_sequence_length=16, decoder_sequence_length=12, num_threads=1
    )
    return prepare(task, dropout, compiled)


def prepare(task: Any, dropout: bool, compiled: dict[str, Any]) -> Any:
    if not dropout:
        for module in task.torch_module().modules():
            if hasattr(module, "dropout"):
                module.dropout = 0.0
    task.compile(**{"optimizer": ADAM, **compiled})
    return task


def without_texts(task: CausalLM, **compiled: Any) -> CausalLM:
    """The same weights in a task that takes ids."""
    other = without_preprocessor(task)
    other.compile(**{"optimizer": ADAM, **compiled})
    return other


def ids_of(task: CausalLM, texts: Any = None) -> tuple[dict[str, Any], Any, Any]:
    """Ids, labels and weights of the configured length."""
    return layout_of(task, texts)


def data_of(task: CausalLM) -> Any:
    return PAIRS if task.backbone.is_seq2seq else TARGETS


def batches_of(task: CausalLM, size: int = 5) -> list[tuple[Any, Any, Any]]:
    x, y, weights = ids_of(task)
    return [
        (
            {name: value[start : start + size] for name, value in x.items()},
            y[start : start + size],
            weights[start : start + size],
        )
        for start in range(0, COUNT, size)
    ]


def assert_same_weights(one: CausalLM, other: CausalLM) -> None:
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def largest_difference(one: CausalLM, other: CausalLM) -> float:
    pairs = zip(one.get_weights(), other.get_weights(), strict=True)
    return max(float(np.abs(a - b).max()) for a, b in pairs)


def cross_entropies(logits: Any, targets: Any) -> Any:
    """Of each position, [N, T] in float64."""
    logits = np.asarray(logits, np.float64)
    top = logits.max(-1, keepdims=True)
    sums = np.log(np.exp(logits - top).sum(-1)) + top[..., 0]
    return sums - np.take_along_axis(logits, np.asarray(targets)[..., None], -1)[..., 0]


class BatchLogs(Callback):
    """Keeps the logs of every batch: means of the epoch so far."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.losses.append(logs["loss"])


class Calls:
    """Notes every hook; not derived from anything, as a user's may be."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.params: Any = None
        self.model: Any = None

    def set_params(self, params: Any) -> None:
        self.params = params

    def set_model(self, model: Any) -> None:
        self.model = model

    def __getattr__(self, name: str) -> Any:
        if name not in HOOKS:
            raise AttributeError(name)

        def note(*arguments: Any) -> None:
            where = [str(each) for each in arguments if isinstance(each, int)]
            self.seen.append(" ".join([name.removeprefix("on_"), *where]))

        return note
