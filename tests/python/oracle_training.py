# SPDX-License-Identifier: Apache-2.0
"""Compares training of random BART and GPT-2 models with transformers': gradients, steps, curves.

Run in full:  python tests/python/oracle_training.py [--json tests/python/oracle_training.json]
"""

import argparse
import copy
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import fuseq
import numpy as np
import oracle_models
import torch
from fuseq.models import CausalLM
from fuseq.training import training_of
from fuseq.training.batches import TrainingBatch
from fuseq.training.fit_options import FitOptions
from fuseq.training.processes import Processes

TOLERANCE = 1e-5  # of gradients and of weights after a step, tensor by tensor
CURVE_TOLERANCE = 1e-3  # of losses
LOGITS_TOLERANCE = 2e-4  # of the largest logit
STEPS = 50

_BART = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
_GPT2 = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
_BART_BASE = {
    "vocab_size": 50265, "d_model": 768, "encoder_layers": 6, "decoder_layers": 6,
    "encoder_attention_heads": 12, "decoder_attention_heads": 12, "encoder_ffn_dim": 3072,
    "decoder_ffn_dim": 3072, "max_position_embeddings": 1024,
}  # fmt: skip
_BART_MEDIUM = {
    "vocab_size": 8000, "d_model": 256, "encoder_layers": 3, "decoder_layers": 3,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 1024,
    "decoder_ffn_dim": 1024, "max_position_embeddings": 128,
}  # fmt: skip
_GPT2_SMALL = {"vocab_size": 50257, "n_embd": 768, "n_layer": 12, "n_head": 12, "n_inner": None,
               "n_positions": 1024}  # fmt: skip
_GPT2_MEDIUM = {"vocab_size": 8000, "n_embd": 256, "n_layer": 3, "n_head": 4, "n_inner": None,
                "n_positions": 128}  # fmt: skip
STEP_SHAPES = {"bart-base": ("bart", _BART_BASE), "gpt2": ("gpt2", _GPT2_SMALL)}
CURVE_SHAPES = {"bart 3+3": ("bart", _BART_MEDIUM), "gpt2 3": ("gpt2", _GPT2_MEDIUM)}

Optimizer = Callable[[Any], Any]


def make_model(kind: str, seed: int = 1, **fields: Any) -> Any:
    """A random model of transformers that drops nothing out."""
    fixed = _BART if kind == "bart" else _GPT2
    return getattr(oracle_models, kind)(seed, **{**fixed, **fields})


def make_batch(model: Any, rows: int, longest: int, seed: int = 2) -> TrainingBatch:
    """A ragged batch, padded on the right, whose positions count 1 or 0."""
    draw = np.random.default_rng(seed)
    vocab, is_seq2seq = model.config.vocab_size, model.config.is_encoder_decoder
    lengths = draw.integers(longest // 2, longest + 1, rows)
    mask = np.arange(longest) < lengths[:, None]
    ids = np.where(mask, draw.integers(3, vocab, (rows, longest)), oracle_models.PAD)
    targets = np.roll(ids, -1, axis=1)  # the next id, as both libraries shift them
    weights = mask & np.roll(mask, -1, axis=1)
    weights[:, -1] = False
    weights &= draw.random(mask.shape) < 0.9
    inputs: dict[str, Any] = {"token_ids": ids, "padding_mask": mask}
    if is_seq2seq:
        source_mask = np.arange(longest - 3) < draw.integers(1, longest - 2, rows)[:, None]
        source = np.where(source_mask, draw.integers(3, vocab, source_mask.shape), 1)
        inputs = {f"decoder_{name}": value for name, value in inputs.items()}
        inputs |= {"encoder_token_ids": source, "encoder_padding_mask": source_mask}
    kept = np.where(weights, targets, 0)
    return TrainingBatch(inputs, kept, weights.astype(np.float32), rows, rows * longest)


def their_loss(model: Any, batch: TrainingBatch) -> Any:
    """transformers' own loss: the mean over the labels that are not -100."""
    labels = np.where(batch.weights > 0, batch.targets, -100)
    tensors = {name: torch.from_numpy(value) for name, value in batch.inputs.items()}
    if "token_ids" in tensors:
        labels = np.pad(labels, ((0, 0), (1, 0)), constant_values=-100)[:, :-1]  # it shifts them
        arguments = {"input_ids": tensors["token_ids"], "attention_mask": tensors["padding_mask"]}
    else:
        arguments = {
            "input_ids": tensors["encoder_token_ids"],
            "attention_mask": tensors["encoder_padding_mask"],
            "decoder_input_ids": tensors["decoder_token_ids"],
            "decoder_attention_mask": tensors["decoder_padding_mask"],
        }
    arguments = {
        name: value.long() if name.endswith("mask") else value for name, value in arguments.items()
    }
    return model(**arguments, labels=torch.from_numpy(labels)).loss


def their_step(
    model: Any, optimizer: Any, batch: TrainingBatch, clip_norm: float | None = None
) -> float:
    """One update; the gradients stay."""
    optimizer.zero_grad()
    loss = their_loss(model, batch)
    loss.backward()
    if clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    optimizer.step()
    return float(loss.detach())


def make_trainer(task: CausalLM, optimizer: Optimizer, **options: Any) -> Any:
    """What `fit` trains with on the CPU; the loss is the mean over tokens."""
    task.compile(optimizer=optimizer, loss_reduction="tokens", weighted_metrics=None)
    return training_of(task).trainer(Processes(0, 1, torch.device("cpu")), FitOptions(**options))


def our_gradients(task: CausalLM) -> dict[str, Any]:
    """By our names."""
    parameters = task.torch_module().named_parameters()
    return {name: p.grad.detach() for name, p in parameters if p.requires_grad}


def by_our_names(model: Any, *, gradients: bool) -> dict[str, Any]:
    """transformers' gradients or weights, by our names: read as the weights of a folder are."""
    if gradients:
        holder = copy.deepcopy(model)
        for parameter, other in zip(holder.parameters(), model.parameters(), strict=True):
            parameter.data = other.grad.detach().clone()
            parameter.grad = None
    else:
        holder = model
    with tempfile.TemporaryDirectory() as folder:
        ours = fuseq.load_model(oracle_models.save(holder, Path(folder)), dtype="float32")
        table = fuseq._core.weight_table(ours.spec)
        return {name: torch.from_numpy(ours.weight(name).numpy().copy()) for name, _, _ in table}


def differences(got: dict[str, Any], expected: dict[str, Any]) -> dict[str, float]:
    """The norm of each tensor's difference, relative to its norm.

    A key's bias adds the same to all scores of a row: its gradient is 0 but for rounding. It is
    compared with the gradient of the query's bias beside it.
    """
    found = {}
    for name, value in got.items():
        beside = name.replace(".k.bias", ".q.bias")
        norm = float(expected[beside].double().norm())
        found[name] = float((value.double() - expected[name].double()).norm()) / (norm or 1.0)
    return found


def without_key_biases(values: dict[str, float]) -> dict[str, float]:
    """Adam divides a gradient by its size: rounding alone moves a key's bias, to no effect."""
    return {name: value for name, value in values.items() if not name.endswith(".k.bias")}


def compare_step(model: Any, folder: Path, optimizer: Optimizer, batch: TrainingBatch) -> Any:
    """The differences of the loss, of all gradients and of all weights after one update."""
    task = CausalLM.from_preset(oracle_models.save(model, folder), preprocessor=None, num_threads=1)
    trainer = make_trainer(task, optimizer)
    (result,) = trainer.update([batch])
    model.train()
    loss = their_step(model, optimizer(model.parameters()), batch)
    gradients = differences(our_gradients(task), by_our_names(model, gradients=True))
    after = {name: p.detach() for name, p in task.torch_module().named_parameters()}
    weights = differences(after, by_our_names(model, gradients=False))
    return {
        "loss": loss,
        "loss difference": abs(result.loss - loss) / loss,
        "tensors": len(gradients),
        "largest gradient difference": max(gradients.values()),
        "in": max(gradients, key=lambda name: gradients[name]),
        "largest weight difference": max(without_key_biases(weights).values()),
    }


def engine_difference(task: CausalLM, batch: TrainingBatch) -> float:
    """Logits of the engine and of the module at real positions, relative to the largest."""
    module = task.torch_module().eval()
    name = "padding_mask" if "padding_mask" in batch.inputs else "decoder_padding_mask"
    with torch.no_grad():
        tensors = {key: torch.from_numpy(value) for key, value in batch.inputs.items()}
        expected = module(tensors).numpy()[batch.inputs[name]]
    got = task.backbone.forward(batch.inputs)[0][batch.inputs[name]]
    return float(np.abs(got - expected).max() / np.abs(expected).max())


def compare_curves(
    model: Any, folder: Path, optimizer: Optimizer, batches: list[TrainingBatch]
) -> Any:
    """The largest difference of losses over many updates, and of the engine's logits at the end."""
    task = CausalLM.from_preset(oracle_models.save(model, folder), preprocessor=None, num_threads=1)
    trainer = make_trainer(task, optimizer)
    model.train()
    theirs = optimizer(model.parameters())
    ours, expected = [], []
    for step in range(STEPS):
        batch = batches[step % len(batches)]
        ours.append(trainer.update([batch])[0].loss)
        expected.append(their_step(model, theirs, batch))
    trainer.finish()
    pairs = zip(ours, expected, strict=True)
    return {
        "first loss": expected[0],
        "last loss": expected[-1],
        "largest loss difference": max(abs(a - b) / b for a, b in pairs),
        "engine's logits": engine_difference(task, batches[0]),
    }


def adamw(rate: float) -> Optimizer:
    """torch's AdamW for parameters."""
    return lambda parameters: torch.optim.AdamW(parameters, lr=rate)


def main() -> int:
    """Compares every shape; returns 1 if one is off."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="where to write the results")
    options = parser.parse_args()
    steps, curves = {}, {}
    for shape, (kind, fields) in STEP_SHAPES.items():
        with tempfile.TemporaryDirectory() as folder:
            model = make_model(kind, **fields)
            batch = make_batch(model, 2, 48)
            steps[shape] = compare_step(model, Path(folder), adamw(1e-4), batch)
        print(shape, steps[shape], flush=True)
    for shape, (kind, fields) in CURVE_SHAPES.items():
        with tempfile.TemporaryDirectory() as folder:
            model = make_model(kind, **fields)
            batches = [make_batch(model, 4, 32, seed) for seed in range(5)]
            curves[shape] = compare_curves(model, Path(folder), adamw(3e-4), batches)
        print(shape, curves[shape], flush=True)
    faults = sum(
        found["largest gradient difference"] > TOLERANCE
        or found["largest weight difference"] > TOLERANCE
        for found in steps.values()
    ) + sum(
        found["largest loss difference"] > CURVE_TOLERANCE
        or found["engine's logits"] > LOGITS_TOLERANCE
        for found in curves.values()
    )
    if options.json:
        packages = {name: version(name) for name in ("numpy", "torch", "transformers")}
        result = {
            "versions": {
                "python": platform.python_version(),
                "fuseq": fuseq.__version__,
                **packages,
            },
            "threads": os.environ.get("OMP_NUM_THREADS", "all"),
            "tolerances": {
                "gradients and weights": TOLERANCE,
                "losses": CURVE_TOLERANCE,
                "engine's logits": LOGITS_TOLERANCE,
            },
            "one step of AdamW": steps,
            f"{STEPS} steps of AdamW": curves,
        }
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
