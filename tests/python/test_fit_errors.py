# SPDX-License-Identifier: Apache-2.0
"""What `fit` and its kin refuse, and that a loss that is not finite ends training."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from fuseq.callbacks import Callback, EarlyStopping
from fuseq.models import GPT2CausalLM
from fuseq.training import NonFiniteLossError
from tiny_tasks import GPT2
from training_batches import PAIRS, TARGETS, cut
from training_runs import assert_same_weights, ids_of, make_bart, make_gpt2, without_texts

QUIET: dict[str, Any] = {"verbose": 0}


@pytest.fixture(scope="module")
def gpt2() -> GPT2CausalLM:
    return make_gpt2()


# ---- what must be chosen first ----


@pytest.mark.parametrize("call", ["fit", "evaluate", "train_on_batch", "test_on_batch"])
def test_a_task_must_be_compiled(call: str) -> None:
    task = GPT2CausalLM.from_preset(GPT2, compile=False, num_threads=1)
    with pytest.raises(ValueError, match=r"the task must be compiled, got compile=False. Call"):
        getattr(task, call)(TARGETS)
    with pytest.raises(ValueError, match="must be compiled"):
        _ = task.optimizer


def test_there_must_be_parameters_to_train() -> None:
    task = make_gpt2()
    task.torch_module().requires_grad_(False)
    with pytest.raises(ValueError, match="fit: the model must have parameters to train, got none"):
        task.fit(TARGETS, **QUIET)
    assert task.evaluate(TARGETS, **QUIET)[0] > 0


@pytest.mark.parametrize(
    ("compiled", "error", "message"),
    [
        ({"optimizer": "adamm"}, ValueError, "got 'adamm'"),
        ({"optimizer": 3}, TypeError, "optimizer: must be a name, a dict"),
        ({"loss": "mse"}, ValueError, r"compile: loss must be \"auto\", .* got 'mse'"),
        ({"weighted_metrics": ["f1"]}, ValueError, r"weighted_metrics must be of .* got 'f1'"),
        ({"metrics": "f1"}, ValueError, r"compile: metrics must be of .* got 'f1'"),
        ({"loss_reduction": "mean"}, ValueError, "loss_reduction must be 'batch' or 'tokens', got"),
        ({"loss_weights": [1.0]}, ValueError, r"loss_weights must be None, got \[1.0\]"),
    ],
)
def test_what_compile_was_given_is_checked(
    gpt2: GPT2CausalLM, compiled: Any, error: type[Exception], message: str
) -> None:
    gpt2.compile(**compiled)
    with pytest.raises(error, match=message):
        gpt2.fit(TARGETS, **QUIET)


@pytest.mark.parametrize("name", ["optimizer", "loss", "weighted_metrics", "metrics"])
def test_objects_of_keras_are_refused_with_what_to_give(gpt2: GPT2CausalLM, name: str) -> None:
    kind = type("Thing", (), {"__module__": "keras.src.things", "__call__": lambda self: None})
    gpt2.compile(**{name: [kind()] if "metrics" in name else kind()})
    with pytest.raises(TypeError, match=rf"{name}:? must not be an object of Keras, got .*Thing"):
        gpt2.fit(TARGETS, **QUIET)


# ---- arguments ----


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_weight": {0: 1.0}}, "fit: class_weight must be None, got one"),
        ({"precision": "float16"}, 'precision must be "float32" or "bfloat16", got \'float16\''),
        ({"device": "tpu"}, 'fit: device must be "cpu" or "cuda", got \'tpu\''),
        ({"device": "meta"}, 'fit: device must be "cpu" or "cuda", got \'meta\''),
        ({"clip_norm": 0}, "clip_norm must be above 0, got 0"),
        ({"clip_norm": "1"}, "fit: clip_norm must be above 0, got '1'"),
        ({"clip_norm": float("nan")}, "clip_norm must be above 0, got nan"),
        ({"checkpoint_freq": 0}, 'checkpoint_freq must be "epoch" or a whole number >= 1, got 0'),
        ({"checkpoint_freq": "batch"}, "checkpoint_freq must be .* got 'batch'"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps must be a whole number"),
        ({"seed": -1}, "seed must be None or a whole number >= 0, got -1"),
        ({"seed": 1.5}, "seed must be None or a whole number >= 0, got 1.5"),
        ({"seed": 2**64}, r"fit: seed must be below 2\*\*63, got 18446744073709551616"),
        ({"epochs": 0}, "fit: epochs must be a whole number >= 1, got 0"),
        ({"epochs": True}, "fit: epochs must be a whole number >= 1, got True"),
        ({"initial_epoch": -1}, "fit: initial_epoch must be a whole number >= 0, got -1"),
        ({"steps_per_epoch": 0}, "steps_per_epoch must be None or a whole number >= 1, got 0"),
        ({"validation_steps": 0.5}, "validation_steps must be None or a whole number >= 1"),
        ({"validation_batch_size": 0}, "validation_batch_size must be None or a whole number"),
        ({"validation_freq": 0}, "validation_freq must be epochs or a whole number >= 1, got 0"),
        ({"validation_freq": "epoch"}, "validation_freq must be .* got 'epoch'"),
        ({"batch_size": 0}, "fit: batch_size must be None or a whole number >= 1, got 0"),
        ({"validation_split": 1.0}, "validation_split must leave rows on both sides, got 1.0"),
        ({"validation_split": "a"}, "validation_split must leave rows on both sides, got 'a'"),
        ({"validation_data": (1, 2, 3, 4)}, r"x, \(x, y\) or \(x, y, sample_weight\), got 4 parts"),
        ({"validation_data": []}, "fit: validation_data: "),
        ({"sharded": True}, "sharded must come with several processes, got one. Use torchrun"),
        ({"verbose": 3}, 'verbose: must be "auto", 0, 1 or 2, got 3'),
        ({"checkpoint_dir": __file__}, "checkpoint_dir must be a folder, got"),
    ],
)
def test_an_argument_that_does_not_fit_is_named(
    gpt2: GPT2CausalLM, options: Any, message: str
) -> None:
    gpt2.compile()
    before = gpt2.get_weights()
    with pytest.raises(ValueError, match=message):
        gpt2.fit(TARGETS, **{**QUIET, **options})
    for value, expected in zip(gpt2.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, expected)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_must_be_there(gpt2: GPT2CausalLM) -> None:
    gpt2.compile()
    with pytest.raises(ValueError, match="device must be there, got 'cuda' where torch finds no"):
        gpt2.fit(TARGETS, device="cuda", **QUIET)


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        ([object()], "callbacks: must have some of Keras' hooks"),
        (EarlyStopping, "callbacks: must be objects, got the class EarlyStopping"),
    ],
)
def test_callbacks_must_have_hooks(gpt2: GPT2CausalLM, callbacks: Any, message: str) -> None:
    gpt2.compile()
    with pytest.raises(TypeError, match=message):
        gpt2.fit(TARGETS, callbacks=callbacks, **QUIET)


@pytest.mark.parametrize("call", ["fit", "evaluate", "train_on_batch", "test_on_batch"])
def test_one_text_is_no_batch(gpt2: GPT2CausalLM, call: str) -> None:
    gpt2.compile()
    with pytest.raises(ValueError, match=rf"{call}: x must have a batch dimension, got one str"):
        getattr(gpt2, call)("the fox")


def test_steps_of_evaluate_are_a_whole_number(gpt2: GPT2CausalLM) -> None:
    gpt2.compile()
    with pytest.raises(ValueError, match="evaluate: steps must be None or a whole number >= 1"):
        gpt2.evaluate(TARGETS, steps=0, **QUIET)


def test_class_weight_is_refused_for_one_batch(gpt2: GPT2CausalLM) -> None:
    gpt2.compile()
    with pytest.raises(ValueError, match="class_weight must be None"):
        gpt2.train_on_batch(TARGETS, class_weight={})  # type: ignore[arg-type]


def test_weights_must_be_as_many_and_of_the_same_shapes(gpt2: GPT2CausalLM) -> None:
    weights = gpt2.get_weights()
    with pytest.raises(ValueError, match=rf"weights must be {len(weights)} arrays, got 1"):
        gpt2.set_weights(weights[:1])
    name = next(iter(dict(gpt2.torch_module().named_parameters())))
    shape = list(weights[0].shape)
    with pytest.raises(ValueError, match=re.escape(f"{name} must have shape {shape}, got [3]")):
        gpt2.set_weights([np.zeros(3), *weights[1:]])
    for value, expected in zip(gpt2.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(value, expected)


# ---- data ----


def test_a_generator_that_is_used_up_is_named_with_the_epoch() -> None:
    task = make_gpt2()
    with pytest.raises(ValueError, match=r"batches for epoch 2, got none. A generator is used up"):
        task.fit((batch for batch in cut(TARGETS)), epochs=2, **QUIET)


def test_validation_data_that_is_used_up_is_an_error() -> None:
    task = make_gpt2()
    validation = (batch for batch in cut(TARGETS))
    with pytest.raises(ValueError, match="evaluate: the data must have batches, got none"):
        task.fit(TARGETS, validation_data=validation, epochs=2, **QUIET)


def test_batch_size_and_split_do_not_come_with_batches(gpt2: GPT2CausalLM) -> None:
    gpt2.compile()
    with pytest.raises(ValueError, match="batch_size must not be given with an iterable"):
        gpt2.fit(cut(TARGETS), batch_size=2, **QUIET)
    with pytest.raises(ValueError, match="validation_split must come with data in memory"):
        gpt2.fit(cut(TARGETS), validation_split=0.5, **QUIET)


# ---- losses that are not finite ----


def poison(task: Any) -> None:
    """Weights whose logits are not finite."""
    weights = task.get_weights()
    weights[0][:] = np.inf
    task.set_weights(weights)


class PoisonAt(Callback):
    """Spoils the weights after a batch, once."""

    def __init__(self, epoch: int, batch: int) -> None:
        self.at = (epoch, batch)
        self.epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if (self.epoch, batch) == self.at:
            poison(self.model)


@pytest.mark.parametrize("make", [make_gpt2, make_bart])
def test_a_loss_that_is_not_finite_is_named_and_changes_nothing(make: Any) -> None:
    task = make()
    poison(task)
    before = task.get_weights()
    data = TARGETS if make is make_gpt2 else PAIRS
    with pytest.raises(NonFiniteLossError, match=r"finite, got nan at epoch 1, batch 1\. Nothing"):
        task.fit(data, batch_size=5, **QUIET)
    for value, expected in zip(task.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, expected)
    assert task.optimizer.iterations == 0
    assert all(value.grad is None for value in task.torch_module().parameters())
    assert not task.torch_module().training


def test_a_rate_that_is_too_large_ends_training() -> None:
    task = make_gpt2(optimizer={"class_name": "SGD", "config": {"learning_rate": 1e30}})
    with pytest.raises(ArithmeticError, match=r"at epoch 1, batch 2\. .* lower learning rate"):
        task.fit(TARGETS, batch_size=5, **QUIET)
    assert task.optimizer.iterations == 1


def test_the_first_of_accumulated_batches_is_named() -> None:
    task = make_gpt2()
    with pytest.raises(NonFiniteLossError, match=r"at epoch 2, batch 3\."):
        task.fit(
            TARGETS, batch_size=5, gradient_accumulation_steps=2, epochs=3,
            callbacks=[PoisonAt(1, 1)], **QUIET,
        )  # fmt: skip


def test_training_goes_on_from_the_checkpoint_before_a_loss_that_is_not_finite(
    tmp_path: Path,
) -> None:
    options: Any = {"batch_size": 5, "epochs": 3, "seed": 1, "verbose": 0}
    expected = make_gpt2()
    expected.fit(TARGETS, **options)
    task, again = make_gpt2(), make_gpt2()
    options |= {"checkpoint_dir": tmp_path, "checkpoint_freq": 3}
    with pytest.raises(NonFiniteLossError, match="epoch 2, batch 3"):
        task.fit(TARGETS, callbacks=[PoisonAt(1, 1)], **options)
    history = again.fit(TARGETS, **options).history
    assert history == expected.history.history
    assert_same_weights(again, expected)


# ---- torch ----

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
import fuseq
from fuseq.models import GPT2CausalLM
task = GPT2CausalLM.from_preset(sys.argv[1], sequence_length=10, num_threads=1)
assert isinstance(task.generate("the fox", max_length=6), str)
assert task.predict(["the fox", "a"], verbose=0).shape[:2] == (2, 10)
task.save_to_preset(sys.argv[2])
for call in (
    lambda: task.fit(["the fox"]),
    lambda: task.evaluate(["the fox"]),
    lambda: task.train_on_batch(["the fox"]),
    lambda: task.torch_module(),
    lambda: task.optimizer,
    lambda: task.get_weights(),
):
    try:
        call()
    except ImportError as error:
        assert 'pip install "fuseq[train]"' in str(error), error
    else:
        raise AssertionError("no error")
print("done")
"""


def test_without_torch_all_but_training_works(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(GPT2), str(tmp_path / "saved")],
        capture_output=True, text=True, env=os.environ,
    )  # fmt: skip
    assert done.stdout == "done\n", done.stderr


def test_ids_need_labels_of_their_shape() -> None:
    task = make_gpt2()
    x, y, _ = ids_of(task)
    other = without_texts(task)
    with pytest.raises(ValueError, match="fit: y must"):
        other.fit(x, **QUIET)
    with pytest.raises(ValueError, match="fit: y must"):
        other.fit(x, y[:, :3], **QUIET)
