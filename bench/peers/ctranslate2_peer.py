# SPDX-License-Identifier: Apache-2.0
"""CTranslate2 as a peer. The environment variable CT2_FORCE_CPU_ISA picks its instruction set."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ctranslate2
import transformers
from ctranslate2.converters import TransformersConverter
from peer import Batch, serve

CONVERTED = "ctranslate2"  # folder inside the model's folder


def word(token: int) -> str:
    """The word that stands for an id: the models have random weights and no tokenizer."""
    return f"t{token}"


class WordlessConverter(TransformersConverter):  # type: ignore[misc]
    """Converts a folder without tokenizer files; every id is a word of its own."""

    def load_tokenizer(
        self, tokenizer_class: object, model_name_or_path: str, **kwargs: object
    ) -> SimpleNamespace:
        """A stand-in for the tokenizer, with what the converter asks it for."""
        config = transformers.AutoConfig.from_pretrained(model_name_or_path)
        return SimpleNamespace(
            get_vocab=lambda: {word(i): i for i in range(config.vocab_size)},
            bos_token=word(config.bos_token_id),
            eos_token=word(config.eos_token_id),
            unk_token=word(3),
            convert_ids_to_tokens=word,
        )


class CTranslate2Peer:
    """One model of a transformers folder, converted beside it at first use."""

    def prepare(self, folder: Path, threads: int, dtype: str) -> dict[str, str]:
        """Convert the folder if need be, load it, and return the versions that run."""
        converted = folder / CONVERTED
        if not (converted / "model.bin").exists():
            shutil.rmtree(converted, ignore_errors=True)
            WordlessConverter(str(folder)).convert(str(converted), quantization="float32")
        config = transformers.AutoConfig.from_pretrained(folder)
        self._is_seq2seq = bool(config.is_encoder_decoder)
        load = ctranslate2.Translator if self._is_seq2seq else ctranslate2.Generator
        self._model: Any = load(
            str(converted), device="cpu", compute_type=dtype, inter_threads=1, intra_threads=threads
        )
        return {"ctranslate2": ctranslate2.__version__}

    def run(self, batch: Batch) -> list[list[int]]:
        """Generate exactly `batch.new_tokens` ids for each prompt."""
        prompts = [[word(i) for i in ids] for ids in batch.ids]
        n = batch.new_tokens
        if self._is_seq2seq:
            results = self._model.translate_batch(
                prompts,
                beam_size=1,
                min_decoding_length=n,
                max_decoding_length=n,
                return_end_token=True,
            )
            rows = [result.hypotheses[0] for result in results]
        else:
            results = self._model.generate_batch(
                prompts,
                beam_size=1,
                min_length=n,
                max_length=n,
                include_prompt_in_result=False,
                return_end_token=True,
            )
            rows = [result.sequences[0] for result in results]
        return [[int(token[1:]) for token in row] for row in rows]


if __name__ == "__main__":
    serve(CTranslate2Peer())
