# SPDX-License-Identifier: Apache-2.0
"""Backbones: outputs, configs, numbers of weights, presets; as KerasHub has them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuseq.models import Backbone, BartBackbone, GPT2Backbone
from tiny_tasks import BART, GPT2, bart, gpt2, ids_of

SMALL = {
    "vocabulary_size": 270,
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 16,
    "intermediate_dim": 32,
    "max_sequence_length": 32,
}
BASE = {"num_layers": 6, "num_heads": 12, "hidden_dim": 768, "intermediate_dim": 3072}
KINDS = [BartBackbone, GPT2Backbone]


def test_bart_gives_states_of_both_stacks() -> None:
    task = bart()
    arrays, _, mask = ids_of(task)
    found = task.backbone(arrays)
    assert isinstance(found, dict)
    assert {key: (values.shape, values.dtype) for key, values in found.items()} == {
        "encoder_sequence_output": ((3, 14, 16), np.float32),
        "decoder_sequence_output": ((3, 13, 16), np.float32),
    }
    assert (found["decoder_sequence_output"][~mask] == 0).all()
    assert (found["encoder_sequence_output"][~arrays["encoder_padding_mask"]] == 0).all()
    encoded = task.backbone.encode(arrays["encoder_token_ids"], arrays["encoder_padding_mask"])
    np.testing.assert_array_equal(found["encoder_sequence_output"], encoded)


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_gives_the_same_weights_again(kind: Any) -> None:
    one, again, other, unseeded = (
        kind(**SMALL, seed=seed).model.weight("embed.tokens") for seed in (3, 3, 4, None)
    )
    np.testing.assert_array_equal(np.asarray(one), np.asarray(again))
    for table in (other, unseeded):
        assert not np.array_equal(np.asarray(one), np.asarray(table))
    for wrong in (-1, 1.5, True, "3"):
        with pytest.raises(TypeError, match=rf"{kind.__name__}: seed must be .*, got {wrong!r}"):
            kind(**SMALL, seed=wrong)


def test_gpt2_gives_states_of_its_one_stack() -> None:
    task = gpt2()
    arrays, _, mask = ids_of(task)
    found = task.backbone(arrays)
    assert isinstance(found, np.ndarray)
    assert (found.shape, found.dtype) == ((3, 13, 16), np.float32)
    assert (found[~mask] == 0).all()
    assert task(arrays).shape == (3, 13, task.backbone.vocabulary_size)


@pytest.mark.parametrize("make", [bart, gpt2])
def test_padding_changes_no_states(make: Any) -> None:
    task = make()
    arrays, _, _ = ids_of(task)
    found = task(arrays)
    start = "decoder_" if task.backbone.is_seq2seq else ""
    for row in range(3):
        one = {
            key: values[row : row + 1, arrays[key.replace("token_ids", "padding_mask")][row]]
            for key, values in arrays.items()
            if key.endswith("token_ids")
        }
        mask = arrays[f"{start}padding_mask"][row]
        np.testing.assert_allclose(found[row, mask], task(one)[0], atol=1e-5)


def test_inputs_that_do_not_fit_are_named() -> None:
    backbone = bart().backbone
    with pytest.raises(ValueError, match="inputs: must be a dict with 'encoder_token_ids', got d"):
        backbone({"decoder_token_ids": [[2]]})
    with pytest.raises(ValueError, match="inputs: must be a dict with 'decoder_token_ids', got e"):
        backbone({"encoder_token_ids": [[2]]})
    with pytest.raises(ValueError, match="inputs: must be a dict with 'token_ids', got ndarray"):
        gpt2().backbone(np.array([[2]]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "class_name"), [(BartBackbone, "bart_backbone"), (GPT2Backbone, "gpt2_backbone")]
)
def test_a_config_has_keras_hubs_arguments_and_makes_an_equal_backbone(
    kind: type[Backbone], class_name: str
) -> None:
    backbone = kind(**SMALL)  # type: ignore[arg-type]
    config = backbone.get_config()
    expected = {**SMALL, "dropout": 0.1, "name": class_name, "trainable": True}
    assert {key: value for key, value in config.items() if key != "dtype"} == expected
    again = kind.from_config({**config, "name": "mine"})
    assert again.spec == backbone.spec
    assert again.name == "mine"
    for name, value in SMALL.items():
        assert getattr(again, name) == value


@pytest.mark.parametrize("kind", KINDS)
def test_positional_arguments_are_those_of_keras_hub(kind: Any) -> None:
    backbone = kind(270, 2, 4, 16, 32, 0.25, 40, "bfloat16")
    wanted = {**SMALL, "num_heads": 4, "dropout": 0.25, "max_sequence_length": 40}
    assert {name: getattr(backbone, name) for name in wanted} == wanted
    assert backbone.dtype == "bfloat16"
    assert kind(**{**SMALL, "max_sequence_length": 1024}).spec == kind(270, 2, 2, 16, 32).spec


@pytest.mark.parametrize(
    ("kind", "arguments", "count"),
    [
        (BartBackbone, SMALL, 16_544),
        (GPT2Backbone, SMALL, 9_312),
        (BartBackbone, {"vocabulary_size": 50_265, **BASE}, 139_417_344),
        (GPT2Backbone, {"vocabulary_size": 50_257, **BASE, "num_layers": 12}, 124_439_808),
    ],
)
def test_weights_are_counted_as_keras_hub_counts_them(
    kind: type[Backbone], arguments: dict[str, int], count: int
) -> None:
    backbone = kind(**arguments)  # type: ignore[arg-type]
    assert backbone.count_params() == count
    assert sum(backbone.weight_counts().values()) == count
    assert backbone.engine._model is None  # nothing was drawn to be counted


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_drawn_at_random_once(kind: Any) -> None:
    one, two = kind(**SMALL), kind(**SMALL)
    first = one.model.weight("embed.tokens").numpy()
    assert one.model is one.model
    assert not np.array_equal(first, two.model.weight("embed.tokens").numpy())
    assert 0.01 < first.std() < 0.03


@pytest.mark.parametrize("dtype", ["bfloat16", "mixed_bfloat16", {"config": {"name": "bfloat16"}}])
@pytest.mark.parametrize("kind", KINDS)
def test_weights_can_be_bfloat16(kind: Any, dtype: object) -> None:
    backbone = kind(**SMALL, dtype=dtype)
    assert backbone.dtype == "bfloat16"
    assert backbone.model.weight("embed.tokens").dtype == "bfloat16"
    inputs = {"token_ids": [[3, 4, 5]]}
    if backbone.is_seq2seq:
        inputs = {"encoder_token_ids": [[3, 4]], "decoder_token_ids": [[2, 5]]}
    assert backbone.forward(inputs)[1].dtype == np.float32


@pytest.mark.parametrize("dtype", ["float16", "int4", "float12", 3])
def test_other_dtypes_are_refused(dtype: object) -> None:
    allowed = "float32, bfloat16, mixed_bfloat16, int8"
    with pytest.raises(ValueError, match=f"dtype: must be one of {allowed}, got"):
        GPT2Backbone(**SMALL, dtype=dtype)  # type: ignore[arg-type]


def test_arguments_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="num_heads must divide hidden_dim 16, got 3"):
        BartBackbone(**{**SMALL, "num_heads": 3})
    with pytest.raises(ValueError, match="layers must not both be 0"):
        GPT2Backbone(**{**SMALL, "num_layers": 0})
    with pytest.raises(ValueError, match="max_sequence_length must be a whole number >= 1"):
        GPT2Backbone(**{**SMALL, "max_sequence_length": 0})


# ---- presets ----


@pytest.mark.parametrize(
    ("base", "folder", "kind"),
    [
        (Backbone, BART, BartBackbone),
        (Backbone, GPT2, GPT2Backbone),
        (BartBackbone, BART, BartBackbone),
        (GPT2Backbone, GPT2, GPT2Backbone),
    ],
)
def test_bases_find_the_class_of_a_preset(
    base: type[Backbone], folder: Path, kind: type[Backbone]
) -> None:
    backbone = base.from_preset(folder)
    assert type(backbone) is kind
    assert backbone.dtype == "float32"
    assert backbone.source == folder
    assert base.from_preset(folder, dtype="bfloat16").dtype == "bfloat16"


def test_the_class_of_another_family_is_an_error_that_names_both() -> None:
    with pytest.raises(
        ValueError,
        match=r"Unable to find a subclass of GPT2Backbone .* with BartBackbone found in preset",
    ):
        GPT2Backbone.from_preset(BART)
    with pytest.raises(TypeError, match="dtyp"):
        Backbone.from_preset(BART, dtyp="float32")


def test_weights_are_not_read_when_they_are_not_wanted(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((BART / "config.json").read_bytes())
    backbone = Backbone.from_preset(tmp_path, load_weights=False)
    assert backbone.get_config() == Backbone.from_preset(BART).get_config()
    assert Backbone.from_preset(BART, load_weights=False).spec == Backbone.from_preset(BART).spec
    assert backbone.source is None
    inputs = {"encoder_token_ids": [[0, 2]], "decoder_token_ids": [[2, 0]]}
    assert np.abs(backbone.forward(inputs)[1]).sum() > 0


@pytest.mark.parametrize("ending", [".weights.h5", ".safetensors"])
@pytest.mark.parametrize("folder", [BART, GPT2])
def test_weights_alone_survive_a_file(folder: Path, ending: str, tmp_path: Path) -> None:
    backbone = Backbone.from_preset(folder)
    backbone.save_weights(tmp_path / f"mine{ending}")
    other = Backbone.from_preset(folder, load_weights=False)
    inputs = {"token_ids": [[3, 4, 5]]}
    if backbone.is_seq2seq:
        inputs = {"encoder_token_ids": [[3, 4]], "decoder_token_ids": [[2, 5]]}
    wanted = backbone.forward(inputs)[0]
    assert not np.allclose(other.forward(inputs)[0], wanted, atol=1e-3)
    other.load_weights(tmp_path / f"mine{ending}")
    np.testing.assert_array_equal(other.forward(inputs)[0], wanted)
