# SPDX-License-Identifier: Apache-2.0
"""Adaptable: what a backbone has for low-rank adapters, KerasHub's and PEFT's; needs torch."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuseq.presets.family import Family


class Adaptable:
    """The methods of a backbone that add, read, write and merge adapters.

    What the engine computes with and what is saved as a preset has the adapters merged; the module
    in training keeps them apart.
    """

    if TYPE_CHECKING:  # what a backbone has

        def torch_module(self) -> Any:  # noqa: ANN401
            """The module that gets the adapters."""

        @classmethod
        def family_tables(cls) -> Family:
            """The tables of the family."""

    def default_lora_layer_names(self) -> list[str]:
        """The names that `enable_lora` takes where none are given.

        Returns:
            Keras' names of layers.
        """
        return ["query_dense", "value_dense", "query", "value"]

    def enable_lora(self, rank: int, target_layer_names: Sequence[str] | None = None) -> None:
        """Adds LoRA as KerasHub does: all else is frozen, but for the biases of the same layers.

        A layer's kernel becomes kernel + A B. For query, key and value A has the shape
        (inputs, heads, rank) and B (rank, width of a head): heads share B. A is drawn by torch's
        generator, B is 0.

        Args:
            rank: The factors' common dimension.
            target_layer_names: Among "query", "key", "value", "attention_output",
                "feedforward_intermediate_dense" and "feedforward_output_dense"; None: those of
                `default_lora_layer_names()`.

        Raises:
            ValueError: There are adapters already, the rank is not a whole number above 0, or a
                name is not known.
            ImportError: torch is not installed.

        Example:
            >>> from fuseq.models import GPT2Backbone
            >>> sizes = {"num_layers": 2, "num_heads": 2, "hidden_dim": 16, "intermediate_dim": 32}
            >>> backbone = GPT2Backbone(vocabulary_size=100, **sizes)
            >>> backbone.enable_lora(rank=4)
            >>> sum(p.requires_grad for p in backbone.torch_module().parameters())
            12
        """
        from fuseq import training

        training.enable_lora(self.torch_module(), rank, target_layer_names)

    def save_lora_weights(self, filepath: str | PathLike[str]) -> None:
        """Writes the factors of `enable_lora` as KerasHub does.

        The biases that were trained beside them are not in this file, as in KerasHub;
        `save_to_preset` and `save_weights` have them.

        Args:
            filepath: Ends in `.lora.h5`.

        Raises:
            ValueError: There is no LoRA, the path ends otherwise, or KerasHub has no such model,
                whose adapters can be those of `enable_peft`.
            OSError: The path is that of a folder, or the system refused to write; an old file is
                left as it was.
        """
        from fuseq import training

        training.save_lora(Path(filepath), self.torch_module(), self.family_tables())

    def load_lora_weights(self, filepath: str | PathLike[str]) -> None:
        """Reads what `save_lora_weights` wrote, here or in KerasHub.

        Args:
            filepath: The file. Without LoRA yet, it is enabled for the layers of the file.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is not what it should be, of another rank, or for other layers.
        """
        from fuseq import training

        training.load_lora(Path(filepath), self.torch_module(), self.family_tables())

    def enable_peft(
        self,
        rank: int = 8,
        target_modules: Sequence[str] | None = None,
        *,
        alpha: float = 8,
        dropout: float = 0.0,
        use_rslora: bool = False,
    ) -> None:
        """Adds LoRA in the form of the peft library; all else is frozen.

        A weight [O, I] becomes weight + alpha / rank B A, A [rank, I] drawn by torch's generator
        and B [O, rank] 0. `save_peft` writes what peft loads.

        Args:
            rank: `r` of peft.
            target_modules: Names of transformers' modules, or their ends, as "q_proj" or
                "encoder_attn.k_proj"; "all-linear": all; None: q_proj and v_proj of BART, c_attn
                of GPT-2.
            alpha: `lora_alpha` of peft.
            dropout: Of the adapters' inputs, in training.
            use_rslora: Whether the root of the rank divides alpha.

        Raises:
            ValueError: There are adapters already, an argument is out of its range, or a name is
                not known.
            ImportError: torch is not installed.
        """
        from fuseq import training

        training.enable_peft(
            self.torch_module(),
            self.family_tables(),
            rank,
            target_modules,
            alpha=alpha,
            dropout=dropout,
            use_rslora=use_rslora,
        )

    def load_peft(self, folder: str | PathLike[str]) -> None:
        """Adds the adapters of a folder of the peft library; all else is frozen.

        Args:
            folder: Holds `adapter_config.json` and `adapter_model.safetensors`; or a handle of a
                hub as `from_preset` takes it, with "://".

        Raises:
            FileNotFoundError: The folder, or a file in it, is not there.
            ValueError: There are adapters already, or the adapter asks for what is not computed
                here, or does not fit the model.
        """
        from fuseq import hub, training

        is_handle = isinstance(folder, str) and "://" in folder
        found = hub.locate(folder) if is_handle else Path(folder)
        training.load_peft(found, self.torch_module(), self.family_tables())

    def save_peft(
        self, folder: str | PathLike[str], *, base_model_name_or_path: str | None = None
    ) -> None:
        """Writes adapters of `enable_peft` or `load_peft` as the peft library does.

        Args:
            folder: The two files appear there when they are whole; others are kept.
            base_model_name_or_path: What the config names as the model below.

        Raises:
            ValueError: There are no such adapters.
            OSError: The system refused to write; old files are left as they were.
        """
        from fuseq import training

        training.save_peft(
            Path(folder), self.torch_module(), self.family_tables(), base_model_name_or_path
        )

    def merge_lora(self) -> None:
        """Adds what the adapters add to the weights and drops them; all is trainable again.

        Raises:
            ValueError: There are no adapters.
        """
        from fuseq import training

        training.merge_lora(self.torch_module())
