# SPDX-License-Identifier: Apache-2.0
"""The tokenizer and the untrained model that translate."""

import tempfile
from collections.abc import Iterable

import fuseq

MAX_LENGTH = 128  # tokens of a source, and of a target
SPECIAL_TOKENS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]  # ids 0 to 4, as BART has them


def make_tokenizer(texts: Iterable[str], vocabulary_size: int) -> fuseq.models.BartTokenizer:
    """Trains byte-level byte-pair encoding; the same texts give the same pieces, in seconds.

    Args:
        texts: What to train on, both languages.
        vocabulary_size: Tokens, those for every byte and the special ones among them.

    Returns:
        The tokenizer.
    """
    import tokenizers

    trained = tokenizers.Tokenizer(tokenizers.models.BPE())
    trained.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        min_frequency=2,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    trained.train_from_iterator(texts, trainer)
    with tempfile.TemporaryDirectory() as folder:
        trained.model.save(folder)  # vocab.json and merges.txt
        return fuseq.models.BartTokenizer(folder)


def make_model(
    tokenizer: fuseq.models.BartTokenizer,
    *,
    num_layers: int,
    num_heads: int,
    hidden_dim: int,
    intermediate_dim: int,
    dropout: float,
    seed: int,
) -> fuseq.models.BartSeq2SeqLM:
    """A BART of random weights.

    Args:
        tokenizer: One for both languages.
        num_layers: Layers of the encoder, and of the decoder.
        num_heads: Attention heads of a layer.
        hidden_dim: Width of the model.
        intermediate_dim: Width inside the feed-forward parts.
        dropout: Of training.
        seed: Of the weights.

    Returns:
        The task, which takes and gives text.
    """
    backbone = fuseq.models.BartBackbone(
        vocabulary_size=tokenizer.vocabulary_size(),
        num_layers=num_layers,
        num_heads=num_heads,
        hidden_dim=hidden_dim,
        intermediate_dim=intermediate_dim,
        dropout=dropout,
        max_sequence_length=MAX_LENGTH,
    )
    preprocessor = fuseq.models.BartSeq2SeqLMPreprocessor(
        tokenizer, encoder_sequence_length=MAX_LENGTH, decoder_sequence_length=MAX_LENGTH
    )
    lm = fuseq.models.BartSeq2SeqLM(backbone, preprocessor)
    _draw_weights(lm, seed)
    return lm


def _draw_weights(lm: fuseq.models.BartSeq2SeqLM, seed: int) -> None:
    """Draws the weights anew, from a seed, as wide as each layer asks for (Xavier).

    A new backbone has BART's deviation, 0.02, in all layers, however wide they are.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    for name, parameter in lm.torch_module().named_parameters():
        if parameter.dim() < 2:
            continue  # biases stay 0, scales of norms 1
        if name.endswith((".tokens", ".positions")):
            torch.nn.init.normal_(parameter, std=0.02, generator=generator)
        else:
            torch.nn.init.xavier_uniform_(parameter, generator=generator)
