# SPDX-License-Identifier: Apache-2.0
"""Seq2SeqLM: tasks that read one text and write another."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from fuseq._core import Prompt
from fuseq.models import scoring, stepping
from fuseq.models.causal_lm import CausalLM
from fuseq.models.generation import Request
from fuseq.models.inputs import Keys, Texts, prompts_of
from fuseq.models.overriding import is_overridden
from fuseq.models.seq2seq_lm_preprocessor import Seq2SeqLMPreprocessor

Floats = npt.NDArray[np.float32]


class Seq2SeqLM(CausalLM):
    """A model whose decoder writes a text while it attends to the one that the encoder has read.

    Load one with `from_preset`. Inputs of `generate` are sources, or dicts of `encoder_text` and
    `decoder_text`: what the generated text starts with.

    Example:
        >>> import fuseq
        >>> lm = fuseq.models.Seq2SeqLM.from_preset("tests/golden/keras_presets/bart_032")
        >>> lm.compile(sampler="greedy")
        >>> isinstance(lm.generate("the quick", max_length=8), str)
        True
    """

    keys: ClassVar[Keys] = Keys(
        ("encoder_text", "decoder_text"),
        ("encoder_token_ids", "decoder_token_ids"),
        ("encoder_padding_mask", "decoder_padding_mask"),
    )
    step_method: ClassVar[str] = "call_decoder_with_cache"

    def text_prompts(self, texts: Texts, request: Request) -> list[Prompt]:
        """What the engine starts from for texts."""
        preprocessor = self.text_preprocessor()
        is_own = is_overridden(preprocessor, "generate_preprocess")
        length = request.encoder_sequence_length
        if length is None and not is_own and isinstance(preprocessor, Seq2SeqLMPreprocessor):
            length = preprocessor.encoder_sequence_length
        table = self.backbone.max_encoder_length
        if length is not None and table:
            length = min(length, table)
        if is_own:
            lengths = {} if length is None else {"encoder_sequence_length": length}
            prompts = self._own_prompts(preprocessor, texts, request, **lengths)
        else:
            prompts = preprocessor.prompts(texts, encoder_sequence_length=length)
        start = preprocessor.start_ids() if hasattr(preprocessor, "start_ids") else []
        return _with_forced_first(prompts, start, request)

    def array_prompts(self, arrays: Mapping[str, Any], request: Request) -> list[Prompt]:  # noqa: D102
        prompts = prompts_of(arrays, self.keys)
        start = self._start_ids()
        if not all(prompt.decoder_ids for prompt in prompts):  # sources alone
            prompts = [Prompt(prompt.encoder_ids, start) for prompt in prompts]
        elif "forced_bos_token_id" not in request.given:
            return prompts
        return _with_forced_first(prompts, start, request)

    def _start_ids(self) -> list[int]:
        """What rows begin with where nothing is given; [] for the model's own start id."""
        if isinstance(self.preprocessor, Seq2SeqLMPreprocessor):
            return self.preprocessor.start_ids()
        spec = self.backbone.spec
        ids = [spec["decoder_start_id"], spec["bos_id"]]
        return ids if self.backbone.rules == "keras_hub" and min(ids) >= 0 else []

    def score(  # type: ignore[override]
        self,
        encoder_token_ids: npt.ArrayLike,
        decoder_token_ids: npt.ArrayLike,
        encoder_padding_mask: npt.ArrayLike | None = None,
        decoder_padding_mask: npt.ArrayLike | None = None,
        scoring_mode: Literal["logits", "loss"] = "logits",
        layer_intercept_fn: object = None,
        target_ids: npt.ArrayLike | None = None,
    ) -> Floats:
        """Scores rows of ids.

        Args:
            encoder_token_ids: [B, S].
            decoder_token_ids: [B, T].
            encoder_padding_mask: [B, S]; None: all are real.
            decoder_padding_mask: [B, T]; None: all are real.
            scoring_mode: "logits", or "loss": the cross entropy of each target.
            layer_intercept_fn: None: the engine does not stop between layers.
            target_ids: [B, T], the id that should follow each; needed for "loss".

        Returns:
            float32: logits [B, T, V], or losses [B, T]; 0 at padding.

        Raises:
            ValueError: An argument does not fit.
        """
        inputs = scoring.without_none(
            {
                "encoder_token_ids": encoder_token_ids,
                "encoder_padding_mask": encoder_padding_mask,
                "decoder_token_ids": decoder_token_ids,
                "decoder_padding_mask": decoder_padding_mask,
            }
        )
        return scoring.score(
            self.backbone,
            inputs,
            decoder_padding_mask,
            scoring_mode,
            layer_intercept_fn,
            target_ids,
        )

    def call_encoder(
        self, token_ids: npt.ArrayLike, padding_mask: npt.ArrayLike | None = None
    ) -> Floats:
        """Computes the encoder's states.

        Args:
            token_ids: [B, S].
            padding_mask: [B, S]; None: all are real.

        Returns:
            float32 [B, S, D], 0 at padding.

        Raises:
            ValueError: Ids and mask do not fit.
        """
        return self.backbone.encode(token_ids, padding_mask)

    def call_decoder_with_cache(
        self,
        encoder_hidden_states: npt.ArrayLike,
        encoder_padding_mask: npt.ArrayLike | None,
        decoder_token_ids: npt.ArrayLike,
        self_attention_cache: Floats | None = None,
        self_attention_cache_update_index: int | None = None,
        cross_attention_cache: Floats | None = None,
        cross_attention_cache_update_index: int | None = None,
    ) -> tuple[Floats, Floats, Floats | None, Floats | None]:
        """Computes logits of the next ids with the keys and values of those before.

        Args:
            encoder_hidden_states: float32 [B, S, D].
            encoder_padding_mask: [B, S]; None: all are real.
            decoder_token_ids: [B, T], the ids at the cells from the update index on.
            self_attention_cache: float32 [B, L, 2, cells, H, E], not changed; None: none is kept.
            self_attention_cache_update_index: The first cell to fill; None: 0.
            cross_attention_cache: float32 [B, L, 2, S, H, E]; None: made for this call.
            cross_attention_cache_update_index: 0: the cache is computed anew; None: it is used.

        Returns:
            Logits [B, T, V], last hidden states [B, T, D], and both caches.

        Raises:
            ValueError: Shapes do not fit.
        """
        return stepping.call_decoder_with_cache(
            self.backbone,
            encoder_hidden_states,
            encoder_padding_mask,
            decoder_token_ids,
            self_attention_cache,
            self_attention_cache_update_index or 0,
            cross_attention_cache,
            cross_attention_cache_update_index,
        )


def _with_forced_first(prompts: list[Prompt], start: list[int], request: Request) -> list[Prompt]:
    """Leaves the second of two start ids to `forced_bos_token_id`: it is the first new one.

    So it is in transformers, where it counts in scores.

    Raises:
        ValueError: The call forces an id, and a row is longer than its start.
    """
    if request.options.forced_bos_token_id < 0:
        return prompts
    if len(start) == 2:
        prompts = [
            Prompt(prompt.encoder_ids, start[:1]) if prompt.decoder_ids == start else prompt
            for prompt in prompts
        ]
    longest = max((len(prompt.decoder_ids) for prompt in prompts), default=0)
    if longest > 1 and "forced_bos_token_id" in request.given:
        raise ValueError(
            "generate: forced_bos_token_id must come with rows that are their start ids alone, got "
            f"one of {longest} ids"
        )
    return prompts
