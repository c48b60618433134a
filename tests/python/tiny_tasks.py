# SPDX-License-Identifier: Apache-2.0
"""Tiny tasks with text, built by hand: weights that are the same every time."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from fuseq import _core
from fuseq.models import (
    Backbone,
    BartBackbone,
    BartSeq2SeqLM,
    BartSeq2SeqLMPreprocessor,
    CausalLM,
    GPT2Backbone,
    GPT2CausalLM,
    GPT2CausalLMPreprocessor,
)
from fuseq.models.random_weights import random_weights
from fuseq.tokenizers import BartTokenizer, BytePairTokenizer, GPT2Tokenizer

PRESETS = Path(__file__).resolve().parents[1] / "golden" / "keras_presets"
BART, GPT2 = PRESETS / "bart_032", PRESETS / "gpt2_032"

SHAPE = {
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 16,
    "intermediate_dim": 24,
    "max_sequence_length": 20,
}
SOURCES = [" the quick fox", " a fox in the inn", "fox"]
PROMPTS = [" the fox", " a quick fox in", ""]


def lively(backbone: Backbone, tokenizer: BytePairTokenizer, seed: int = 5) -> Backbone:
    """The backbone with weights so large that outputs differ, and mostly are letters."""
    text = json.dumps(backbone.spec)
    weights = random_weights(text, seed)
    draw = np.random.default_rng(seed)
    for name, values in weights.items():
        if name.endswith((".bias", "norm.weight")):
            values += 0.1 * draw.standard_normal(values.shape, np.float32)
        elif name == "embed.tokens":
            values *= 25
            for id in range(len(values)):
                token = tokenizer.id_to_token(id).strip("Ġ")
                if not (token.isascii() and token.islower()):
                    values[id] *= 0.2
        else:
            values *= 15
    backbone.engine.replace(_core.Model.build(text, weights, dtype="float32", num_threads=1))
    return backbone


def bart_preprocessor() -> BartSeq2SeqLMPreprocessor:
    return BartSeq2SeqLMPreprocessor(
        BartTokenizer.from_preset(BART), encoder_sequence_length=14, decoder_sequence_length=13
    )


def gpt2_preprocessor() -> GPT2CausalLMPreprocessor:
    return GPT2CausalLMPreprocessor(GPT2Tokenizer.from_preset(GPT2), sequence_length=13)


def bart(**arguments: Any) -> BartSeq2SeqLM:
    """A BART that writes up to 13 ids."""
    words = bart_preprocessor()
    size = words.tokenizer.vocabulary_size()
    backbone = lively(BartBackbone(vocabulary_size=size, num_threads=1, **SHAPE), words.tokenizer)
    return BartSeq2SeqLM(backbone, words, **arguments)


def gpt2(**arguments: Any) -> GPT2CausalLM:
    """A GPT-2 that writes up to 13 ids."""
    words = gpt2_preprocessor()
    size = words.tokenizer.vocabulary_size()
    backbone = lively(GPT2Backbone(vocabulary_size=size, num_threads=1, **SHAPE), words.tokenizer)
    return GPT2CausalLM(backbone, words, **arguments)


def inputs_of(task: CausalLM) -> Any:
    """Texts whose prompts have three lengths."""
    if task.backbone.is_seq2seq:
        return {"encoder_text": SOURCES, "decoder_text": PROMPTS}
    return PROMPTS


def ids_of(task: CausalLM) -> tuple[dict[str, Any], Any, Any]:
    """The same as arrays, with the decoder's ids and mask alone."""
    words = task.preprocessor
    assert words is not None
    arrays = words.generate_preprocess(inputs_of(task))  # type: ignore[attr-defined]
    start = "decoder_" if task.backbone.is_seq2seq else ""
    return arrays, arrays[f"{start}token_ids"], arrays[f"{start}padding_mask"]
