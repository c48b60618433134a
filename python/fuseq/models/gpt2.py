# SPDX-License-Identifier: Apache-2.0
"""GPT-2 under KerasHub's names."""

from typing import ClassVar

from fuseq.models.backbone import Backbone
from fuseq.models.causal_lm import CausalLM
from fuseq.models.causal_lm_preprocessor import CausalLMPreprocessor
from fuseq.models.preprocessor import Preprocessor
from fuseq.models.table_backbone import TableBackbone

__all__ = ["GPT2Backbone", "GPT2CausalLM", "GPT2CausalLMPreprocessor"]


class GPT2Backbone(TableBackbone):
    """GPT-2's decoder, weights drawn at random.

    The arguments are those of `TableBackbone`.

    Example:
        >>> backbone = GPT2Backbone(
        ...     vocabulary_size=100, num_layers=2, num_heads=2, hidden_dim=16, intermediate_dim=32
        ... )
        >>> backbone.num_layers
        2
    """

    family: ClassVar[str] = "gpt2"


class GPT2CausalLMPreprocessor(CausalLMPreprocessor):
    """Packs texts as `<|endoftext|>, tokens, <|endoftext|>`.

    The arguments are those of `CausalLMPreprocessor`, the tokenizer a `GPT2Tokenizer`.
    """

    family: ClassVar[str] = "gpt2"


class GPT2CausalLM(CausalLM):
    """GPT-2 that goes on with a text.

    Args:
        backbone: A `GPT2Backbone`.
        preprocessor: A `GPT2CausalLMPreprocessor`; None: inputs are ids.

    The other arguments are those of `Task`.
    """

    family: ClassVar[str] = "gpt2"
    backbone_cls: ClassVar[type[Backbone]] = GPT2Backbone
    preprocessor_cls: ClassVar[type[Preprocessor]] = GPT2CausalLMPreprocessor
