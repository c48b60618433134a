# SPDX-License-Identifier: Apache-2.0
"""transformers as a peer: sdpa attention; `--compiled` adds torch.compile and a static cache."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from peer import Batch, serve


class TransformersPeer:
    """One model of a transformers folder on the CPU. It takes a whole list at once, unpadded."""

    def __init__(self, *, compiled: bool = False) -> None:
        """Choose between the plain and the compiled model."""
        self._compiled = compiled

    def prepare(self, folder: Path, threads: int, dtype: str) -> dict[str, str]:
        """Load the folder's model and return the versions that run."""
        torch.set_num_threads(threads)
        config = transformers.AutoConfig.from_pretrained(folder)
        self._is_seq2seq = bool(config.is_encoder_decoder)
        auto: Any = transformers.AutoModelForCausalLM
        if self._is_seq2seq:
            auto = transformers.AutoModelForSeq2SeqLM
        self._model: Any = auto.from_pretrained(
            folder, dtype=getattr(torch, dtype), attn_implementation="sdpa"
        ).eval()
        if self._compiled:
            # The decode step only: its shapes are fixed by the static cache.
            self._model.forward = torch.compile(self._model.forward, dynamic=False)
        return {"transformers": transformers.__version__, "torch": torch.__version__}

    def inputs(self, batch: Batch) -> torch.Tensor:
        """A tensor; the prompts must be equally long."""
        return torch.tensor(batch.ids)

    @torch.inference_mode()
    def run(self, batch: Batch, inputs: torch.Tensor) -> torch.Tensor:
        """One call of `generate`."""
        output: torch.Tensor = self._model.generate(
            inputs,
            attention_mask=torch.ones_like(inputs),
            do_sample=False,
            num_beams=batch.beams,
            max_new_tokens=batch.new_tokens,
            min_new_tokens=batch.min_new_tokens,
            forced_bos_token_id=None,
            forced_eos_token_id=None,
            pad_token_id=self._model.config.eos_token_id,
            cache_implementation="static" if self._compiled else None,
        )
        return output

    def new_ids(self, batch: Batch, output: torch.Tensor) -> list[list[int]]:
        """What follows the prompt, or the start id."""
        prompt = 1 if self._is_seq2seq else len(batch.ids[0])
        return [row[prompt:] for row in output.tolist()]

    @torch.inference_mode()
    def margin(self, ids: list[int], prefix: list[int], a: int, b: int) -> float:
        """How near a tie ids a and b are after `prefix`: their distance over the largest logit."""
        if self._is_seq2seq:
            start = [self._model.config.decoder_start_token_id, *prefix]
            logits = self._model(
                input_ids=torch.tensor([ids]), decoder_input_ids=torch.tensor([start])
            ).logits[0, -1]
        else:
            logits = self._model(torch.tensor([[*ids, *prefix]])).logits[0, -1]
        # An id that is banned by a bias of its own must not pass for the largest.
        return float((logits[a] - logits[b]).abs() / logits[logits.abs() < 1e3].abs().max())


if __name__ == "__main__":
    serve(TransformersPeer(compiled="--compiled" in sys.argv))
