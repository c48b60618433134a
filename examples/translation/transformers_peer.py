# SPDX-License-Identifier: Apache-2.0
"""The same weights in transformers, which translates under the same rules."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fuseq

BATCH_SIZE = 50


class TransformersPeer:
    """A `BartForConditionalGeneration` with the weights of a preset of fuseq.

    Args:
        preset: Where it lies.
        dtype: "float32", or "bfloat16" to round the weights.
        num_threads: Of torch; None: as many as torch likes.
    """

    def __init__(self, preset: Path, dtype: str, num_threads: int | None) -> None:
        """Carries the weights over."""
        import torch
        import transformers

        if num_threads is not None:
            torch.set_num_threads(num_threads)
        lm = fuseq.Seq2SeqLM.from_preset(preset, dtype="float32")
        with tempfile.TemporaryDirectory() as folder:
            lm.save_to_preset(f"{folder}/model", format="transformers")
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(f"{folder}/model")
            model = transformers.BartForConditionalGeneration.from_pretrained(f"{folder}/model")
        self.model: Any = model.to(getattr(torch, dtype)).eval()
        # Given to `generate` and not forced there, so that scores count new tokens as fuseq does.
        settings = model.generation_config
        self.start_ids = [settings.decoder_start_token_id, settings.forced_bos_token_id]

    def translate(self, sources: Sequence[str], **options: Any) -> list[tuple[list[int], str]]:  # noqa: ANN401
        """Translates in batches of sources of like length.

        Args:
            sources: The texts.
            **options: Of transformers' `generate`.

        Returns:
            The new ids up to and with the end id, and the text of each source.
        """
        import torch

        rows = self.tokenizer(list(sources))["input_ids"]
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        end = self.tokenizer.eos_token_id
        found: dict[int, list[int]] = {}
        for first in range(0, len(order), BATCH_SIZE):
            indices = order[first : first + BATCH_SIZE]
            batch = self.tokenizer.pad(
                {"input_ids": [rows[index] for index in indices]}, return_tensors="pt"
            )
            with torch.inference_mode():
                results = self.model.generate(
                    input_ids=batch["input_ids"],
                    attention_mask=batch["attention_mask"],
                    decoder_input_ids=torch.tensor([self.start_ids] * len(indices)),
                    eos_token_id=end,
                    pad_token_id=self.tokenizer.pad_token_id,
                    do_sample=False,
                    **options,
                )
            new = results[:, len(self.start_ids) :].tolist()
            for index, row in zip(indices, new, strict=True):
                found[index] = row[: row.index(end) + 1] if end in row else row
        ids = [found[index] for index in range(len(rows))]
        texts = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return list(zip(ids, texts, strict=True))
