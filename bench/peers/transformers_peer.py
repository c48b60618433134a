# SPDX-License-Identifier: Apache-2.0
"""transformers as a peer: sdpa attention; `--compiled` adds torch.compile and a static cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from peer import Batch, serve


class TransformersPeer:
    """One model of a transformers folder on the CPU."""

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

    @torch.inference_mode()
    def run(self, batch: Batch) -> list[list[int]]:
        """Generate exactly `batch.new_tokens` ids for each prompt."""
        ids = torch.tensor(batch.ids)
        output = self._model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            num_beams=1,
            max_new_tokens=batch.new_tokens,
            min_new_tokens=batch.new_tokens,
            forced_bos_token_id=None,
            forced_eos_token_id=None,
            pad_token_id=self._model.config.eos_token_id,
            cache_implementation="static" if self._compiled else None,
        )
        return [row[-batch.new_tokens :] for row in output.tolist()]

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
        return float((logits[a] - logits[b]).abs() / logits.abs().max())


if __name__ == "__main__":
    import sys

    serve(TransformersPeer(compiled="--compiled" in sys.argv))
