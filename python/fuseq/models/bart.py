# SPDX-License-Identifier: Apache-2.0
"""BART under KerasHub's names."""

from typing import ClassVar

from fuseq.models.backbone import Backbone
from fuseq.models.families import bart
from fuseq.models.preprocessor import Preprocessor
from fuseq.models.seq2seq_lm import Seq2SeqLM
from fuseq.models.seq2seq_lm_preprocessor import Seq2SeqLMPreprocessor

__all__ = ["BartBackbone", "BartSeq2SeqLM", "BartSeq2SeqLMPreprocessor"]


class BartBackbone(Backbone):
    """BART's encoder and decoder, weights drawn at random.

    Args:
        vocabulary_size: Tokens.
        num_layers: Layers of the encoder, and of the decoder.
        num_heads: Attention heads of a layer.
        hidden_dim: Width of the model; a multiple of num_heads.
        intermediate_dim: Width inside the feed-forward parts.
        dropout: Of training.
        max_sequence_length: The longest source and the longest target, in tokens.
        dtype: "float32" or "bfloat16", or a Keras policy of such a name.
        name: As Keras names layers.
        trainable: Not used; Keras has it.
        num_threads: Threads of the engine; None: those of the machine.

    Raises:
        ValueError: An argument does not fit.

    Example:
        >>> backbone = BartBackbone(
        ...     vocabulary_size=100, num_layers=2, num_heads=2, hidden_dim=16, intermediate_dim=32
        ... )
        >>> backbone.num_layers
        2
    """

    family: ClassVar[str] = "bart"

    def __init__(
        self,
        vocabulary_size: int,
        num_layers: int,
        num_heads: int,
        hidden_dim: int,
        intermediate_dim: int,
        dropout: float = 0.1,
        max_sequence_length: int = 1024,
        dtype: object = None,
        *,
        name: str | None = None,
        trainable: bool = True,
        num_threads: int | None = None,
    ) -> None:
        """Checks the arguments; weights are drawn when they are first needed."""
        del trainable
        spec = bart.keras_spec(
            {
                "vocabulary_size": vocabulary_size,
                "num_layers": num_layers,
                "num_heads": num_heads,
                "hidden_dim": hidden_dim,
                "intermediate_dim": intermediate_dim,
                "dropout": dropout,
                "max_sequence_length": max_sequence_length,
            }
        )
        super().__init__(spec, dtype=dtype, name=name, num_threads=num_threads)


class BartSeq2SeqLMPreprocessor(Seq2SeqLMPreprocessor):
    """Packs sources as `<s>, tokens, </s>` and targets as `</s>, <s>, tokens, </s>`.

    The arguments are those of `Seq2SeqLMPreprocessor`, the tokenizer a `BartTokenizer`.
    """

    family: ClassVar[str] = "bart"


class BartSeq2SeqLM(Seq2SeqLM):
    """BART that writes text.

    Args:
        backbone: A `BartBackbone`.
        preprocessor: A `BartSeq2SeqLMPreprocessor`; None: inputs are ids.

    The other arguments are those of `Task`.
    """

    family: ClassVar[str] = "bart"
    backbone_cls: ClassVar[type[Backbone]] = BartBackbone
    preprocessor_cls: ClassVar[type[Preprocessor]] = BartSeq2SeqLMPreprocessor
