# SPDX-License-Identifier: Apache-2.0
"""Small presets of KerasHub's form, which stand in for the named ones; and tiny vocabularies."""

import json
import math
import shutil
import zlib
from pathlib import Path

import fuseq
import numpy as np
from fuseq import _core
from fuseq.models import Backbone, BartBackbone, GPT2Backbone
from fuseq.tokenizers import BartTokenizer, GPT2Tokenizer
from fuseq.tokenizers.byte_level import byte_symbols

MERGES = [
    "Ġ t", "h e", "Ġt he", "T he", "i n", "Ġ a", "o u", "e r", "Ġ f", "o x", "Ġf ox", "Ġ q", "u i",
    "c k", "ui ck", "Ġq uick", "Ġ b", "r o", "w n", "ro wn", "Ġb rown", "a s", "t i", "Ġf as",
    "Ġfas t", "Ġ w", "Ġw h", "a l", "Ġwh al", "Ġwhal e",
]  # fmt: skip
# The ids that these tokens have in the vocabularies of the real presets.
BART_IDS = {
    "<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, ".": 4, "The": 133, "Ġfast": 1769, "Ġquick": 2119,
    "Ġbrown": 6219, "Ġfox": 23602, "<mask>": 50264,
}  # fmt: skip
GPT2_IDS = {"<|endoftext|>": 50256, "!": 0}

TINY_TEXTS = ["the quick brown fox", " jumped over the wall", "Straße, naïve!", "a"]

BART_LIKE = {
    "bart_base_en": 50265,
    "bart_large_en_cnn": 50264,
    # The handles in the text on `from_preset`; whose family they name does not matter here.
    "user/bert/keras/bert_base_en": 50265,
    "user/bert_base_en": 50265,
}


def vocabulary(known: dict[str, int], start: int = 0) -> dict[str, int]:
    """The known tokens, and all others of the merges at the ids that are free."""
    tokens = [*byte_symbols(), *(merge.replace(" ", "") for merge in MERGES)]
    taken = set(known.values())
    free = (id for id in range(start, 1 << 20) if id not in taken)
    return {**known, **{token: next(free) for token in tokens if token not in known}}


def bart_tokenizer() -> BartTokenizer:
    """BART's, with few tokens."""
    ids = {token: id for token, id in BART_IDS.items() if token != "<mask>"}
    return BartTokenizer(vocabulary(ids, start=3), MERGES)


def gpt2_tokenizer() -> GPT2Tokenizer:
    """GPT-2's, with few tokens."""
    return GPT2Tokenizer(vocabulary(GPT2_IDS, start=1), MERGES)


def spread_weights(backbone: Backbone, seed: int, likely: list[int] | None = None) -> None:
    """Weights under which logits differ clearly; ids that are not likely have small ones."""
    text = json.dumps(backbone.spec)
    draw = np.random.default_rng(seed)
    weights = {}
    for name, shape, _ in _core.weight_table(text):
        noise = draw.standard_normal(shape, dtype=np.float32)
        if name.endswith("norm.weight"):
            noise = 1 + np.float32(0.1) * noise
        elif len(shape) < 2:
            noise *= np.float32(0.1)
        elif name == "embed.tokens":
            noise *= 3 / np.linalg.norm(noise, axis=1, keepdims=True)  # none beats all others
            if likely is not None:
                others = np.ones(len(noise), np.bool_)
                others[likely] = False
                noise[others] *= np.float32(0.01)
        elif name.endswith("positions"):  # rows depend on where they are
            noise *= np.float32(2)
        else:
            gain = 4 if "cross_attn" in name or "ffn" in name else 1.5
            noise *= np.float32(gain / math.sqrt(shape[1]))
        weights[name] = noise
    backbone.engine.replace(_core.Model.build(text, weights, num_threads=1))


def letters(tokens: dict[str, int]) -> list[int]:
    """The ids of tokens that read as text."""
    words = {token: token.removeprefix("Ġ") for token in tokens}
    return [tokens[token] for token, word in words.items() if word.isascii() and word.isalpha()]


def bart(vocabulary_size: int, seed: int) -> fuseq.Seq2SeqLM:
    """A small BART that writes letters."""
    tokenizer = bart_tokenizer()
    backbone = BartBackbone(vocabulary_size, 2, 2, 16, 32, num_threads=1)
    assert tokenizer.vocabulary is not None
    spread_weights(backbone, seed, letters(tokenizer.vocabulary))
    preprocessor = fuseq.models.BartSeq2SeqLMPreprocessor(tokenizer)
    return fuseq.models.BartSeq2SeqLM(backbone, preprocessor)


def gpt2(seed: int) -> fuseq.CausalLM:
    """A small GPT-2 that writes letters."""
    tokenizer = gpt2_tokenizer()
    backbone = GPT2Backbone(50257, 2, 2, 16, 32, num_threads=1)
    assert tokenizer.vocabulary is not None
    spread_weights(backbone, seed, letters(tokenizer.vocabulary))
    preprocessor = fuseq.models.GPT2CausalLMPreprocessor(tokenizer)
    return fuseq.models.GPT2CausalLM(backbone, preprocessor)


def write(folder: Path) -> Path:
    """Writes all stand-ins into a folder for FUSEQ_PRESETS."""
    made: dict[int, Path] = {}
    for name, vocabulary_size in BART_LIKE.items():
        target = folder / name
        if vocabulary_size in made:
            shutil.copytree(made[vocabulary_size], target)
            continue
        bart(vocabulary_size, zlib.crc32(name.encode())).save_to_preset(target)
        made[vocabulary_size] = target
    gpt2(7).save_to_preset(folder / "gpt2_base_en")
    return folder
