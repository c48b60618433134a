# SPDX-License-Identifier: Apache-2.0
"""config.json into our spec and back."""

import json
from typing import Any

import pytest
from fuseq._core import validate_spec, weight_table
from fuseq.models.families import FAMILIES, bart, gpt2


def checked(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec with every field, as the engine reads it."""
    return json.loads(validate_spec(json.dumps(spec)))


def test_absent_fields_of_bart_are_those_of_bart_large() -> None:
    spec = checked(bart.spec({}))
    for stack in ("encoder", "decoder"):
        assert spec[stack] | {
            "layers": 12, "dim": 1024, "heads": 16, "head_dim": 64, "ffn_dim": 4096, "act": "gelu",
            "place": "post", "embed_norm": True, "final_norm": False, "max_positions": 1024,
            "position_offset": 2,
        } == spec[stack]  # fmt: skip
    assert (spec["vocab"], spec["embed_scale"], spec["eos_ids"]) == (50265, 1, [2])
    assert (spec["pad_id"], spec["bos_id"], spec["decoder_start_id"]) == (1, 0, 2)


def test_absent_fields_of_gpt2_are_those_of_the_smallest() -> None:
    spec = checked(gpt2.spec({}))
    assert spec["encoder"]["layers"] == 0
    assert spec["decoder"] | {
        "layers": 12, "dim": 768, "heads": 12, "ffn_dim": 3072, "act": "gelu_tanh",
        "place": "pre", "final_norm": True, "max_positions": 1024, "position_offset": 0,
    } == spec["decoder"]  # fmt: skip
    assert (spec["vocab"], spec["bos_id"], spec["eos_ids"], spec["pad_id"]) == (
        50257, 50256, [50256], -1,
    )  # fmt: skip


def test_the_defaults_are_those_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    assert checked(bart.spec(transformers.BartConfig().to_dict())) == checked(bart.spec({}))
    assert checked(gpt2.spec(transformers.GPT2Config().to_dict())) == checked(gpt2.spec({}))


def test_fields_of_bart_are_honoured() -> None:
    spec = checked(
        bart.spec(
            {
                "d_model": 64, "encoder_layers": 1, "decoder_layers": 3, "scale_embedding": True,
                "encoder_attention_heads": 4, "decoder_attention_heads": 2,
                "encoder_ffn_dim": 100, "decoder_ffn_dim": 200, "activation_function": "swish",
                "max_position_embeddings": 50, "eos_token_id": [2, 5], "bos_token_id": None,
                "tie_word_embeddings": False, "vocab_size": 99,
            }
        )
    )  # fmt: skip
    assert spec["embed_scale"] == 8
    assert [spec[s]["layers"] for s in ("encoder", "decoder")] == [1, 3]
    assert [spec[s]["head_dim"] for s in ("encoder", "decoder")] == [16, 32]
    assert [spec[s]["ffn_dim"] for s in ("encoder", "decoder")] == [100, 200]
    assert spec["decoder"]["act"] == "silu"
    assert (spec["eos_ids"], spec["bos_id"], spec["head"]["tied"]) == ([2, 5], -1, False)


def test_fields_of_gpt2_are_honoured() -> None:
    given = {
        "n_embd": 60, "n_layer": 2, "n_head": 5, "n_inner": 77, "activation_function": "relu",
        "layer_norm_epsilon": 1e-3, "scale_attn_weights": False, "vocab_size": 90,
        "n_positions": 33,
    }  # fmt: skip
    spec = checked(gpt2.spec(given))
    decoder = spec["decoder"]
    assert (decoder["ffn_dim"], decoder["norm_eps"], decoder["score_scale"]) == (77, 0.001, 1)
    assert (decoder["act"], decoder["max_positions"], decoder["head_dim"]) == ("relu", 33, 12)
    assert (spec["eos_ids"], spec["bos_id"]) == ([], -1)  # 50256 is beyond the vocabulary
    assert checked(gpt2.spec({**given, "n_inner": None}))["decoder"]["ffn_dim"] == 240
    names = {"n_embd": "hidden_size", "n_layer": "num_hidden_layers",
             "n_head": "num_attention_heads", "n_positions": "max_position_embeddings"}  # fmt: skip
    assert checked(gpt2.spec({names.get(k, k): v for k, v in given.items()})) == spec


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("bart", {}),
        ("bart", {"scale_embedding": True, "encoder_layers": 2, "activation_function": "gelu_new"}),
        ("bart", {"eos_token_id": [2, 7], "pad_token_id": None, "tie_word_embeddings": False}),
        ("gpt2", {}),
        ("gpt2", {"n_inner": 5, "scale_attn_weights": False, "layer_norm_epsilon": 0.01}),
    ],
)
def test_a_spec_written_as_config_reads_back_equal(name: str, config: dict[str, Any]) -> None:
    family = FAMILIES[name]
    spec = checked(family.spec(config))
    assert checked(family.spec(family.config(spec))) == spec


@pytest.mark.parametrize("name", FAMILIES)
def test_every_weight_has_a_place_in_the_checkpoint(name: str) -> None:
    family = FAMILIES[name]
    for tied in (True, False):
        config = {"tie_word_embeddings": tied, "n_layer": 1, "encoder_layers": 1,
                  "decoder_layers": 1}  # fmt: skip
        for weight, _, _ in weight_table(json.dumps(family.spec(config))):
            assert weight.replace(".0.", ".{i}.") in family.weights


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("bart", {"activation_function": "mish"}, "activation_function.*'mish'"),
        ("bart", {"d_model": "64"}, "d_model.*whole number"),
        ("bart", {"d_model": True}, "d_model"),
        ("bart", {"encoder_layers": -1}, "encoder_layers"),
        ("bart", {"encoder_attention_heads": 7}, "encoder_attention_heads must divide d_model"),
        ("bart", {"decoder_attention_heads": 0}, "decoder_attention_heads"),
        ("bart", {"is_encoder_decoder": False}, "is_encoder_decoder"),
        ("bart", {"scale_embedding": "yes"}, "scale_embedding"),
        ("bart", {"dropout": "a lot"}, "dropout"),
        ("bart", {"eos_token_id": [2, "x"]}, "eos_token_id"),
        ("bart", {"eos_token_id": 2.5}, "eos_token_id"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        ("gpt2", {"reorder_and_upcast_attn": True}, "reorder_and_upcast_attn"),
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention"),
        ("gpt2", {"n_head": 5}, "n_head must divide n_embd"),
        ("gpt2", {"layer_norm_epsilon": None, "activation_function": None}, "activation_function"),
    ],
)
def test_a_bad_field_is_named(name: str, config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FAMILIES[name].spec(config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocab": 0}, "vocab"),
        ({"eos_ids": [99999999]}, "eos_ids"),
        ({"decoder_start_id": 50265}, "decoder_start_id"),
        ({"vocabulary": 5}, "vocabulary"),
        ({"encoder": {"layers": 1, "dim": 8, "heads": 3, "kv_heads": 2}}, "kv_heads"),
    ],
)
def test_the_engine_names_what_contradicts_in_a_spec(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        validate_spec(json.dumps({**bart.spec({}), **change}))
