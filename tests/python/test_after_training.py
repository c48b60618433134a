# SPDX-License-Identifier: Apache-2.0
"""What a task is after training: it generates, is saved and goes on with its new weights."""

import pickle
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from fuseq import _core
from fuseq.models import CausalLM
from training_batches import TARGETS
from training_runs import (
    ADAM,
    assert_same_weights,
    data_of,
    ids_of,
    largest_difference,
    make_bart,
    make_gpt2,
)

MAKERS = [make_bart, make_gpt2]
FIT: dict[str, Any] = {"batch_size": 5, "epochs": 2, "verbose": 0, "seed": 1}


@pytest.fixture(params=MAKERS, ids=["bart", "gpt2"])
def make(request: pytest.FixtureRequest) -> Any:
    return request.param


def fitted(make: Any, **compiled: Any) -> CausalLM:
    task: CausalLM = make(**compiled)
    task.fit(data_of(task), **FIT)
    return task


def logits_of(task: CausalLM) -> Any:
    return task.predict(data_of(task), verbose=0)


def assert_engine_equals_module(task: CausalLM) -> None:
    x, _, _ = ids_of(task)
    mask = np.asarray(x["decoder_padding_mask" if task.backbone.is_seq2seq else "padding_mask"])
    inputs = {name: torch.as_tensor(np.asarray(value)) for name, value in x.items()}
    inputs = {name: v.bool() if "mask" in name else v.long() for name, v in inputs.items()}
    with torch.no_grad():
        expected = task.torch_module().eval()(inputs).numpy()
    real = mask != 0
    np.testing.assert_allclose(logits_of(task)[real], expected[real], atol=2e-4)


# ---- weights ----


def test_the_engine_computes_with_the_new_weights(make: Any) -> None:
    task = make()
    before = logits_of(task)
    for _ in range(3):
        task.fit(data_of(task), **FIT)
        after = logits_of(task)
        assert np.abs(after - before).max() > 1e-2
        assert_engine_equals_module(task)
        before = after
    task.train_on_batch(data_of(task))
    assert np.abs(logits_of(task) - before).max() > 1e-4
    assert_engine_equals_module(task)


def test_generate_learns_a_text_by_heart() -> None:
    task = make_gpt2(sampler="greedy")
    task.fit(["the quick fox"] * 4, epochs=60, verbose=0, seed=1)
    assert task.generate("the", max_length=10).startswith("the quick")


@pytest.mark.parametrize("fused", [False, True])
def test_weights_of_a_loop_of_the_users_are_seen(fused: bool) -> None:
    task = make_gpt2()
    module = task.torch_module()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2, fused=fused)
    task.compile(optimizer=torch.optim.AdamW(module.parameters(), lr=1e-2, fused=fused))
    before = logits_of(task)
    task.train_on_batch(TARGETS)
    between = logits_of(task)
    assert np.abs(between - before).max() > 1e-3
    ids, mask = (torch.as_tensor(np.asarray(ids_of(task)[0][name]))
                 for name in ("token_ids", "padding_mask"))  # fmt: skip
    module({"token_ids": ids.long(), "padding_mask": mask.bool()}).square().mean().backward()
    optimizer.step()
    assert np.abs(logits_of(task) - between).max() > 1e-3


def test_the_engine_model_is_made_once_for_the_same_weights(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = fitted(make)
    built = []
    build = _core.Model.build

    class Counting:
        @staticmethod
        def build(*arguments: Any, **options: Any) -> Any:
            built.append(1)
            return build(*arguments, **options)

    monkeypatch.setattr("fuseq.models.engine_weights._core.Model", Counting)
    inputs = data_of(task)
    prompts: Any = ["a"]
    if task.backbone.is_seq2seq:
        prompts = {"encoder_text": ["a fox"], "decoder_text": prompts}
    for _ in range(3):
        task.generate(prompts, max_length=8)
        logits_of(task)
    assert len(built) == 1
    task.evaluate(inputs, verbose=0)
    task.generate(prompts, max_length=8)
    assert len(built) == 1
    task.train_on_batch(inputs)
    task.generate(prompts, max_length=8)
    assert len(built) == 2


def test_weights_can_be_read_and_set(make: Any) -> None:
    task, other = fitted(make), make()
    weights = task.get_weights()
    names = [name for name, _ in task.torch_module().named_parameters()]
    assert len(weights) == len(names) and all(value.dtype == np.float32 for value in weights)
    other.set_weights(weights)
    assert_same_weights(other, task)
    np.testing.assert_array_equal(logits_of(other), logits_of(task))
    weights[0][:] = 0  # a copy
    assert np.abs(task.get_weights()[0]).max() > 0


@pytest.mark.parametrize("ending", [".weights.h5", ".safetensors"])
def test_loaded_weights_fill_the_module_and_training_goes_on(
    make: Any, tmp_path: Path, ending: str
) -> None:
    saved, task = fitted(make), make()
    saved.save_weights(tmp_path / f"a{ending}")
    optimizer = torch.optim.SGD(task.torch_module().parameters(), lr=0.1)
    task.compile(optimizer=optimizer)
    task.load_weights(tmp_path / f"a{ending}")
    assert_same_weights(task, saved)
    assert_engine_equals_module(task)
    saved.compile(optimizer={"class_name": "SGD", "config": {"learning_rate": 0.1}})
    for each in (task, saved):
        each.fit(data_of(each), **FIT)
    assert largest_difference(task, saved) < 1e-6
    assert_engine_equals_module(task)


# ---- saving ----


@pytest.mark.parametrize("form", ["keras_hub", "transformers", "fuseq"])
def test_a_trained_task_is_the_same_after_saving(make: Any, tmp_path: Path, form: Any) -> None:
    task = fitted(make)
    task.save_to_preset(tmp_path / "saved", format=form)
    other = CausalLM.from_preset(tmp_path / "saved", num_threads=1)
    x, _, _ = ids_of(task)
    np.testing.assert_allclose(
        other.predict(x, verbose=0), task.predict(x, verbose=0), atol=2e-4
    )  # fmt: skip
    assert_engine_equals_module(task)


def test_a_trained_task_is_not_pickled_until_it_is_saved(make: Any, tmp_path: Path) -> None:
    task = make(optimizer="auto")
    pickle.dumps(task)  # it is still what its preset holds
    task.fit(data_of(task), **FIT)
    with pytest.raises(ValueError, match=r"got weights that no folder holds\. Call save_to_preset"):
        pickle.dumps(task)
    task.save_to_preset(tmp_path / "saved")
    other = pickle.loads(pickle.dumps(task))
    x, _, _ = ids_of(task)
    np.testing.assert_array_equal(other.predict(x, verbose=0), task.predict(x, verbose=0))
    task.fit(data_of(task), **FIT)
    with pytest.raises(ValueError, match="Call save_to_preset"):
        pickle.dumps(task)


# ---- optimizers ----


def test_forms_of_an_optimizer_train_alike(make: Any) -> None:
    rate = 0.1
    expected = fitted(make, optimizer={"class_name": "SGD", "config": {"learning_rate": rate}})
    for choice in (
        {"class_name": "sgd", "config": {"learning_rate": rate}},
        partial(torch.optim.SGD, lr=rate),
        lambda parameters: torch.optim.SGD(parameters, lr=rate),
    ):
        assert largest_difference(fitted(make, optimizer=choice), expected) < 1e-6
    task = make()
    task.compile(optimizer=torch.optim.SGD(task.torch_module().parameters(), lr=rate))
    task.fit(data_of(task), **FIT)
    assert largest_difference(task, expected) < 1e-6
    named = fitted(make, optimizer="sgd")
    assert named.optimizer.learning_rate == pytest.approx(0.01)


def test_the_rate_can_be_read_and_set(make: Any) -> None:
    task = make(optimizer="sgd")
    assert task.optimizer.learning_rate == pytest.approx(0.01)
    task.optimizer.learning_rate = 0.1
    task.fit(data_of(task), **FIT)
    other = fitted(make, optimizer={"class_name": "SGD", "config": {"learning_rate": 0.1}})
    assert_same_weights(task, other)


def test_the_state_of_an_optimizer_is_kept_until_compile(make: Any) -> None:
    task, other, anew = make(), make(), make()
    data = data_of(task)
    options: dict[str, Any] = {**FIT, "epochs": 4}
    task.fit(data, **options)
    for each in (other, anew):
        each.fit(data, **FIT)
    before = other.optimizer
    anew.compile(optimizer=ADAM)
    for each in (other, anew):
        each.fit(data, initial_epoch=2, **options)
    assert other.optimizer is before
    assert other.optimizer.iterations == 20 and anew.optimizer.iterations == 10
    assert largest_difference(other, task) == 0
    assert largest_difference(anew, task) > 1e-4


def test_frozen_parameters_stay(make: Any) -> None:
    task = make()
    table = task.torch_module().embed.tokens
    table.requires_grad_(False)
    before = [value.copy() for value in task.get_weights()]
    task.fit(data_of(task), **FIT)
    after = task.get_weights()
    np.testing.assert_array_equal(after[0], before[0])
    assert np.abs(after[-1] - before[-1]).max() > 0
    table.requires_grad_(True)
    task.fit(data_of(task), **FIT)  # with an optimizer of all parameters
    assert np.abs(task.get_weights()[0] - before[0]).max() > 0
    assert_engine_equals_module(task)
