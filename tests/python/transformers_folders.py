# SPDX-License-Identifier: Apache-2.0
"""Tiny folders of transformers with tokenizer and settings, and what transformers writes there."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import oracle_models
import stand_in_presets
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    GenerationConfig,
)

POSITIONS = 64
BART_TOKENS = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
GPT2_TOKENS = {"!": 0}
MASK = "<mask>"
END = "<|endoftext|>"


def tokens(family: str) -> dict[str, int]:
    """The vocabulary: bytes, a few words, and special tokens where the real ones have them."""
    known = BART_TOKENS if family == "bart" else GPT2_TOKENS
    ids = stand_in_presets.vocabulary(known, start=len(known))
    return {**ids, (MASK if family == "bart" else END): len(ids)}


def make(
    folder: Path,
    family: str,
    settings: dict[str, Any] | None = None,
    *,
    seed: int = 5,
    gain: float = 2.0,
    eos_bias: float = 0.0,
    tokenizer: dict[str, Any] | None = None,
    **fields: Any,
) -> Path:
    """Writes a random model, its tokenizer and its generation settings.

    Args:
        folder: Where.
        family: "bart" or "gpt2".
        settings: Of `generation_config.json`, beside the special ids; None: there is no such file.
        seed: Of the weights.
        gain: How much they are spread.
        eos_bias: Lifts the end id.
        tokenizer: More fields of `tokenizer_config.json`.
        **fields: Of the model's config.
    """
    vocabulary = tokens(family)
    defaults: dict[str, Any] = {"vocab_size": len(vocabulary)}
    if family == "bart":
        defaults |= {"max_position_embeddings": POSITIONS}
        model = oracle_models.bart(seed, gain=gain, eos_bias=eos_bias, **{**defaults, **fields})
        ids = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
    else:
        end = vocabulary[END]
        defaults |= {"n_positions": POSITIONS, "bos_token_id": end, "eos_token_id": end}
        defaults |= {"pad_token_id": None}
        model = oracle_models.gpt2(seed, gain=gain, **{**defaults, **fields})
        ids = {"bos_token_id": end, "eos_token_id": end}
    model.generation_config = GenerationConfig(**{**ids, **(settings or {})})
    oracle_models.save(model, folder)
    if settings is None:
        (folder / "generation_config.json").unlink(missing_ok=True)
    _write_tokenizer(folder, family, vocabulary, tokenizer or {})
    return folder


def _write_tokenizer(
    folder: Path, family: str, vocabulary: dict[str, int], fields: dict[str, Any]
) -> None:
    config: dict[str, Any] = {"tokenizer_class": "GPT2Tokenizer", "model_max_length": POSITIONS}
    config |= {"bos_token": END, "eos_token": END, "unk_token": END}
    if family == "bart":
        config |= {"tokenizer_class": "BartTokenizer", "bos_token": "<s>", "eos_token": "</s>"}
        config |= {"pad_token": "<pad>", "unk_token": "<unk>", "mask_token": MASK}
        config |= {"cls_token": "<s>", "sep_token": "</s>"}
    files = {
        "vocab.json": json.dumps(vocabulary, ensure_ascii=False),
        "merges.txt": "\n".join(["#version: 0.2", *stand_in_presets.MERGES, ""]),
        "tokenizer_config.json": json.dumps({**config, **fields}),
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class Found:
    """What transformers generated for one text.

    Attributes:
        text: Without special tokens.
        ids: The whole row, cut after its end id.
        score: `sequences_scores` of a beam, else 0.
    """

    text: str
    ids: list[int]
    score: float


class Oracle:
    """A folder as transformers opens it."""

    def __init__(self, folder: Path) -> None:
        """Loads model and tokenizer."""
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        config = json.loads((folder / "config.json").read_text("utf-8"))
        self.is_seq2seq = config["model_type"] == "bart"
        kind = AutoModelForSeq2SeqLM if self.is_seq2seq else AutoModelForCausalLM
        self.model = kind.from_pretrained(folder).eval()

    def generate(self, text: str, decoder_text: str | None = None, **options: Any) -> list[Found]:
        """Generates for one text, so that nothing is padded."""
        inputs = self.tokenizer(text, return_tensors="pt")
        options = {**options, "return_dict_in_generate": True, "output_scores": True}
        settings = self.model.generation_config
        start = 1
        if decoder_text is not None:
            ids = [settings.decoder_start_token_id]
            if settings.forced_bos_token_id is not None:
                ids.append(settings.forced_bos_token_id)
            ids += self.tokenizer(decoder_text, add_special_tokens=False)["input_ids"]
            options["decoder_input_ids"] = torch.tensor([ids])
            start = len(ids)
        if not self.is_seq2seq:
            start = inputs["input_ids"].shape[1]
        output = self.model.generate(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], **options
        )
        texts = self.tokenizer.batch_decode(output.sequences, skip_special_tokens=True)
        scores = output.get("sequences_scores")
        return [
            Found(
                text, self._cut(row, start, options), 0.0 if scores is None else float(scores[at])
            )
            for at, (text, row) in enumerate(zip(texts, output.sequences.tolist(), strict=True))
        ]

    def _cut(self, row: Sequence[int], start: int, options: dict[str, Any]) -> list[int]:
        """A row as far as its first end id."""
        ends = options.get("eos_token_id", self.model.generation_config.eos_token_id)
        if ends is None:
            ends = []
        ends = [ends] if isinstance(ends, int) else ends
        at = next((i for i in range(start, len(row)) if row[i] in ends), None)
        return list(row[: len(row) if at is None else at + 1])
