# SPDX-License-Identifier: Apache-2.0
"""GPT-2: a pre-norm decoder with learned positions and matrices stored as [inputs, outputs]."""

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


def spec(config: Mapping[str, Any]) -> Spec:
    """Reads a `config.json` into our spec.

    Args:
        config: The parsed file; absent fields have the defaults of `GPT2Config`.

    Returns:
        The spec, ready for JSON.

    Raises:
        ValueError: A field is of the wrong type, or asks for what the engine lacks.
    """
    fields = Fields(config)
    for refused in (
        "scale_attn_by_inverse_layer_idx",
        "reorder_and_upcast_attn",
        "add_cross_attention",
    ):
        fields.must_be(refused, False)
    dim = fields.integer("n_embd", "hidden_size", default=768)
    heads = fields.integer("n_head", "num_attention_heads", default=12)
    vocab = fields.integer("vocab_size", default=50257)
    return {
        "family": "gpt2",
        "vocab": vocab,
        "decoder": {
            "layers": fields.integer("n_layer", "num_hidden_layers", default=12),
            "dim": dim,
            "heads": heads,
            "kv_heads": heads,
            "head_dim": head_dim(dim, heads, "n_embd", "n_head"),
            "ffn_dim": fields.integer("n_inner", default=4 * dim),
            "norm": "layer",
            "norm_eps": fields.number("layer_norm_epsilon", 1e-5),
            "place": "pre",
            "embed_norm": False,
            "final_norm": True,
            "act": fields.activation("activation_function", "gelu_new"),
            "score_scale": 0.0 if fields.flag("scale_attn_weights", True) else 1.0,
            "positions": "table",
            "max_positions": fields.integer("n_positions", "max_position_embeddings", default=1024),
        },
        "head": {"tied": fields.flag("tie_word_embeddings", True)},
        "pad_id": fields.token_id("pad_token_id", vocab, vocab),
        "bos_id": fields.token_id("bos_token_id", 50256, vocab),
        "eos_ids": fields.token_ids("eos_token_id", 50256, vocab),
        "dropout": fields.number("resid_pdrop", 0.1),
        "attention_dropout": fields.number("attn_pdrop", 0.1),
    }


def config(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Writes a spec as `config.json`, the reverse of `spec`."""
    decoder = spec["decoder"]
    return {
        "vocab_size": spec["vocab"],
        "n_positions": decoder["max_positions"],
        "n_embd": decoder["dim"],
        "n_layer": decoder["layers"],
        "n_head": decoder["heads"],
        "n_inner": decoder["ffn_dim"],
        "activation_function": activation_name(decoder["act"]),
        "layer_norm_epsilon": decoder["norm_eps"],
        "scale_attn_weights": decoder["score_scale"] == 0,
        "tie_word_embeddings": spec["head"]["tied"],
        "pad_token_id": or_none(spec["pad_id"]),
        "bos_token_id": or_none(spec["bos_id"]),
        "eos_token_id": one_or_list(spec["eos_ids"]),
        "resid_pdrop": spec["dropout"],
        "embd_pdrop": spec["dropout"],
        "attn_pdrop": spec["attention_dropout"],
    }


def adapt(spec: Spec, find: Callable[[str], Tensor | None]) -> Spec:
    """Settles what only the weights tell: whether the head is really tied."""
    table = find("transformer.wte.weight")
    lm_head = find("lm_head.weight")
    head = dict(spec["head"])
    if table is not None and lm_head is not None and head["tied"] and not equal(table, lm_head):
        head["tied"] = False  # as transformers decides where both are there
    return {**spec, "head": head}


def _weights() -> dict[str, Source]:
    table = {
        "embed.tokens": Source("transformer.wte.weight", others=("lm_head.weight",)),
        "decoder.positions": Source("transformer.wpe.weight"),
        "head.weight": Source("lm_head.weight"),
    }
    for kind in ("weight", "bias"):
        is_matrix = kind == "weight"
        for part, letter in enumerate("qkv"):
            table[f"decoder.{{i}}.attn.{letter}.{kind}"] = Source(
                f"transformer.h.{{i}}.attn.c_attn.{kind}", transpose=is_matrix, part=part, parts=3
            )
        for ours, theirs in (
            ("attn.o", "attn.c_proj"),
            ("ffn.up", "mlp.c_fc"),
            ("ffn.down", "mlp.c_proj"),
        ):
            table[f"decoder.{{i}}.{ours}.{kind}"] = Source(
                f"transformer.h.{{i}}.{theirs}.{kind}", transpose=is_matrix
            )
        for ours, theirs in (("attn_norm", "ln_1"), ("ffn_norm", "ln_2")):
            table[f"decoder.{{i}}.{ours}.{kind}"] = Source(f"transformer.h.{{i}}.{theirs}.{kind}")
        table[f"decoder.final_norm.{kind}"] = Source(f"transformer.ln_f.{kind}")
    return table


def keras_spec(config: Mapping[str, Any]) -> Spec:
    """Reads the backbone's config of a KerasHub preset into our spec.

    Args:
        config: The `config` object of `config.json`.

    Returns:
        The spec, ready for JSON.

    Raises:
        ValueError: A field is not there, or not what it should be.
    """
    outside, stack = read_backbone(config)
    stack = {
        **stack,
        "place": "pre",
        "embed_norm": False,
        "final_norm": True,
        "act": "gelu_tanh",
    }
    return {"family": "gpt2", **outside, "decoder": stack}


_KERAS_MODULE = "keras_hub.src.models.gpt2.gpt2_"

KERAS = KerasFamily(
    backbone=KerasClass("GPT2Backbone", f"{_KERAS_MODULE}backbone", "gpt2_backbone"),
    tokenizer=KerasClass("GPT2Tokenizer", f"{_KERAS_MODULE}tokenizer", "gpt2_tokenizer"),
    preprocessor=KerasClass(
        "GPT2CausalLMPreprocessor",
        f"{_KERAS_MODULE}causal_lm_preprocessor",
        "gpt2_causal_lm_preprocessor",
    ),
    task=KerasClass("GPT2CausalLM", f"{_KERAS_MODULE}causal_lm", "gpt2_causal_lm"),
    task_kind="CausalLM",
    spec=keras_spec,
    config=write_backbone,
    weights={
        "embed.tokens": KerasSource("reversible_embedding", "token_embedding", axes="VD"),
        "decoder.positions": KerasSource("position_embedding", "position_embedding", axes="PD"),
        **norm_sources("decoder.final_norm", "layer_normalization", "layer_norm"),
        **layer_sources("decoder", "transformer_decoder{_i}", "transformer_layer_{i}", cross=False),
    },
    special_tokens={"bos_id": "<|endoftext|>", "eos_ids": "<|endoftext|>"},
    fixed_ids={"pad_id": 0},
)

FAMILY = Family(
    model_type="gpt2",
    architecture="GPT2LMHeadModel",
    prefix="transformer.",
    spec=spec,
    config=config,
    adapt=adapt,
    weights=_weights(),
    ignored=(
        r"transformer\.h\.\d+\.attn\.(bias|masked_bias)",
        r"transformer\.wte\.weight",
        r"lm_head\.weight",
        r"(transformer\.)?position_ids",
    ),
    keras=KERAS,
)
