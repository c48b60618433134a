# SPDX-License-Identifier: Apache-2.0
"""Backbones with KerasHub's oldest arguments: equal stacks, and positions from a table."""

from fuseq.models.backbone import Backbone
from fuseq.models.families import FAMILIES


class TableBackbone(Backbone):
    """A backbone of a family whose layers are told by these numbers alone.

    Args:
        vocabulary_size: Tokens.
        num_layers: Layers of the encoder, and of the decoder.
        num_heads: Attention heads of a layer.
        hidden_dim: Width of the model; a multiple of num_heads.
        intermediate_dim: Width inside the feed-forward parts.
        dropout: Of training.
        max_sequence_length: The longest source and the longest target, in tokens.
        dtype: "float32", "bfloat16" or "int8", or a Keras policy of such a name.
        name: As Keras names layers.
        trainable: Whether training changes the weights.
        num_threads: Threads of the engine; None: those of the machine.
        seed: Of the weights; None: others every time.

    Raises:
        ValueError: An argument does not fit.
        TypeError: The seed is no whole number.
    """

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
        seed: int | None = None,
    ) -> None:
        """Checks the arguments; weights are drawn when they are first needed."""
        tables = FAMILIES[self.family].keras
        assert tables is not None
        config = {
            "vocabulary_size": vocabulary_size,
            "num_layers": num_layers,
            "num_heads": num_heads,
            "hidden_dim": hidden_dim,
            "intermediate_dim": intermediate_dim,
            "dropout": dropout,
            "max_sequence_length": max_sequence_length,
        }
        try:
            spec = tables.spec(config)
        except ValueError as error:  # which names the file that has these fields
            message = str(error).replace("config.json", type(self).__name__)
            raise ValueError(message) from error
        super().__init__(spec, dtype=dtype, name=name, num_threads=num_threads, seed=seed)
        self.trainable = trainable
