# SPDX-License-Identifier: Apache-2.0
"""Real vocabularies give the ids that other implementations give."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuseq.tokenizers import (
    BartTokenizer,
    BytePairTokenizer,
    GPT2Tokenizer,
    PretrainedTokenizer,
    SentencePieceTokenizer,
    load,
)

pytest.importorskip("tokenizers")

SPECIAL_TEXT = "<s> </s> <pad> <unk> <mask> [CLS] [SEP] [MASK]"
# The recorded ids take the names of special tokens for text; we find them, as transformers does in
# this folder. Each has the blank before it, but for <mask>, which takes it along.
SPECIAL_IDS = [0, 1437, 2, 1437, 1, 1437, 3, 50264, 646, 7454, 104, 742, 646, 3388, 510, 742]
SPECIAL_IDS += [646, 32804, 530, 742]


@pytest.fixture(scope="module")
def folder(test_data: Path) -> Path:
    return test_data / "tokenizers"


@pytest.fixture(scope="module")
def bart(folder: Path) -> BartTokenizer:
    found = load(folder / "bart-base")
    assert type(found) is BartTokenizer
    return found


@pytest.fixture(scope="module")
def gpt2(folder: Path) -> GPT2Tokenizer:
    found = load(folder / "gpt2-bpe")
    assert type(found) is GPT2Tokenizer
    return found


def read_golden(folder: Path) -> dict[str, list[int]]:
    """The recorded ids of each text."""
    lines = (folder / "golden.jsonl").read_text(encoding="utf-8").split("\n")
    read = [json.loads(line) for line in lines if line]
    return {line["text"]: line["ids"] for line in read}


def test_bart_gives_the_recorded_ids(folder: Path, bart: BartTokenizer) -> None:
    golden = read_golden(folder / "bart-base")
    del golden[SPECIAL_TEXT]
    assert len(golden) > 150
    for text, ids in golden.items():
        assert [0, *bart(text).tolist(), 2] == ids, text
    assert [[0, *row, 2] for row in bart(list(golden))] == list(golden.values())


def test_bart_finds_the_names_of_special_tokens_in_text(bart: BartTokenizer) -> None:
    assert bart(SPECIAL_TEXT).tolist() == SPECIAL_IDS
    assert bart.detokenize(SPECIAL_IDS) == SPECIAL_TEXT.replace(" <mask>", "<mask>")


def test_bart_takes_the_names_of_start_end_and_pad_alone_by_itself(folder: Path) -> None:
    source = folder / "bart-base"
    own = BartTokenizer(source / "vocab.json", source / "merges.txt")  # as KerasHub
    assert own("<s> <mask> <unk>").tolist() == [0, 28696, 43776, 15698, 28696, 6435, 15698]
    assert own.detokenize(own(SPECIAL_TEXT)) == SPECIAL_TEXT


def test_gpt2_gives_the_recorded_ids(folder: Path, gpt2: GPT2Tokenizer) -> None:
    golden = read_golden(folder / "gpt2-bpe")
    assert len(golden) > 150
    for text, ids in golden.items():
        assert gpt2(text).tolist() == ids, text
    assert gpt2(list(golden)) == list(golden.values())


@pytest.mark.parametrize(("files", "vocabulary"), [("gpt-2", "gpt2"), ("roberta-bpe", "bart")])
def test_vectors_of_llama_cpp_agree(
    folder: Path, files: str, vocabulary: str, request: pytest.FixtureRequest
) -> None:
    base = folder / "vectors-llama.cpp" / f"ggml-vocab-{files}"
    texts = base.with_name(base.name + ".inp").read_bytes().decode("utf-8")
    lines = base.with_name(base.name + ".out").read_text(encoding="utf-8").split("\n")
    tokenizer: BytePairTokenizer = request.getfixturevalue(vocabulary)
    ids = [[int(id) for id in line.split()] for line in lines]
    assert len(ids) == 47
    assert tokenizer(texts.split("\n__ggml_vocab_test__\n")) == ids


def test_vectors_of_ggml_agree(folder: Path, gpt2: GPT2Tokenizer) -> None:
    text = (folder / "vectors-ggml" / "gpt-2.txt").read_text(encoding="utf-8")
    lines = [line.rpartition(" => ") for line in text.split("\n") if line]
    assert len(lines) == 100
    for one, _, ids in lines:
        assert gpt2(one).tolist() == [int(id) for id in ids.split(",")], one


@pytest.mark.parametrize("vocabulary", ["bart", "gpt2"])
def test_all_texts_come_back(folder: Path, vocabulary: str, request: pytest.FixtureRequest) -> None:
    tokenizer: BytePairTokenizer = request.getfixturevalue(vocabulary)
    texts = [*read_golden(folder / "bart-base"), *random_texts(300)]
    texts.remove(SPECIAL_TEXT)  # the mask takes a blank along
    rows = tokenizer(texts)
    assert tokenizer.detokenize(rows) == texts
    for text, row in zip(texts, rows, strict=True):
        assert tokenizer.detokenize(np.array(row)) == text


@pytest.mark.parametrize("vocabulary", ["bart", "gpt2"])
def test_what_ids_stand_for_is_the_text_in_pieces(
    folder: Path, vocabulary: str, request: pytest.FixtureRequest
) -> None:
    tokenizer: BytePairTokenizer = request.getfixturevalue(vocabulary)
    table = tokenizer.token_bytes()
    assert len(table) == tokenizer.vocabulary_size()
    assert all(table[id] == b"" for id in tokenizer.special_token_ids)
    golden = read_golden(folder / "gpt2-bpe")
    del golden[SPECIAL_TEXT]
    for text, row in zip(golden, tokenizer(list(golden)), strict=True):
        assert b"".join(table[id] for id in row).decode("utf-8") == text


def random_texts(count: int) -> list[str]:
    """Texts of letters, digits, blanks and signs of many scripts, always the same ones."""
    source = random.Random(7)
    letters = (
        "aZé ß\u00a0\u2009\u3000\u0085 \t\n\r'sSdl09½²漢字かな한글Ω\u0301\u200d👩🏽\x00\x7f.,!<>_|"
    )
    return ["".join(source.choices(letters, k=source.randrange(24))) for _ in range(count)]


@pytest.mark.parametrize("name", ["bart", "gpt2"])
@pytest.mark.parametrize("prefix", [False, True], ids=["bare", "prefix"])
def test_ids_are_those_of_transformers(folder: Path, name: str, prefix: bool) -> None:
    transformers = pytest.importorskip("transformers")
    source = folder / {"bart": "bart-base", "gpt2": "gpt2-bpe"}[name]
    kind = {"bart": transformers.BartTokenizer, "gpt2": transformers.GPT2Tokenizer}[name]
    files = [str(source / "vocab.json"), str(source / "merges.txt")]
    oracle = kind(*files, add_prefix_space=prefix)
    ours = {"bart": BartTokenizer, "gpt2": GPT2Tokenizer}[name](*files, add_prefix_space=prefix)
    texts = [*read_golden(source), *random_texts(300)]
    texts = [text for text in texts if "<" not in text]
    assert len(texts) > 300
    assert ours(texts) == oracle(texts, add_special_tokens=False)["input_ids"]


def test_texts_of_keras_hubs_tests_give_its_ids(bart: BartTokenizer) -> None:
    expected = {
        "brown.": [31876, 4],
        "The quick brown fox.": [133, 2119, 6219, 23602, 4],
        "\n\n\n  s": [50140, 50118, 1437, 579],
        "  \n\n\ns": [1437, 1437, 50140, 50118, 29],
        "Hello\n\n": [31414, 50140],
        "Hello\n\n\n\n": [31414, 50140, 50140],
        "\xa0 \xa0 \x3000 s": [50141, 50143, 12096, 579],
        "I am just a test string": [100, 524, 95, 10, 1296, 6755],
    }
    for text, ids in expected.items():
        assert bart(text).tolist() == ids, text


def test_line_ends_before_a_word_are_apart_as_in_gpt2(bart: BartTokenizer) -> None:
    # Not as in KerasHub, which makes one token of them: [31414, 50140, 31414].
    assert bart("Hello\n\nHello").tolist() == [31414, 50118, 50118, 31414]


def test_a_folder_is_as_good_as_its_two_files(folder: Path, bart: BartTokenizer) -> None:
    both = BartTokenizer(folder / "bart-base")
    apart = BartTokenizer(
        str(folder / "bart-base" / "vocab.json"), folder / "bart-base" / "merges.txt"
    )
    assert both.vocabulary == apart.vocabulary == bart.vocabulary
    assert both.merges == apart.merges == bart.merges
    assert len(both.merges or []) == 50_000


def test_a_definition_alone_gives_the_same_tokenizer(
    folder: Path, bart: BartTokenizer, tmp_path: Path
) -> None:
    definition = (folder / "bart-base" / "tokenizer.json").read_bytes()
    (tmp_path / "tokenizer.json").write_bytes(definition)
    (tmp_path / "config.json").write_text('{"model_type": "bart"}')
    found = load(tmp_path)
    assert type(found) is BartTokenizer
    assert found.vocabulary == bart.vocabulary
    assert found.merges == bart.merges


@pytest.mark.parametrize(
    ("model", "start", "end"),
    [
        ("keras-hub-tiny-spm/gemma_export_vocab.spm", 0, 0),
        ("sentencepiece-tests/test_model.model", 0, 0),
        ("marian-joint-1k-bytefallback/vocab.spm", 0, 0),
        ("t5-base/spiece.model", 0, 1),
        ("mistral-v1/tokenizer.model", 1, 0),
    ],
)
def test_sentence_piece_gives_the_recorded_ids(
    folder: Path, model: str, start: int, end: int
) -> None:
    pytest.importorskip("sentencepiece")
    golden = read_golden((folder / model).parent)
    tokenizer = SentencePieceTokenizer(folder / model)
    bare = [ids[start : len(ids) - end] for ids in golden.values()]
    assert tokenizer(list(golden)) == bare
    framed = SentencePieceTokenizer(folder / model, add_bos=bool(start), add_eos=bool(end))
    assert framed(list(golden)) == list(golden.values())
    table = tokenizer.token_bytes()
    for ids in bare:
        pieces = b"".join(table[id] for id in ids).decode("utf-8", errors="replace")
        assert pieces.lstrip(" ") == tokenizer.detokenize(ids).lstrip(" ")


def test_sentence_piece_models_come_in_all_forms(folder: Path) -> None:
    pytest.importorskip("sentencepiece")
    import base64

    path = folder / "keras-hub-tiny-spm" / "gemma_export_vocab.spm"
    text = "the quick brown fox"
    expected = SentencePieceTokenizer(path)(text).tolist()
    data = path.read_bytes()
    forms: list[Any] = [str(path), data, base64.b64encode(data).decode("ascii")]
    for form in forms:
        assert SentencePieceTokenizer(form)(text).tolist() == expected

    class GemmaTokenizer(SentencePieceTokenizer):
        start_token = "<bos>"
        end_token = "<eos>"
        pad_token = "<pad>"

    gemma = GemmaTokenizer(path, sequence_length=8)
    assert gemma.special_token_ids == [2, 1, 0]
    assert gemma(text).tolist() == expected[:8]
    assert gemma(["the"]).tolist() == [[*expected[:3], 0, 0, 0, 0, 0]]
    assert gemma.token_to_id("no such piece") == gemma.token_to_id("<unk>") == 3

    class WithoutToken(SentencePieceTokenizer):
        start_token = "<nothing>"

    with pytest.raises(ValueError, match=r"^proto: must hold '<nothing>'.* 290 pieces"):
        WithoutToken(path)


@pytest.mark.parametrize("name", ["t5-base", "mbart-barthez"])
def test_other_definitions_give_the_recorded_ids(folder: Path, name: str) -> None:
    tokenizer = load(folder / name)
    assert isinstance(tokenizer, PretrainedTokenizer)
    end = [] if name == "mbart-barthez" else [1]
    golden = read_golden(folder / name)
    del golden[SPECIAL_TEXT]
    # The library keeps a letter with its marks whole where SentencePiece does not.
    golden = {text: ids for text, ids in golden.items() if "\u0300\u0301\u0302" not in text}
    different = [text for text, ids in golden.items() if [*tokenizer(text).tolist(), *end] != ids]
    assert len(golden) > 150
    assert different == []
    table = tokenizer.token_bytes()
    for ids in golden.values():
        bare = ids[: len(ids) - len(end)]
        if not set(bare) & set(tokenizer.special_token_ids):
            pieces = b"".join(table[id] for id in bare).decode("utf-8")
            assert pieces.lstrip(" ") == tokenizer.detokenize(bare).lstrip(" ")
