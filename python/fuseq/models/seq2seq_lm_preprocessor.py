# SPDX-License-Identifier: Apache-2.0
"""Seq2SeqLMPreprocessor: encoder and decoder texts to ids, for training and for generation."""

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

Arrays = dict[str, npt.NDArray[Any]]


class Seq2SeqLMPreprocessor(Preprocessor):
    """Packs sources as `start, tokens, end` and targets as `end, start, tokens, end`.

    Args:
        tokenizer: Does the words.
        encoder_sequence_length: The longest source, in tokens, with start and end.
        decoder_sequence_length: The longest target, in tokens, with all special ones.
        decoder_start_ids: What a generated row starts with; None: the end and the start token, as
            in KerasHub.
        name: As Keras names layers.
        trainable: Not used; KerasHub has it.
        dtype: Not used; KerasHub has it.

    Raises:
        ValueError: A length is not a positive whole number, or an id not one >= 0.
        TypeError: The tokenizer is none.
    """

    text_keys: ClassVar[tuple[str, ...]] = ("encoder_text", "decoder_text")
    _arguments: ClassVar[tuple[str, ...]] = (
        "encoder_sequence_length",
        "decoder_sequence_length",
        "decoder_start_ids",
    )

    def __init__(
        self,
        tokenizer: Tokenizer,
        encoder_sequence_length: int = MAX_LENGTH,
        decoder_sequence_length: int = MAX_LENGTH,
        *,
        decoder_start_ids: Sequence[int] | None = None,
        name: str | None = None,
        trainable: bool = True,
        dtype: object = None,
    ) -> None:
        """Checks and keeps the arguments."""
        del trainable, dtype
        super().__init__(tokenizer, name=name)
        self.encoder_sequence_length = encoder_sequence_length
        self.decoder_sequence_length = decoder_sequence_length
        self.decoder_start_ids = checked_ids(self, "decoder_start_ids", decoder_start_ids)

    @property
    def encoder_sequence_length(self) -> int:
        """The longest source, in tokens."""
        return self._encoder_length

    @encoder_sequence_length.setter
    def encoder_sequence_length(self, value: int) -> None:
        self._encoder_length = checked_length(self, "encoder_sequence_length", value)

    @property
    def decoder_sequence_length(self) -> int:
        """The longest target, in tokens."""
        return self._decoder_length

    @decoder_sequence_length.setter
    def decoder_sequence_length(self, value: int) -> None:
        self._decoder_length = checked_length(self, "decoder_sequence_length", value)

    @property
    def sequence_length(self) -> int:
        """Another name of decoder_sequence_length."""
        return self._decoder_length

    @sequence_length.setter
    def sequence_length(self, value: int) -> None:
        self.decoder_sequence_length = value

    def get_config(self) -> dict[str, Any]:  # noqa: D102 - the base says it
        config = super().get_config()
        if self.decoder_start_ids is None:
            del config["decoder_start_ids"]  # KerasHub has no such argument
        return config

    # ---- training ----

    def __call__(
        self,
        x: Mapping[str, Any],
        y: object = None,
        sample_weight: object = None,
        *,
        encoder_sequence_length: int | None = None,
        decoder_sequence_length: int | None = None,
        sequence_length: int | None = None,
    ) -> tuple[Arrays, npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
        """Makes inputs, labels and weights of training.

        Args:
            x: A dict with both `encoder_text` and `decoder_text`, each a str or a list.
            y: Not used: labels are made of the decoder text.
            sample_weight: Not used, as y.
            encoder_sequence_length: Of this call alone, in tokens.
            decoder_sequence_length: Of this call alone, in tokens.
            sequence_length: Another name of decoder_sequence_length.

        Returns:
            x: `encoder_token_ids`, `encoder_padding_mask` [B, S], `decoder_token_ids` and
            `decoder_padding_mask` [B, T]; y: the ids that follow [B, T]; and their weights, False
            at padding [B, T]. A str gives arrays without B.

        Raises:
            ValueError: A key is missing, lists have other lengths, or a length is not a positive
                whole number.
        """
        del y, sample_weight
        texts, is_scalar = read_texts(x, self.text_keys, required=self.text_keys)
        source_length = self._source_length(encoder_sequence_length)
        length = self._target_length(decoder_sequence_length, sequence_length)
        sources, targets = self.training_rows(
            texts, encoder_sequence_length=source_length, decoder_sequence_length=length
        )
        arrays = self._encoder_arrays(sources, source_length)
        ids, mask = pad(targets, length + 1, self.pad_id)
        arrays["decoder_token_ids"] = ids[:, :-1]
        arrays["decoder_padding_mask"] = mask[:, :-1]
        labels, weights = ids[:, 1:], mask[:, 1:]
        if is_scalar:
            return {key: value[0] for key, value in arrays.items()}, labels[0], weights[0]
        return arrays, labels, weights

    def training_rows(self, texts: Texts, **lengths: int | None) -> list[list[list[int]]]:
        """Packs texts for training, without padding.

        Args:
            texts: Lists of texts of one length by both keys.
            **lengths: Of this call alone, in tokens.

        Returns:
            The sources; and the targets, which may be one id longer than what the decoder reads.
        """
        sources = self._sources(
            texts["encoder_text"], self._source_length(lengths.get("encoder_sequence_length"))
        )
        length = self._target_length(lengths.get("decoder_sequence_length"), None)
        start, end = [self.end_id, self.start_id], [self.end_id]
        rows = self.rows_of(texts["decoder_text"])
        return [sources, [join(row, length + 1, start, end) for row in rows]]

    def smallest_lengths(self) -> dict[str, int]:
        """The lengths that leave room for one token of a text in training, in order of texts."""
        return {"encoder_sequence_length": 3, "decoder_sequence_length": 3}

    # ---- generation ----

    def generate_preprocess(
        self,
        x: object,
        *,
        encoder_sequence_length: int | None = None,
        decoder_sequence_length: int | None = None,
        sequence_length: int | None = None,
    ) -> Arrays:
        """Makes the arrays that generation starts from.

        Args:
            x: A str or a list of them, the sources; or a dict of `encoder_text` and, if there is
                one, `decoder_text`: what the generated rows start with.
            encoder_sequence_length: Of this call alone, in tokens.
            decoder_sequence_length: Of this call alone, in tokens.
            sequence_length: Another name of decoder_sequence_length.

        Returns:
            `encoder_token_ids`, `encoder_padding_mask` [B, S], `decoder_token_ids` and
            `decoder_padding_mask` [B, T]. A str gives arrays without B.

        Raises:
            ValueError: A key is not known, lists have other lengths, or a length is not a positive
                whole number.
        """
        texts, is_scalar = read_texts(x, self.text_keys)
        source_length = self._source_length(encoder_sequence_length)
        length = self._target_length(decoder_sequence_length, sequence_length)
        sources = self._sources(texts["encoder_text"], source_length)
        arrays = self._encoder_arrays(sources, source_length)
        rows = [row[:length] for row in self._starts(texts)]
        arrays["decoder_token_ids"], arrays["decoder_padding_mask"] = pad(rows, length, self.pad_id)
        return {key: value[0] for key, value in arrays.items()} if is_scalar else arrays

    def generate_postprocess(self, x: Mapping[str, npt.ArrayLike]) -> str | list[str]:
        """Turns generated rows into texts.

        Args:
            x: `decoder_token_ids` and `decoder_padding_mask`, [B, T] or [T].

        Returns:
            The texts where the mask is True, without start, end and pad tokens.

        Raises:
            ValueError: Ids and mask do not fit.
        """
        return self.texts_of(x["decoder_token_ids"], x["decoder_padding_mask"])

    def prompts(self, texts: Texts, **lengths: int | None) -> list[_core.Prompt]:  # noqa: D102
        length = self._source_length(lengths.get("encoder_sequence_length"))
        sources = self._sources(texts["encoder_text"], length)
        starts = self._starts(texts)
        return [_core.Prompt(source, start) for source, start in zip(sources, starts, strict=True)]

    def start_ids(self) -> list[int]:
        """The ids that a generated row starts with."""
        if self.decoder_start_ids is not None:
            return list(self.decoder_start_ids)
        return [self.end_id, self.start_id]

    def _source_length(self, given: int | None) -> int:
        return length_of_call(self, self._encoder_length, encoder_sequence_length=given)

    def _target_length(self, given: int | None, other: int | None) -> int:
        return length_of_call(
            self, self._decoder_length, decoder_sequence_length=given, sequence_length=other
        )

    def _sources(self, texts: Sequence[str], length: int) -> list[list[int]]:
        start, end = self.start_id, self.end_id
        return [join(row, length, [start], [end]) for row in self.rows_of(texts)]

    def _starts(self, texts: Texts) -> list[list[int]]:
        start = self.start_ids()
        given = texts.get("decoder_text")
        if given is None:
            return [start] * len(texts["encoder_text"])
        return [[*start, *row] for row in self.rows_of(given)]

    def _encoder_arrays(self, rows: Sequence[Sequence[int]], length: int) -> Arrays:
        ids, mask = pad(rows, length, self.pad_id)
        return {"encoder_token_ids": ids, "encoder_padding_mask": mask}

    @classmethod
    def _transformers_config(cls, preset: Preset) -> Mapping[str, Any]:
        spec = preset.read_spec()
        return {
            "encoder_sequence_length": min(spec["encoder"]["max_positions"], MAX_LENGTH),
            "decoder_sequence_length": min(spec["decoder"]["max_positions"], MAX_LENGTH),
            "decoder_start_ids": preset.read_start_ids(),
        }
