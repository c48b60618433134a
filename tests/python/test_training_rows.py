# SPDX-License-Identifier: Apache-2.0
"""Padding that is left out of a training step changes neither the loss nor a gradient."""

import numpy as np
import pytest
import spec_kinds
import torch
from fuseq.training import step as step_module
from fuseq.training import weights
from fuseq.training.batches import TrainingBatch
from fuseq.training.losses import Loss
from fuseq.training.metrics import read_metrics
from fuseq.training.rows_of_tokens import Layout
from fuseq.training.step import TrainingStep
from fuseq.training.torch_module import TransformerModule

V = 101


def ragged_batch(is_seq2seq: bool, mask_has_holes: bool = False) -> TrainingBatch:
    draw = np.random.default_rng(0)
    B, S, T = 4, 11, 9
    mask = np.arange(T) < np.array([9, 3, 5, 1])[:, None]
    weights_BT = mask * draw.uniform(0.5, 2, (B, T)).astype(np.float32)
    weights_BT[0, 2] = 0  # a real token whose target does not count
    weights_BT[1, 3] = 0.7  # one that counts behind the last real token
    if mask_has_holes:
        mask[0, 4] = False
    ids = draw.integers(0, V, (B, T))
    inputs = {"token_ids": ids, "padding_mask": mask}
    if is_seq2seq:
        source_mask = np.arange(S) < np.array([4, 11, 2, 7])[:, None]
        inputs = {
            "encoder_token_ids": draw.integers(0, V, (B, S)),
            "encoder_padding_mask": source_mask,
            "decoder_token_ids": ids,
            "decoder_padding_mask": mask,
        }
    return TrainingBatch(inputs, draw.integers(0, V, (B, T)), weights_BT, B, B * T)


def run(module: TransformerModule, batch: TrainingBatch) -> tuple[dict[str, torch.Tensor], ...]:
    step = TrainingStep(module, Loss(), read_metrics("auto", None))
    module.zero_grad()
    loss, sums = step(**step.tensors(batch, torch.device("cpu")), divisor=7.0, share=1.0)
    loss.backward()
    gradients = {
        name: parameter.grad.to_dense().clone()
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }
    return {"loss": loss.detach()[None], "sums": sums}, gradients


@pytest.mark.parametrize("mask_has_holes", [False, True])
@pytest.mark.parametrize("name", ["bart", "gpt2", "t5", "llama", "gemma"])
def test_padding_that_is_left_out_changes_nothing(
    name: str, mask_has_holes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_kinds.spec(name)
    module = TransformerModule(spec)
    weights.ModuleWeights(module, spec_kinds.model(spec))
    batch = ragged_batch(spec["encoder"]["layers"] > 0, mask_has_holes)
    packed = run(module, batch)
    monkeypatch.setattr(step_module, "_FULL", 0.0)  # nothing is left out
    padded = run(module, batch)
    for left, right in zip(packed, padded, strict=True):
        assert left.keys() == right.keys()
        for key in left:
            torch.testing.assert_close(left[key], right[key], rtol=1e-4, atol=2e-6)


def test_a_batch_with_padding_has_fewer_rows() -> None:
    spec = spec_kinds.spec("bart")
    step = TrainingStep(TransformerModule(spec), Loss(), ())
    tensors = step.tensors(ragged_batch(True), torch.device("cpu"))
    assert len(tensors["source"].ids) == 4 + 11 + 2 + 7
    assert len(tensors["rows"].ids) == 9 + 3 + 5 + 1 + 1
    assert len(tensors["looked_at"]) == 9 + 3 + 5 + 1 + 1 - 1


def test_rows_are_spread_and_packed_with_gradients() -> None:
    layout = Layout((2, 3), torch.tensor([0, 1, 4]))
    rows = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: layout.pack(layout.spread(x).square()), rows)
    spread = layout.spread(rows)
    assert spread.shape == (2, 3, 2)
    assert torch.equal(spread[0, 2], torch.zeros(2, dtype=torch.float64))
    assert torch.equal(layout.pack(spread), rows)
