# SPDX-License-Identifier: Apache-2.0
"""BART under KerasHub's names."""

from typing import ClassVar

from fuseq.models.backbone import Backbone
from fuseq.models.preprocessor import Preprocessor
from fuseq.models.seq2seq_lm import Seq2SeqLM
from fuseq.models.seq2seq_lm_preprocessor import Seq2SeqLMPreprocessor
from fuseq.models.table_backbone import TableBackbone

__all__ = ["BartBackbone", "BartSeq2SeqLM", "BartSeq2SeqLMPreprocessor"]


class BartBackbone(TableBackbone):
    """BART's encoder and decoder, weights drawn at random.

    The arguments are those of `TableBackbone`; num_layers counts for each of the two stacks.

    Example:
        >>> backbone = BartBackbone(
        ...     vocabulary_size=100, num_layers=2, num_heads=2, hidden_dim=16, intermediate_dim=32
        ... )
        >>> backbone.num_layers
        2
    """

    family: ClassVar[str] = "bart"


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
