# SPDX-License-Identifier: Apache-2.0
"""CTranslate2 as a peer. The environment variable CT2_FORCE_CPU_ISA picks its instruction set.

`--workers` has as many workers as there are threads, of one thread each, in place of one worker
with all threads: they share the weights and split a batch between them.
"""

from __future__ import annotations

import math
import shutil
import sys
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
        words = [word(i) for i in range(config.vocab_size)]
        if config.model_type == "marian":
            words[config.pad_token_id] = "<pad>"  # the converter leaves it out by this name
        return SimpleNamespace(
            get_vocab=lambda: {text: i for i, text in enumerate(words)},
            bos_token=None if config.bos_token_id is None else word(config.bos_token_id),
            eos_token=word(config.eos_token_id),
            unk_token=word(3),
            convert_ids_to_tokens=words.__getitem__,
        )


class CTranslate2Peer:
    """One model of a transformers folder, converted beside it at first use.

    A group of a list is a number of tokens; CTranslate2 sorts the list by length first.
    """

    def __init__(self, *, workers: bool = False) -> None:
        """Choose between one worker and one for each thread."""
        self._workers = workers

    def prepare(self, folder: Path, threads: int, dtype: str) -> dict[str, str]:
        """Convert the folder if need be, load it, and return the versions that run."""
        converted = folder / CONVERTED
        if not (converted / "model.bin").exists():
            shutil.rmtree(converted, ignore_errors=True)
            WordlessConverter(str(folder)).convert(str(converted), quantization="float32")
        config = transformers.AutoConfig.from_pretrained(folder)
        self._is_seq2seq = bool(config.is_encoder_decoder)
        self._count = threads if self._workers else 1
        load = ctranslate2.Translator if self._is_seq2seq else ctranslate2.Generator
        self._model: Any = load(
            str(converted),
            device="cpu",
            compute_type=dtype,
            inter_threads=self._count,
            intra_threads=threads // self._count,
        )
        # "int8_float32" is int8 with float32 for all else, as on a CPU always.
        if not self._model.compute_type.startswith(dtype):
            raise ValueError(f"compute_type must be {dtype}, got {self._model.compute_type}")
        # A CPU without the forced instruction set is told at the first use only.
        trial = Batch(ids=[[10]], new_tokens=1, min_new_tokens=1)
        self.run(trial, self.inputs(trial))
        return {"ctranslate2": ctranslate2.__version__}

    def inputs(self, batch: Batch) -> list[list[str]]:
        """Lists of words."""
        return [[word(i) for i in ids] for ids in batch.ids]

    def run(self, batch: Batch, inputs: list[list[str]]) -> list[Any]:
        """One call over the whole list, with CTranslate2's own batches."""
        options: dict[str, Any] = {"beam_size": batch.beams, "return_end_token": True}
        if batch.group is not None:
            options |= {"max_batch_size": batch.group, "batch_type": "tokens"}
        elif self._workers:
            options |= {"max_batch_size": math.ceil(len(inputs) / self._count)}
        if self._is_seq2seq:
            translated: list[Any] = self._model.translate_batch(
                inputs,
                min_decoding_length=batch.min_new_tokens,
                max_decoding_length=batch.new_tokens,
                **options,
            )
            return translated
        generated: list[Any] = self._model.generate_batch(
            inputs,
            min_length=batch.min_new_tokens,
            max_length=batch.new_tokens,
            include_prompt_in_result=False,
            **options,
        )
        return generated

    def new_ids(self, batch: Batch, output: list[Any]) -> list[list[int]]:
        """The ids behind the words."""
        if self._is_seq2seq:
            rows = [result.hypotheses[0] for result in output]
        else:
            rows = [result.sequences[0] for result in output]
        return [[int(token[1:]) for token in row] for row in rows]


if __name__ == "__main__":
    serve(CTranslate2Peer(workers="--workers" in sys.argv))
