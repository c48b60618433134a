# SPDX-License-Identifier: Apache-2.0
"""BART: post-norm encoder and decoder with learned positions and a tied head."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from fuseq._core import Tensor
from fuseq.models.families.config import (
    Fields,
    activation_name,
    equal,
    head_dim,
    one_or_list,
    or_none,
)
from fuseq.presets.family import Family, KerasClass, KerasFamily, KerasSource, Source, Spec
from fuseq.presets.keras_tables import layer_sources, norm_sources, read_backbone, write_backbone

_POSITION_OFFSET = 2  # rows of the position table that no token uses
_NORM_EPS = 1e-5


def spec(config: Mapping[str, Any]) -> Spec:
    """Reads a `config.json` into our spec.

    Args:
        config: The parsed file; absent fields have the defaults of `BartConfig`.

    Returns:
        The spec, ready for JSON.

    Raises:
        ValueError: A field is misspelt, of the wrong type, or asks for what the engine lacks.
    """
    fields = Fields(config)
    fields.must_be("is_encoder_decoder", True)
    dim = fields.integer("d_model", "hidden_size", default=1024)
    vocab = fields.integer("vocab_size", default=50265)
    return {
        "family": "bart",
        "vocab": vocab,
        "embed_scale": math.sqrt(dim) if fields.flag("scale_embedding", False) else 1.0,
        "encoder": _stack(fields, "encoder", dim),
        "decoder": _stack(fields, "decoder", dim),
        "head": {"tied": fields.flag("tie_word_embeddings", True)},
        "pad_id": fields.token_id("pad_token_id", 1, vocab),
        "bos_id": fields.token_id("bos_token_id", 0, vocab),
        "decoder_start_id": fields.token_id("decoder_start_token_id", 2, vocab),
        "eos_ids": fields.token_ids("eos_token_id", 2, vocab),
        "dropout": fields.number("dropout", 0.1),
        "attention_dropout": fields.number("attention_dropout", 0.0),
        "activation_dropout": fields.number("activation_dropout", 0.0),
    }


def _stack(fields: Fields, stack: str, dim: int) -> Spec:
    heads = fields.integer(f"{stack}_attention_heads", default=16)
    return {
        "layers": fields.integer(f"{stack}_layers", default=12),
        "dim": dim,
        "heads": heads,
        "kv_heads": heads,
        "head_dim": head_dim(dim, heads, "d_model", f"{stack}_attention_heads"),
        "ffn_dim": fields.integer(f"{stack}_ffn_dim", default=4096),
        "norm": "layer",
        "norm_eps": _NORM_EPS,
        "place": "post",
        "embed_norm": True,
        "final_norm": False,
        "act": fields.activation("activation_function", "gelu"),
        "positions": "table",
        "max_positions": fields.integer("max_position_embeddings", default=1024),
        "position_offset": _POSITION_OFFSET,
    }


def config(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Writes a spec as `config.json`, the reverse of `spec`."""
    encoder, decoder = spec["encoder"], spec["decoder"]
    result: dict[str, Any] = {
        "vocab_size": spec["vocab"],
        "d_model": decoder["dim"],
        "max_position_embeddings": decoder["max_positions"],
        "activation_function": activation_name(decoder["act"]),
        "scale_embedding": spec["embed_scale"] != 1,
        "is_encoder_decoder": True,
        "tie_word_embeddings": spec["head"]["tied"],
        "pad_token_id": or_none(spec["pad_id"]),
        "bos_token_id": or_none(spec["bos_id"]),
        "decoder_start_token_id": or_none(spec["decoder_start_id"]),
        "eos_token_id": one_or_list(spec["eos_ids"]),
        "forced_eos_token_id": None,
        "dropout": spec["dropout"],
        "attention_dropout": spec["attention_dropout"],
        "activation_dropout": spec["activation_dropout"],
    }
    for name, stack in (("encoder", encoder), ("decoder", decoder)):
        result[f"{name}_layers"] = stack["layers"]
        result[f"{name}_attention_heads"] = stack["heads"]
        result[f"{name}_ffn_dim"] = stack["ffn_dim"]
    result["num_hidden_layers"] = encoder["layers"]
    return result


def adapt(spec: Spec, find: Callable[[str], Tensor | None]) -> Spec:
    """Settles what only the weights tell: whether there is a bias, and what is tied."""
    shared = find("model.shared.weight")
    tables = [find(f"model.{stack}.embed_tokens.weight") for stack in ("encoder", "decoder")]
    known = [table for table in (shared, *tables) if table is not None]
    if any(not equal(known[0], table) for table in known[1:]):
        raise ValueError(
            "weights: model.shared, model.encoder.embed_tokens and model.decoder.embed_tokens must "
            "be equal, got different tables. The engine has one for both stacks"
        )
    head = dict(spec["head"])
    lm_head = find("lm_head.weight")
    if known and lm_head is not None and head["tied"] and not equal(known[0], lm_head):
        head["tied"] = False  # as transformers decides where both are there
    bias = find("final_logits_bias")
    head["bias"] = bias is not None and bool(bias.float().numpy().any())
    return {**spec, "head": head}


def _weights() -> dict[str, Source]:
    table = {
        "embed.tokens": Source(
            "model.shared.weight",
            others=(
                "model.encoder.embed_tokens.weight",
                "model.decoder.embed_tokens.weight",
                "lm_head.weight",
            ),
        ),
        "head.weight": Source("lm_head.weight"),
        "head.bias": Source("final_logits_bias", leading_axis=True),
    }
    layer = {
        "attn.q": "self_attn.q_proj",
        "attn.k": "self_attn.k_proj",
        "attn.v": "self_attn.v_proj",
        "attn.o": "self_attn.out_proj",
        "attn_norm": "self_attn_layer_norm",
        "cross_attn.q": "encoder_attn.q_proj",
        "cross_attn.k": "encoder_attn.k_proj",
        "cross_attn.v": "encoder_attn.v_proj",
        "cross_attn.o": "encoder_attn.out_proj",
        "cross_attn_norm": "encoder_attn_layer_norm",
        "ffn.up": "fc1",
        "ffn.down": "fc2",
        "ffn_norm": "final_layer_norm",
    }
    for stack in ("encoder", "decoder"):
        table[f"{stack}.positions"] = Source(f"model.{stack}.embed_positions.weight")
        for kind in ("weight", "bias"):
            table[f"{stack}.embed_norm.{kind}"] = Source(
                f"model.{stack}.layernorm_embedding.{kind}"
            )
            for ours, theirs in layer.items():
                table[f"{stack}.{{i}}.{ours}.{kind}"] = Source(
                    f"model.{stack}.layers.{{i}}.{theirs}.{kind}"
                )
    return table


def keras_spec(config: Mapping[str, Any]) -> Spec:
    """Reads the backbone's config of a KerasHub preset into our spec.

    Args:
        config: The `config` object of `config.json`.

    Returns:
        The spec, ready for JSON; KerasHub's tables of positions have no unused rows, ours get them
        so that the model can be written for transformers too.

    Raises:
        ValueError: A field is not there, or not what it should be.
    """
    outside, stack = read_backbone(config)
    stack = {
        **stack,
        "place": "post",
        "embed_norm": True,
        "final_norm": False,
        "act": "gelu",
        "position_offset": _POSITION_OFFSET,
    }
    return {"family": "bart", **outside, "encoder": stack, "decoder": stack}


def _keras_weights() -> dict[str, KerasSource]:
    table = {"embed.tokens": KerasSource("reversible_embedding", "token_embedding", axes="VD")}
    for stack, number in (("encoder", ""), ("decoder", "_1")):
        table[f"{stack}.positions"] = KerasSource(
            f"position_embedding{number}", f"{stack}_position_embedding", axes="PD"
        )
        table |= norm_sources(
            f"{stack}.embed_norm",
            f"layer_normalization{number}",
            f"{stack}_embeddings_layer_norm",
        )
        table |= layer_sources(
            stack,
            f"transformer_{stack}{{_i}}",
            f"transformer_{stack}_layer_{{i}}",
            cross=stack == "decoder",
        )
    return table


_KERAS_MODULE = "keras_hub.src.models.bart.bart_"

KERAS = KerasFamily(
    backbone=KerasClass("BartBackbone", f"{_KERAS_MODULE}backbone", "bart_backbone"),
    tokenizer=KerasClass("BartTokenizer", f"{_KERAS_MODULE}tokenizer", "bart_tokenizer"),
    preprocessor=KerasClass(
        "BartSeq2SeqLMPreprocessor",
        f"{_KERAS_MODULE}seq_2_seq_lm_preprocessor",
        "bart_seq2_seq_lm_preprocessor",
    ),
    task=KerasClass("BartSeq2SeqLM", f"{_KERAS_MODULE}seq_2_seq_lm", "bart_seq2_seq_lm"),
    task_kind="Seq2SeqLM",
    spec=keras_spec,
    config=write_backbone,
    weights=_keras_weights(),
    special_tokens={
        "pad_id": "<pad>",
        "bos_id": "<s>",
        "eos_ids": "</s>",
        "decoder_start_id": "</s>",
    },
)

FAMILY = Family(
    model_type="bart",
    architecture="BartForConditionalGeneration",
    prefix="model.",
    spec=spec,
    config=config,
    adapt=adapt,
    weights=_weights(),
    ignored=(
        r"model\.(shared|(encoder|decoder)\.embed_tokens)\.weight",
        r"lm_head\.weight",
        r"final_logits_bias",
        r"model\.(encoder|decoder)\.(version|embed_positions\._float_tensor)",
    ),
    from_weights=("head.bias",),
    untied_copies=("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight"),
    keras=KERAS,
)
