# SPDX-License-Identifier: Apache-2.0
"""transformers as a peer: sdpa attention; `--compiled` adds torch.compile and a static cache."""

from __future__ import annotations

import math
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
    def judge(self, ids: list[int], row: list[int], min_new_tokens: int) -> dict[str, float]:
        """How good `row` is as the new ids after the prompt `ids`.

        Returns:
            `margin`: how far the logit of an id of the row is below that of the best id after the
            same ids, over the largest logit; at the place where that is most. `score`: the mean
            log-probability of the row's ids. End ids are banned from the first `min_new_tokens`.
        """
        if self._is_seq2seq:
            start = [self._model.config.decoder_start_token_id, *row[:-1]]
            logits = self._model(
                input_ids=torch.tensor([ids]), decoder_input_ids=torch.tensor([start])
            ).logits[0]
        else:
            logits = self._model(torch.tensor([[*ids, *row[:-1]]])).logits[0, len(ids) - 1 :]
        chosen = torch.tensor(row)[:, None]
        score = logits.log_softmax(-1).gather(1, chosen).mean()
        # An id that is banned by a bias of its own must not pass for the largest.
        largest = logits.abs().masked_fill(logits.abs() >= 1e3, 0).amax(-1)
        best = logits.clone()
        best[:min_new_tokens, self._model.config.eos_token_id] = -math.inf
        margin = (best.amax(-1) - logits.gather(1, chosen)[:, 0]) / largest
        return {"margin": float(margin.amax()), "score": float(score)}


if __name__ == "__main__":
    serve(TransformersPeer(compiled="--compiled" in sys.argv))
