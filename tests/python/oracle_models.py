# SPDX-License-Identifier: Apache-2.0
"""Random BART and GPT-2 models of transformers, for tests that compare with it."""

import math
from pathlib import Path
from typing import Any

import torch
from transformers import BartConfig, BartForConditionalGeneration, GPT2Config, GPT2LMHeadModel

PAD, BOS, EOS = 1, 0, 2


_TABLES = ("shared", "embed", "wte", "wpe", "lm_head")


def fill(model: torch.nn.Module, seed: int, gain: float) -> None:
    """Weights with enough spread that logits differ clearly, unlike those of a fresh model."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() == 2 and any(table in name for table in _TABLES):
                noise *= 3.5 / math.sqrt(parameter.shape[1])
            elif parameter.dim() == 2:
                # Centred over the inputs, or the mean of gelu would be one vector in every state.
                axis = 0 if ".c_" in name else 1
                noise -= noise.mean(axis, keepdim=True)
                noise *= gain / math.sqrt(parameter.shape[axis])
            elif name.endswith("weight"):
                noise = 1 + 0.1 * noise
            else:
                noise *= 0.1
            parameter.copy_(noise)


def bart(seed: int, *, gain: float = 1.0, eos_bias: float = 0.0, **fields: Any) -> Any:
    """A random BART; `eos_bias` is added to the end id's logit, all other biases are small."""
    defaults = {
        "vocab_size": 600,
        "d_model": 48,
        "encoder_layers": 2,
        "decoder_layers": 3,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 3,
        "encoder_ffn_dim": 96,
        "decoder_ffn_dim": 80,
        "max_position_embeddings": 64,
        "pad_token_id": PAD,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "decoder_start_token_id": EOS,
        "forced_eos_token_id": None,
    }
    model = BartForConditionalGeneration(BartConfig(**{**defaults, **fields})).eval()
    fill(model, seed, gain)
    with torch.no_grad():  # rows that depend on where they are, and repeat themselves less
        model.model.decoder.embed_positions.weight *= 3
        for layer in model.model.decoder.layers:
            layer.encoder_attn.out_proj.weight *= 0.5
            layer.fc2.weight *= 3
    bias = 0.3 * torch.randn(model.config.vocab_size, generator=torch.Generator().manual_seed(seed))
    bias[EOS] = eos_bias
    model.final_logits_bias.copy_(bias[None])
    return model


def gpt2(seed: int, *, gain: float = 1.0, eos_bias: float = 0.0, **fields: Any) -> Any:
    """A random GPT-2; a direction that all last states share lifts the end id's logit."""
    defaults = {
        "vocab_size": 600,
        "n_embd": 48,
        "n_layer": 3,
        "n_head": 4,
        "n_inner": 100,
        "n_positions": 64,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "pad_token_id": PAD,
    }
    model = GPT2LMHeadModel(GPT2Config(**{**defaults, **fields})).eval()
    fill(model, seed, gain)
    if eos_bias:
        with torch.no_grad():
            direction = torch.nn.functional.normalize(model.transformer.ln_f.bias, dim=0)
            model.transformer.ln_f.bias += direction
            model.transformer.wte.weight[EOS] += eos_bias * direction
    return model


def save(model: Any, folder: Path) -> Path:
    """Writes a transformers folder and returns it."""
    model.save_pretrained(folder)
    return folder


def random_ids(generator: torch.Generator, vocab: int, low: int, high: int) -> list[int]:
    """Between low and high ids that are neither pad nor start nor end."""
    length = int(torch.randint(low, high + 1, (), generator=generator))
    return torch.randint(3, vocab, (length,), generator=generator).tolist()
