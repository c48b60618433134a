# SPDX-License-Identifier: Apache-2.0
"""The tokenizer and the untrained model that turn spelling into phonemes."""

from collections.abc import Iterable

import fuseq
from tokenizers.pre_tokenizers import ByteLevel

MAX_LENGTH = 64  # tokens of a word, and of a pronunciation; the end of what is longer is cut off

_SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
_SPACE = "Ġ"  # how byte-pair vocabularies write it


def make_tokenizer(phonemes: Iterable[str]) -> fuseq.models.BartTokenizer:
    """A byte-pair vocabulary of the letters, of the phonemes, and of every other byte.

    BART's splitting parts letters from digits, so "HH AH0 L OW1" is HH, AH, 0, L, OW, 1: the stress
    of a vowel is a token of its own.

    Args:
        phonemes: Without stress, one or two capital letters each.

    Returns:
        The tokenizer.
    """
    names = sorted(set(phonemes))
    pairs = [name for name in names if len(name) == 2]
    merges = [" ".join(name) for name in pairs] + [f"{_SPACE} {name}" for name in names]
    letters = sorted(ByteLevel.alphabet())  # one for each byte
    pieces = [*_SPECIAL_TOKENS, *letters, *(merge.replace(" ", "") for merge in merges)]
    vocabulary = {piece: id for id, piece in enumerate(pieces)}
    return fuseq.models.BartTokenizer(vocabulary, merges)


def make_model(
    phonemes: Iterable[str],
    *,
    num_layers: int,
    hidden_dim: int,
    intermediate_dim: int,
    num_heads: int,
    seed: int,
) -> fuseq.models.BartSeq2SeqLM:
    """A BART of random weights.

    Args:
        phonemes: As `make_tokenizer` takes them.
        num_layers: Layers of the encoder, and of the decoder.
        hidden_dim: Width of the model.
        intermediate_dim: Width inside the feed-forward parts.
        num_heads: Attention heads of a layer.
        seed: Of the weights.

    Returns:
        The task, which takes and gives text.
    """
    tokenizer = make_tokenizer(phonemes)
    backbone = fuseq.models.BartBackbone(
        vocabulary_size=tokenizer.vocabulary_size(),
        num_layers=num_layers,
        num_heads=num_heads,
        hidden_dim=hidden_dim,
        intermediate_dim=intermediate_dim,
        dropout=0.05,
        max_sequence_length=MAX_LENGTH,
        seed=seed,
    )
    preprocessor = fuseq.models.BartSeq2SeqLMPreprocessor(
        tokenizer, encoder_sequence_length=MAX_LENGTH, decoder_sequence_length=MAX_LENGTH
    )
    return fuseq.models.BartSeq2SeqLM(backbone, preprocessor)
