# SPDX-License-Identifier: Apache-2.0
"""A trained BART generates from text, with a character vocabulary of the user's own."""

import json
from pathlib import Path
from typing import Any

import fuseq
import pytest
from fuseq.models import BartSeq2SeqLM, BartSeq2SeqLMPreprocessor
from fuseq.tokenizers import Tokenizer

WORDS = 600


class LetterTokenizer(Tokenizer):
    """Spells with one alphabet and reads with another: graphemes in, phonemes out."""

    start_token = "<s>"
    end_token = "</s>"
    pad_token = "<pad>"

    def __init__(self, graphemes: str, phonemes: str) -> None:
        super().__init__()
        self.special = [self.pad_token, self.start_token, self.end_token, "<unk>"]
        self.graphemes = self.special + list(graphemes[4:])
        self.phonemes = self.special + list(phonemes[4:])

    def get_vocabulary(self) -> list[str]:
        return self.phonemes

    def tokenize_text(self, text: str) -> list[int]:
        return [self.graphemes.index(c) if c in self.graphemes else 3 for c in text]

    def detokenize_ids(self, ids: list[int]) -> str:
        return "".join(self.phonemes[id] for id in ids)


@pytest.fixture(scope="module")
def speller(test_data: Path) -> BartSeq2SeqLM:
    folder = test_data / "weights" / "bart-g2p-us"
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    tokenizer = LetterTokenizer(config["grapheme_chars"], config["phoneme_chars"])
    preprocessor = BartSeq2SeqLMPreprocessor(tokenizer, 64, 64, decoder_start_ids=[1])
    task = fuseq.Seq2SeqLM.from_preset(folder, preprocessor=preprocessor)
    assert isinstance(task, BartSeq2SeqLM)
    return task


@pytest.fixture(scope="module")
def golden_words(test_data: Path) -> list[dict[str, Any]]:
    path = test_data / "weights" / "bart-g2p-us" / "golden.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines][:WORDS]


def test_greedy_texts_are_the_recorded_ones(
    speller: BartSeq2SeqLM, golden_words: list[dict[str, Any]]
) -> None:
    speller.compile(sampler="greedy")
    words = [line["word"] for line in golden_words]
    texts = speller.generate(words, max_length=61)
    assert texts == [line["greedy_text"] for line in golden_words]
    one_by_one = speller.generate((word for word in words[:20]), max_length=61)
    assert one_by_one == texts[:20]


def test_four_beams_give_the_recorded_texts_and_scores(
    speller: BartSeq2SeqLM, golden_words: list[dict[str, Any]]
) -> None:
    speller.compile(sampler=fuseq.samplers.BeamSampler(num_beams=4, return_all_beams=True))
    words = [line["word"] for line in golden_words]
    found = speller.generate(words, max_new_tokens=60, forced_eos_token_id=2, return_scores=True)
    for generations, line in zip(found, golden_words, strict=True):
        assert [generation.text for generation in generations] == line["beam4_text"]
        assert [generation.score for generation in generations] == pytest.approx(
            line["beam4_scores"], abs=2e-4
        )


def test_streamed_text_is_the_text(
    speller: BartSeq2SeqLM, golden_words: list[dict[str, Any]]
) -> None:
    pieces: list[str] = []
    text = speller.generate(
        golden_words[0]["word"],
        max_length=61,
        sampler="greedy",
        on_token=lambda row, id, piece: pieces.append(piece),
    )
    assert "".join(pieces) == text == golden_words[0]["greedy_text"]
