# SPDX-License-Identifier: Apache-2.0
"""Tokenizers on small vocabularies."""

from fuseq.tokenizers import (
    BartTokenizer,
    BytePairTokenizer,
    GPT2Tokenizer,
    Tokenizer,
)

MERGES = ["Ġ a", "Ġ t", "Ġ i", "Ġ b", "a i", "p l", "n e", "Ġa t", "p o", "r t", "Ġt h", "ai r"]
MERGES += ["pl a", "po rt", "Ġai r", "Ġa i", "pla ne"]
BART_WORDS = ["<s>", "<pad>", "</s>", "air", "Ġair", "plane", "Ġat", "port", "<mask>"]
GPT2_WORDS = ["!", "air", "Ġair", "plane", "Ġat", "port", "<|endoftext|>"]
BUTTERFLY = {"butter": 1, "fly": 2}
BUTTERFLY_MERGES = ["b u", "t t", "e r", "bu tt", "butt er", "f l", "fl y"]


def ids_of(words: list[str]) -> dict[str, int]:
    return {word: id for id, word in enumerate(words)}


def make_bart() -> BartTokenizer:
    return BartTokenizer(ids_of(BART_WORDS), MERGES)


def make_gpt2() -> GPT2Tokenizer:
    return GPT2Tokenizer(ids_of(GPT2_WORDS), MERGES)


def make_every_byte() -> BytePairTokenizer:
    """A token for every byte, and two merges."""
    from fuseq.tokenizers.byte_level import byte_symbols

    words = [*byte_symbols(), "Ġb", "ĠĠ"]
    return BytePairTokenizer(ids_of(words), ["Ġ b", "Ġ Ġ"])


class Letters(Tokenizer):
    """The least that a class of one's own must have."""

    end_token = "$"

    def tokenize_text(self, text: str) -> list[int]:
        return [self.token_to_id(letter) for letter in text]

    def detokenize_ids(self, ids: list[int]) -> str:
        return "".join(self.id_to_token(id) for id in ids)

    def get_vocabulary(self) -> list[str]:
        return ["$", "a", "b"]
