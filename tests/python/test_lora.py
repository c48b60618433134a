# SPDX-License-Identifier: Apache-2.0
"""LoRA as KerasHub has it: what is adapted and trained, its files, and merging."""

import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from fuseq.callbacks import Callback, EarlyStopping
from fuseq.models import Backbone, CausalLM, GPT2Backbone
from tiny_tasks import SHAPE, bart, gpt2
from training_batches import TARGETS
from training_runs import assert_same_weights, make_gpt2

TASKS = {"bart": bart, "gpt2": gpt2}
ADAM = {"class_name": "Adam", "config": {"learning_rate": 1e-2}}
IDS = np.array([[4, 9, 30, 7, 12], [5, 40, 8, 8, 21]])
TEXTS: dict[str, Any] = {
    "bart": {"encoder_text": [" the fox", " an inn"], "decoder_text": [" a fox", " the inn"]},
    "gpt2": [" the quick fox", " a fox in the inn"],
}


@pytest.fixture(params=["bart", "gpt2"])
def task(request: pytest.FixtureRequest) -> CausalLM:
    return TASKS[request.param](compile=False)


def logits_of(backbone: Backbone) -> Any:
    if backbone.is_seq2seq:
        return backbone.forward({"encoder_token_ids": IDS, "decoder_token_ids": IDS[:, :4]})[0]
    return backbone.forward({"token_ids": IDS})[0]


def draw(backbone: Backbone, seed: int = 1) -> None:
    """Factors that change the logits."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in backbone.torch_module().named_parameters():
            if ".adapter." in name:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))


def trained_names(backbone: Backbone) -> list[str]:
    return [n for n, p in backbone.torch_module().named_parameters() if p.requires_grad]


def family_of(task: CausalLM) -> str:
    return "bart" if task.backbone.is_seq2seq else "gpt2"


def test_queries_and_values_get_factors_and_keep_their_biases_trainable(task: CausalLM) -> None:
    backbone = task.backbone
    plain = logits_of(backbone)
    backbone.enable_lora(3)
    layers = 6 if backbone.is_seq2seq else 2
    names = trained_names(backbone)
    assert len(names) == layers * 2 * 3
    ends = {".".join(name.split(".")[3:]) for name in names}
    factors = ("bias", "adapter.lora_kernel_a", "adapter.lora_kernel_b")
    assert ends == {f"{letter}.{end}" for letter in "qv" for end in factors}
    np.testing.assert_array_equal(logits_of(backbone), plain)


@pytest.mark.parametrize(
    ("name", "part", "a", "b"),
    [
        ("query", "attn.q", (16, 2, 3), (3, 8)),
        ("key", "attn.k", (16, 2, 3), (3, 8)),
        ("attention_output", "attn.o", (2, 8, 3), (3, 16)),
        ("feedforward_intermediate_dense", "ffn.up", (16, 3), (3, 24)),
        ("feedforward_output_dense", "ffn.down", (24, 3), (3, 16)),
    ],
)
def test_factors_have_keras_shapes_and_initial_values(
    name: str, part: str, a: tuple[int, ...], b: tuple[int, ...]
) -> None:
    backbone = GPT2Backbone(vocabulary_size=50, num_threads=1, **SHAPE)
    backbone.enable_lora(3, target_layer_names=[name])
    layer = backbone.torch_module().get_submodule(f"decoder.1.{part}")
    assert layer.adapter.lora_kernel_a.shape == a
    assert layer.adapter.lora_kernel_b.shape == b
    limit = math.sqrt(6 / math.prod(a[:-1]))
    assert 0.8 * limit < layer.adapter.lora_kernel_a.abs().max() <= limit
    assert not layer.adapter.lora_kernel_b.any()
    draw(backbone)
    x = torch.randn(2, 5, layer.weight.shape[1])
    delta = layer.adapter.delta()
    assert delta.shape == layer.weight.shape
    torch.testing.assert_close(layer.adapter(x), x @ delta.T, atol=1e-5, rtol=1e-5)


def test_heads_share_the_second_factor() -> None:
    backbone = GPT2Backbone(vocabulary_size=50, num_threads=1, **SHAPE)
    backbone.enable_lora(3)
    draw(backbone)
    adapter = backbone.torch_module().get_submodule("decoder.0.attn.q").adapter
    a, b = adapter.lora_kernel_a.detach(), adapter.lora_kernel_b.detach()
    wanted = torch.einsum("dhr,re->hed", a, b).reshape(16, 16)
    torch.testing.assert_close(adapter.delta(), wanted)


def test_a_seed_repeats_the_factors(tmp_path: Path) -> None:
    drawn = []
    for seed in (1, 1, 2):
        backbone = GPT2Backbone(vocabulary_size=50, num_threads=1, **SHAPE)
        torch.manual_seed(seed)
        backbone.enable_lora(3)
        drawn.append(
            backbone.torch_module().get_submodule("decoder.1.attn.v").adapter.lora_kernel_a
        )
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_names_of_other_families_layers_mean_the_same() -> None:
    backbone = GPT2Backbone(vocabulary_size=50, num_threads=1, **SHAPE)
    backbone.enable_lora(3, [*backbone.default_lora_layer_names(), "key"])
    assert len(trained_names(backbone)) == 2 * 3 * 3


def test_the_engine_computes_what_the_module_does(task: CausalLM) -> None:
    backbone = task.backbone
    plain = logits_of(backbone)
    backbone.enable_lora(3, ["query", "attention_output", "feedforward_output_dense"])
    draw(backbone)
    ids = torch.from_numpy(IDS)
    inputs = {"token_ids": ids, "encoder_token_ids": ids, "decoder_token_ids": ids[:, :4]}
    with torch.no_grad():
        wanted = backbone.torch_module().eval()(inputs).numpy()
    assert np.abs(logits_of(backbone) - plain).max() > 0.1
    np.testing.assert_allclose(logits_of(backbone), wanted, atol=1e-4, rtol=1e-4)


def test_factors_are_saved_and_loaded(task: CausalLM, tmp_path: Path) -> None:
    backbone = task.backbone
    backbone.enable_lora(2, ["query", "key"])
    draw(backbone)
    path = tmp_path / "x.lora.h5"
    backbone.save_lora_weights(path)
    for enable in (False, True):
        again = TASKS[family_of(task)](compile=False).backbone
        if enable:
            again.enable_lora(2, ["key", "query"])
        again.load_lora_weights(path)
        assert trained_names(again) == trained_names(backbone)
        np.testing.assert_array_equal(logits_of(again), logits_of(backbone))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def loss_of(task: CausalLM, texts: Any) -> float:
    """Without dropout."""
    return float(task.evaluate(texts, verbose=0)[0])


def test_training_goes_on_from_merged_saves_unmerged(task: CausalLM, tmp_path: Path) -> None:
    texts = TEXTS[family_of(task)]
    task.compile(optimizer=ADAM, sampler="greedy")
    losses = [loss_of(task, texts)]
    task.fit(texts, epochs=3, verbose=0, seed=1)
    losses.append(loss_of(task, texts))
    frozen = task.torch_module().get_parameter("decoder.0.attn.q.weight").detach().clone()
    torch.manual_seed(1)
    task.backbone.enable_lora(2)
    task.fit(texts, epochs=5, verbose=0, seed=1)
    losses.append(loss_of(task, texts))
    assert torch.equal(task.torch_module().get_parameter("decoder.0.attn.q.weight"), frozen)
    adapter = task.torch_module().get_submodule("decoder.0.attn.q").adapter
    assert adapter.lora_kernel_b.abs().max() > 0

    task.save_to_preset(tmp_path / "merged")
    again = type(task).from_preset(tmp_path / "merged", num_threads=1)
    again.compile(sampler="greedy")
    np.testing.assert_allclose(logits_of(again.backbone), logits_of(task.backbone), atol=1e-5)
    assert task.generate(texts) == again.generate(texts)

    task.fit(texts, epochs=5, verbose=0, seed=1)
    losses.append(loss_of(task, texts))
    assert losses == sorted(losses, reverse=True)
    assert adapter is task.torch_module().get_submodule("decoder.0.attn.q").adapter


def test_factors_are_trained_in_bfloat16(task: CausalLM) -> None:
    texts = TEXTS[family_of(task)]
    task.compile(optimizer=ADAM)
    task.backbone.enable_lora(2, ["query", "attention_output", "feedforward_output_dense"])
    before = loss_of(task, texts)
    task.fit(texts, epochs=5, verbose=0, seed=1, precision="bfloat16")
    assert loss_of(task, texts) < before
    for name, parameter in task.torch_module().named_parameters():
        if name.endswith("lora_kernel_b"):
            assert parameter.dtype == torch.float32 and parameter.abs().max() > 0


class Interrupt(Callback):
    """Ends a run after the seventh batch."""

    left = 7

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def fit_lora(*callbacks: Any, **options: Any) -> CausalLM:
    """Five batches an epoch of a task that was just loaded; factors are drawn as in each start."""
    task = make_gpt2(dropout=True)
    torch.manual_seed(4)
    task.backbone.enable_lora(2)
    given: dict[str, Any] = {"batch_size": 5, "epochs": 3, "seed": 1, "verbose": 0, **options}
    task.fit(TARGETS, validation_data=TARGETS[:7], callbacks=list(callbacks), **given)
    return task


def parameters_of(task: CausalLM) -> dict[str, Any]:
    return {n: p.detach().clone() for n, p in task.torch_module().named_parameters()}


def test_a_run_with_lora_that_was_interrupted_goes_on_as_if_not(tmp_path: Path) -> None:
    expected = fit_lora()
    options = {"checkpoint_dir": tmp_path, "checkpoint_freq": 2}
    with pytest.raises(KeyboardInterrupt):
        fit_lora(Interrupt(), **options)
    task = fit_lora(**options)
    assert task.history.history == expected.history.history
    assert_same_weights(task, expected)
    found = parameters_of(task)
    for name, parameter in parameters_of(expected).items():
        assert torch.equal(found[name], parameter), name
    assert found["decoder.0.attn.q.adapter.lora_kernel_b"].abs().max() > 0


def test_the_best_factors_are_restored() -> None:
    # Better is what is larger: the loss falls, so that the first epoch's is the best.
    best = EarlyStopping("val_loss", patience=1, mode="max", restore_best_weights=True)
    stopped = fit_lora(best)
    assert stopped.history.epoch == [0, 1]
    first, found = parameters_of(fit_lora(epochs=1)), parameters_of(stopped)
    for name, parameter in first.items():
        assert torch.equal(found[name], parameter), name
    assert first["decoder.0.attn.q.adapter.lora_kernel_b"].abs().max() > 0


def test_a_summary_counts_what_trains() -> None:
    task = gpt2(compile=False)
    plain = task.count_params()
    lines: list[str] = []
    task.summary(print_fn=lines.append)
    assert "rainable" not in lines[-1]
    task.torch_module()
    task.summary(print_fn=lines.append)
    assert f" Trainable params: {plain:,}\n Non-trainable params: 0" in lines[-1]
    task.backbone.enable_lora(2)
    task.summary(print_fn=lines.append)
    factors = 2 * 2 * (16 * 2 * 2 + 2 * 8)
    biases = 2 * 2 * 16
    assert f" Total params: {plain + factors:,}\n" in lines[-1]
    assert f" Trainable params: {factors + biases:,}\n" in lines[-1]
    assert lines[-1].endswith(f" Non-trainable params: {plain - biases:,}")


def test_weights_that_are_loaded_are_not_adapted_twice(task: CausalLM, tmp_path: Path) -> None:
    backbone = task.backbone
    backbone.enable_lora(2)
    draw(backbone)
    before = logits_of(backbone)
    backbone.save_weights(tmp_path / "merged.weights.h5")
    backbone.load_weights(tmp_path / "merged.weights.h5")
    np.testing.assert_array_equal(logits_of(backbone), before)
    task.compile(optimizer=ADAM)
    losses = [loss_of(task, TEXTS[family_of(task)])]
    task.fit(TEXTS[family_of(task)], epochs=4, verbose=0, seed=1)
    assert loss_of(task, TEXTS[family_of(task)]) < losses[0]


def test_merging_keeps_the_logits_and_frees_the_weights(task: CausalLM) -> None:
    backbone = task.backbone
    backbone.enable_lora(2)
    draw(backbone)
    before = logits_of(backbone)
    backbone.merge_lora()
    np.testing.assert_array_equal(logits_of(backbone), before)
    assert len(trained_names(backbone)) == len(list(backbone.torch_module().parameters()))
    backbone.enable_lora(2)
    with pytest.raises(ValueError, match="enable_lora: the model must have no adapters yet"):
        backbone.enable_lora(2)
    backbone.merge_lora()
    with pytest.raises(ValueError, match="merge_lora: the model must have adapters, got none"):
        backbone.merge_lora()


def test_a_rank_may_be_a_number_of_numpy() -> None:
    backbone = GPT2Backbone(vocabulary_size=50, num_threads=1, **SHAPE)
    rank: Any = np.int32(3)
    backbone.enable_lora(rank)
    assert backbone.torch_module().get_submodule("decoder.0.attn.q").adapter.rank == 3


def test_a_model_that_keras_hub_lacks_is_sent_to_peft(tmp_path: Path) -> None:
    backbone = GPT2Backbone(vocabulary_size=50, num_threads=1, **SHAPE)
    backbone.enable_lora(2)
    module = backbone.torch_module()
    module.spec = {**module.spec, "embed_scale": 2.0}
    with pytest.raises(ValueError, match=r"embed_scale\. Use enable_peft, save_peft") as error:
        backbone.save_lora_weights(tmp_path / "x.lora.h5")
    assert "format=" not in str(error.value)


@pytest.mark.parametrize("rank", [0, -1, 2.0, True, None])
def test_a_rank_that_is_no_whole_number_above_0_is_refused(rank: Any) -> None:
    backbone = GPT2Backbone(vocabulary_size=50, num_threads=1, **SHAPE)
    with pytest.raises(ValueError, match="enable_lora: rank must be a whole number above 0"):
        backbone.enable_lora(rank)
    assert all(p.requires_grad for p in backbone.torch_module().parameters())


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["query", "gate"], "among query, key, value, attention_output.*, got gate"),
        ("query", "must be a list of names, got 'query'"),
        ([], "must be a list of names"),
        ([3], "must be a list of names"),
    ],
)
def test_names_that_are_not_known_are_refused(names: Any, message: str) -> None:
    backbone = GPT2Backbone(vocabulary_size=50, num_threads=1, **SHAPE)
    with pytest.raises(ValueError, match=f"target_layer_names.*{message}"):
        backbone.enable_lora(2, names)


def test_files_need_lora_and_the_ending(tmp_path: Path) -> None:
    backbone = GPT2Backbone(vocabulary_size=50, num_threads=1, **SHAPE)
    with pytest.raises(ValueError, match=r"save_lora_weights: the model must have LoRA, got none"):
        backbone.save_lora_weights(tmp_path / "x.lora.h5")
    with pytest.raises(FileNotFoundError, match=r"x.lora.h5\": the file must exist, got none"):
        backbone.load_lora_weights(tmp_path / "x.lora.h5")
    backbone.enable_lora(2)
    for call in (backbone.save_lora_weights, backbone.load_lora_weights):
        with pytest.raises(ValueError, match=r"filepath must end in .lora.h5, got \".*x.h5\""):
            call(tmp_path / "x.h5")
    (tmp_path / "folder.lora.h5").mkdir()
    with pytest.raises(IsADirectoryError, match=r"folder.lora.h5\": must be a file, got a folder"):
        backbone.save_lora_weights(tmp_path / "folder.lora.h5")
    with pytest.raises(FileNotFoundError, match="the folder must exist"):
        backbone.save_lora_weights(tmp_path / "none" / "x.lora.h5")


def test_files_that_do_not_fit_are_refused_in_one_message(tmp_path: Path) -> None:
    saved = GPT2Backbone(vocabulary_size=50, num_threads=1, **SHAPE)
    saved.enable_lora(2)
    path = tmp_path / "x.lora.h5"
    saved.save_lora_weights(path)
    other = GPT2Backbone(vocabulary_size=50, num_threads=1, **SHAPE)
    other.enable_lora(3)
    with pytest.raises(ValueError, match="the rank must be 3, as in enable_lora, got 2"):
        other.load_lora_weights(path)
    with h5py.File(path, "r+") as file:
        del file["lora/11/vars/lora_kernel_b"]
        del file["lora/9/vars/lora_kernel_a"]
        file["lora/9/vars/lora_kernel_a"] = np.zeros((16, 3, 2), np.float32)
        file["lora/7/vars/lora_kernel_a"] = np.zeros(1, np.float32)
        del file["lora/19/vars/lora_kernel_b"]
        file["lora/19/vars/lora_kernel_b"] = np.zeros((2, 8), np.int32)
    fresh = GPT2Backbone(vocabulary_size=50, num_threads=1, **SHAPE)
    with pytest.raises(ValueError, match="all factors must be there") as error:
        fresh.load_lora_weights(path)
    text = str(error.value)
    assert 'missing: "lora/11/vars/lora_kernel_b" [2, 8]' in text
    assert 'misshapen: "lora/9/vars/lora_kernel_a" must be [16, 2, 2], got [16, 3, 2]' in text
    assert 'unexpected: "lora/7/vars/lora_kernel_a"' in text
    assert 'dtype: "lora/19/vars/lora_kernel_b" must be floats, got int32' in text
    assert all(p.requires_grad for p in fresh.torch_module().parameters())
    with h5py.File(path, "r+") as file:
        del file["lora/vars/rank"]
    with pytest.raises(ValueError, match='"lora/vars/rank" must be a whole number above 0'):
        fresh.load_lora_weights(path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match="must be a whole HDF5 file"):
        fresh.load_lora_weights(path)


def test_a_model_without_lora_gets_it_only_where_the_whole_file_is_there(tmp_path: Path) -> None:
    path = tmp_path / "x.lora.h5"
    with h5py.File(path, "w") as file:
        file["lora/vars/rank"] = 2
    backbone = GPT2Backbone(vocabulary_size=50, num_threads=1, **SHAPE)
    with pytest.raises(ValueError, match=r'missing: "lora/11/vars/lora_kernel_a" \[16, 2, 2\]'):
        backbone.load_lora_weights(path)
