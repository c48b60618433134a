# SPDX-License-Identifier: Apache-2.0
"""Training equals transformers', tensor by tensor; real shapes are in oracle_training.py."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import oracle_models
import oracle_training
import torch
from fuseq.models import CausalLM
from fuseq.training.batches import TrainingBatch
from oracle_training import TOLERANCE, by_our_names, differences, our_gradients, their_step

BART = {
    "vocab_size": 300, "d_model": 48, "encoder_layers": 2, "decoder_layers": 2,
    "encoder_ffn_dim": 96, "decoder_ffn_dim": 96, "decoder_attention_heads": 4,
}  # fmt: skip
GPT2 = {"vocab_size": 300, "n_embd": 48, "n_layer": 2, "n_head": 4}
LONGEST = 20


def sgd(parameters: Any) -> Any:
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)


@pytest.fixture(params=["bart", "gpt2"])
def model(request: pytest.FixtureRequest) -> Any:
    """A small model of transformers, in training."""
    fields = BART if request.param == "bart" else GPT2
    return oracle_training.make_model(request.param, **fields).train()


def load(model: Any, folder: Path) -> Any:
    return CausalLM.from_preset(oracle_models.save(model, folder), preprocessor=None, num_threads=1)


def join(batches: list[TrainingBatch]) -> TrainingBatch:
    """Rows of batches of the same shape in one."""
    inputs = {
        name: np.concatenate([batch.inputs[name] for batch in batches])
        for name in batches[0].inputs
    }
    return TrainingBatch(
        inputs,
        np.concatenate([batch.targets for batch in batches]),
        np.concatenate([batch.weights for batch in batches]),
        sum(batch.num_rows for batch in batches),
        sum(batch.num_positions for batch in batches),
    )


@pytest.mark.parametrize("optimizer", [sgd, oracle_training.adamw(1e-3)], ids=["sgd", "adamw"])
def test_gradients_and_one_update_equal_those_of_transformers(
    model: Any, optimizer: Any, tmp_path: Path
) -> None:
    batch = oracle_training.make_batch(model, 5, LONGEST)
    found = oracle_training.compare_step(model, tmp_path, optimizer, batch)
    assert found["tensors"] > 20
    assert found["loss"] > 3  # far from trained: every part has a gradient
    assert found["loss difference"] < 1e-6
    assert found["largest gradient difference"] < TOLERANCE, found
    assert found["largest weight difference"] < TOLERANCE


def test_losses_of_many_updates_equal_those_of_transformers(model: Any, tmp_path: Path) -> None:
    batches = [oracle_training.make_batch(model, 4, LONGEST, seed) for seed in range(3)]
    found = oracle_training.compare_curves(model, tmp_path, oracle_training.adamw(1e-3), batches)
    assert found["last loss"] < 0.7 * found["first loss"]
    assert found["largest loss difference"] < oracle_training.CURVE_TOLERANCE
    assert found["engine's logits"] < oracle_training.LOGITS_TOLERANCE


def test_accumulated_gradients_equal_those_of_one_batch(model: Any, tmp_path: Path) -> None:
    batches = [oracle_training.make_batch(model, 3, LONGEST, seed) for seed in range(2)]
    task, other = load(model, tmp_path / "a"), load(model, tmp_path / "b")
    results = oracle_training.make_trainer(task, sgd).update(batches)
    (whole,) = oracle_training.make_trainer(other, sgd).update([join(batches)])
    got, expected = our_gradients(task), our_gradients(other)
    assert max(differences(got, expected).values()) < TOLERANCE
    counts = [float(batch.weights.sum()) for batch in batches]
    mean = float(np.average([result.loss for result in results], weights=counts))
    assert mean == pytest.approx(whole.loss, rel=1e-6)
    loss = their_step(model, sgd(model.parameters()), join(batches))
    assert whole.loss == pytest.approx(loss, rel=1e-6)
    assert max(differences(got, by_our_names(model, gradients=True)).values()) < TOLERANCE


def test_clip_norm_is_that_of_torch(model: Any, tmp_path: Path) -> None:
    batch = oracle_training.make_batch(model, 3, LONGEST)
    task = load(model, tmp_path)
    oracle_training.make_trainer(task, sgd, clip_norm=0.01).update([batch])
    their_step(model, sgd(model.parameters()), batch, clip_norm=0.01)
    got = our_gradients(task)
    assert max(differences(got, by_our_names(model, gradients=True)).values()) < TOLERANCE
    squares = sum(float(gradient.square().sum()) for gradient in got.values())
    assert squares**0.5 == pytest.approx(0.01, rel=1e-3)


def test_the_bias_of_logits_of_a_bart_is_used_and_kept(tmp_path: Path) -> None:
    model = oracle_training.make_model("bart", **BART)
    task = load(model, tmp_path)
    before = task.torch_module().head.bias.detach().clone()
    assert before.abs().max() > 0.1
    trainer = oracle_training.make_trainer(task, oracle_training.adamw(1e-2))
    trainer.update([oracle_training.make_batch(model, 3, LONGEST)])
    assert torch.equal(task.torch_module().head.bias.detach(), before)


def test_activation_checkpointing_changes_no_gradient(model: Any, tmp_path: Path) -> None:
    batch = oracle_training.make_batch(model, 3, LONGEST)
    task, other = load(model, tmp_path / "a"), load(model, tmp_path / "b")
    oracle_training.make_trainer(task, sgd, activation_checkpointing=True).update([batch])
    oracle_training.make_trainer(other, sgd).update([batch])
    assert max(differences(our_gradients(task), our_gradients(other)).values()) < 1e-6


@pytest.mark.parametrize("format", ["keras_hub", "transformers", "fuseq"])
def test_a_trained_model_is_the_same_after_saving(model: Any, format: Any, tmp_path: Path) -> None:
    if format == "keras_hub" and model.config.is_encoder_decoder:
        model.final_logits_bias.zero_()  # that form has none
    task = load(model, tmp_path / "before")
    batch = oracle_training.make_batch(model, 3, LONGEST)
    before = task.backbone.forward(batch.inputs)[0]
    trainer = oracle_training.make_trainer(task, oracle_training.adamw(1e-2))
    for _ in range(3):
        trainer.update([batch])
    trainer.finish()
    task.save_to_preset(tmp_path / "after", format=format)
    again = CausalLM.from_preset(tmp_path / "after", preprocessor=None, num_threads=1)
    trained = task.backbone.forward(batch.inputs)[0]
    assert np.abs(trained - before).max() > 0.1
    np.testing.assert_array_equal(again.backbone.forward(batch.inputs)[0], trained)
    assert oracle_training.engine_difference(again, batch) < oracle_training.LOGITS_TOLERANCE
