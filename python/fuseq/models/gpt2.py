# SPDX-License-Identifier: Apache-2.0
"""GPT-2 under KerasHub's names."""

from typing import ClassVar

from fuseq.models.backbone import Backbone
from fuseq.models.causal_lm import CausalLM
from fuseq.models.causal_lm_preprocessor import CausalLMPreprocessor
from fuseq.models.families import gpt2
from fuseq.models.preprocessor import Preprocessor

__all__ = ["GPT2Backbone", "GPT2CausalLM", "GPT2CausalLMPreprocessor"]


class GPT2Backbone(Backbone):
    """GPT-2's decoder, weights drawn at random.

    Args:
        vocabulary_size: Tokens.
        num_layers: Layers.
        num_heads: Attention heads of a layer.
        hidden_dim: Width of the model; a multiple of num_heads.
        intermediate_dim: Width inside the feed-forward parts.
        dropout: Of training.
        max_sequence_length: The longest row, in tokens.
        dtype: "float32" or "bfloat16", or a Keras policy of such a name.
        name: As Keras names layers.
        trainable: Not used; Keras has it.
        num_threads: Threads of the engine; None: those of the machine.

    Raises:
        ValueError: An argument does not fit.

    Example:
        >>> backbone = GPT2Backbone(
        ...     vocabulary_size=100, num_layers=2, num_heads=2, hidden_dim=16, intermediate_dim=32
        ... )
        >>> backbone.num_layers
        2
    """

    family: ClassVar[str] = "gpt2"

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
        spec = gpt2.keras_spec(
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
