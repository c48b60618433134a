# SPDX-License-Identifier: Apache-2.0
"""CausalLMPreprocessor: texts to ids, for training and for generation."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fuseq import _core
from fuseq.models.inputs import read_texts
from fuseq.models.packing import join, pad
from fuseq.models.preprocessor import (
    MAX_LENGTH,
    Preprocessor,
    Texts,
    checked_ids,
    checked_length,
    length_of_call,
)
from fuseq.presets.load import Preset
from fuseq.tokenizers import Tokenizer

Ids = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]


class CausalLMPreprocessor(Preprocessor):
    """Packs texts as `start, tokens, end`.

    Args:
        tokenizer: Does the words.
        sequence_length: The longest row, in tokens, with all special ones.
        add_start_token: Whether rows of training begin with the start token.
        add_end_token: Whether rows of training end with the end token.
        prompt_start_ids: What a prompt begins with when generating; None: the start token, as in
            KerasHub.
        name: As Keras names layers.
        trainable: Not used; KerasHub has it.
        dtype: Not used; KerasHub has it.

    Raises:
        ValueError: The length is not a positive whole number, or an id not one >= 0.
        TypeError: The tokenizer is none.
    """

    _arguments: ClassVar[tuple[str, ...]] = (
        "sequence_length",
        "add_start_token",
        "add_end_token",
        "prompt_start_ids",
    )

    def __init__(
        self,
        tokenizer: Tokenizer,
        sequence_length: int = MAX_LENGTH,
        add_start_token: bool = True,
        add_end_token: bool = True,
        *,
        prompt_start_ids: Sequence[int] | None = None,
        name: str | None = None,
        trainable: bool = True,
        dtype: object = None,
    ) -> None:
        """Checks and keeps the arguments."""
        del trainable, dtype
        super().__init__(tokenizer, name=name)
        self.sequence_length = sequence_length
        self.add_start_token = bool(add_start_token)
        self.add_end_token = bool(add_end_token)
        self.prompt_start_ids = checked_ids(self, "prompt_start_ids", prompt_start_ids)

    @property
    def sequence_length(self) -> int:
        """The longest row, in tokens."""
        return self._length

    @sequence_length.setter
    def sequence_length(self, value: int) -> None:
        self._length = checked_length(self, "sequence_length", value)

    def get_config(self) -> dict[str, Any]:  # noqa: D102 - the base says it
        config = super().get_config()
        if self.prompt_start_ids is None:
            del config["prompt_start_ids"]  # KerasHub has no such argument
        return config

    def __call__(
        self,
        x: object,
        y: object = None,
        sample_weight: object = None,
        sequence_length: int | None = None,
    ) -> tuple[dict[str, npt.NDArray[Any]], Ids, Mask]:
        """Makes inputs, labels and weights of training.

        Args:
            x: A str or a list of them.
            y: Not used: labels are made of the text.
            sample_weight: Not used, as y.
            sequence_length: Of this call alone, in tokens.

        Returns:
            x: `token_ids` and `padding_mask` [B, T]; y: the ids that follow [B, T]; and their
            weights, False at padding [B, T]. A str gives arrays without B.

        Raises:
            TypeError: The input is no text.
            ValueError: The length is not a positive whole number.
        """
        del y, sample_weight
        texts, is_scalar = read_texts(x, self.text_keys)
        length = length_of_call(self, self.sequence_length, sequence_length=sequence_length)
        rows = self.training_rows(texts, sequence_length=length)[0]
        ids, mask = pad(rows, length + 1, self.pad_id)
        arrays = {"token_ids": ids[:, :-1], "padding_mask": mask[:, :-1]}
        labels, weights = ids[:, 1:], mask[:, 1:]
        if is_scalar:
            return {key: value[0] for key, value in arrays.items()}, labels[0], weights[0]
        return arrays, labels, weights

    def training_rows(self, texts: Texts, **lengths: int | None) -> list[list[list[int]]]:
        """Packs texts for training, without padding.

        Args:
            texts: A list of texts by its key.
            **lengths: Of this call alone, in tokens.

        Returns:
            One item: the rows, which may be one id longer than what the model reads.
        """
        length = length_of_call(
            self, self.sequence_length, sequence_length=lengths.get("sequence_length")
        )
        start = [self.start_id] if self.add_start_token else []
        end = [self.end_id] if self.add_end_token else []
        return [[join(row, length + 1, start, end) for row in self.rows_of(texts["text"])]]

    def smallest_lengths(self) -> dict[str, int]:
        """The length that leaves room for one token of a text in training."""
        return {"sequence_length": max(1, self.add_start_token + self.add_end_token)}

    def generate_preprocess(
        self, x: object, sequence_length: int | None = None
    ) -> dict[str, npt.NDArray[Any]]:
        """Makes the arrays that generation starts from.

        Args:
            x: A str or a list of them.
            sequence_length: Of this call alone, in tokens.

        Returns:
            `token_ids` and `padding_mask` [B, T]. A str gives arrays without B.

        Raises:
            TypeError: The input is no text.
            ValueError: The length is not a positive whole number.
        """
        texts, is_scalar = read_texts(x, self.text_keys)
        length = length_of_call(self, self.sequence_length, sequence_length=sequence_length)
        rows = [row[:length] for row in self._rows(texts)]
        ids, mask = pad(rows, length, self.pad_id)
        if is_scalar:
            return {"token_ids": ids[0], "padding_mask": mask[0]}
        return {"token_ids": ids, "padding_mask": mask}

    def generate_postprocess(self, x: Mapping[str, npt.ArrayLike]) -> str | list[str]:
        """Turns generated rows into texts.

        Args:
            x: `token_ids` and `padding_mask`, [B, T] or [T].

        Returns:
            The texts where the mask is True, without start, end and pad tokens.

        Raises:
            ValueError: Ids and mask do not fit.
        """
        return self.texts_of(x["token_ids"], x["padding_mask"])

    def prompts(self, texts: Texts, **lengths: int | None) -> list[_core.Prompt]:  # noqa: D102
        del lengths
        return [_core.Prompt(decoder_ids=row) for row in self._rows(texts)]

    def start_ids(self) -> list[int]:
        """The ids that a prompt begins with."""
        if self.prompt_start_ids is not None:
            return list(self.prompt_start_ids)
        return [self.start_id]

    def _rows(self, texts: Texts) -> list[list[int]]:
        start = self.start_ids()
        rows = [[*start, *row] for row in self.rows_of(texts["text"])]
        return [row or [self.start_id] for row in rows]  # as transformers' bos

    @classmethod
    def _transformers_config(cls, preset: Preset) -> Mapping[str, Any]:
        spec = preset.read_spec()
        return {
            "sequence_length": min(spec["decoder"]["max_positions"], MAX_LENGTH),
            "prompt_start_ids": [],
        }
