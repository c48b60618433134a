# SPDX-License-Identifier: Apache-2.0
"""Tokenizers in folders of KerasHub, of transformers and of our own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fuseq.tokenizers import (
    BartTokenizer,
    BytePairTokenizer,
    GPT2Tokenizer,
    PretrainedTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    load,
    serialize,
)
from tokenizer_folders import (
    BART_WORDS,
    GPT2_WORDS,
    MERGES,
    TEXT,
    byte_level_definition,
    word_piece_definition,
    write,
    write_bart,
)

pytest.importorskip("tokenizers")


# Folders of KerasHub and of ours


def test_a_saved_tokenizer_has_the_files_of_keras_hub(tmp_path: Path) -> None:
    BartTokenizer(BART_WORDS, MERGES, sequence_length=8).save_to_preset(tmp_path / "new")
    files = sorted(p.relative_to(tmp_path / "new") for p in tmp_path.rglob("*") if p.is_file())
    assets = Path("assets/tokenizer")
    assert files == [assets / "merges.txt", assets / "vocabulary.json", Path("tokenizer.json")]
    folder = tmp_path / "new" / assets
    assert (folder / "merges.txt").read_text(encoding="utf-8") == "Ġ f\no x\nĠf ox\n"
    assert (folder / "vocabulary.json").read_text(encoding="utf-8") == json.dumps(BART_WORDS)


@pytest.mark.parametrize(
    "make",
    [
        lambda: BartTokenizer(BART_WORDS, MERGES, 8, True, ["<s>", "</s>", "<pad>", "a"], "int64"),
        lambda: GPT2Tokenizer(GPT2_WORDS, MERGES),
        lambda: BytePairTokenizer({"a": 4, "Ġfox": 2}, MERGES),
    ],
    ids=["bart", "gpt2", "byte pair"],
)
def test_a_saved_tokenizer_comes_back(
    make: Callable[[], BytePairTokenizer], tmp_path: Path
) -> None:
    tokenizer = make()
    tokenizer.save_to_preset(tmp_path)
    found = load(tmp_path)
    assert type(found) is type(tokenizer)
    assert serialize(found) == serialize(tokenizer)
    assert found.vocabulary == tokenizer.vocabulary
    assert found.merges == tokenizer.merges
    assert found(TEXT[:5]).tolist() == tokenizer(TEXT[:5]).tolist()


def test_saving_twice_writes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        BartTokenizer(BART_WORDS, MERGES).save_to_preset(tmp_path / name)
    contents = [
        {path.name: path.read_bytes() for path in (tmp_path / name).rglob("*") if path.is_file()}
        for name in ("one", "two")
    ]
    assert contents[0] == contents[1]


def test_a_failed_save_leaves_the_old_files(tmp_path: Path) -> None:
    BartTokenizer(BART_WORDS, MERGES).save_to_preset(tmp_path)
    with pytest.raises(ValueError, match="must have a vocabulary"):
        BartTokenizer().save_to_preset(tmp_path)
    assert load(tmp_path) is not None


@pytest.mark.parametrize("package", ["keras_hub", "keras_nlp"])
def test_a_folder_of_keras_hub_or_keras_nlp_is_read(package: str, tmp_path: Path) -> None:
    assets = tmp_path / "assets" / "tokenizer"
    assets.mkdir(parents=True)
    write(assets, vocabulary__json=BART_WORDS, merges__txt="#version: 0.2\n" + "\n".join(MERGES))
    written = {
        "module": f"{package}.src.models.bart.bart_tokenizer",
        "class_name": "BartTokenizer",
        "config": {"name": "bart_tokenizer", "trainable": True, "dtype": "int32"},
        "registered_name": f"{package}>BartTokenizer",
    }
    found = load(write(tmp_path, tokenizer__json=written))
    assert type(found) is BartTokenizer
    assert found(TEXT).tolist() == [3, 4, 2]
    assert found.merges == MERGES


def test_the_config_file_may_have_another_name(tmp_path: Path) -> None:
    BartTokenizer(BART_WORDS, MERGES, config_file="words.json").save_to_preset(tmp_path)
    assert (tmp_path / "assets" / "words" / "merges.txt").is_file()
    assert load(tmp_path) is None
    assert isinstance(load(tmp_path, config_file="words.json"), BartTokenizer)


def test_missing_and_broken_assets_are_named(tmp_path: Path) -> None:
    BartTokenizer(BART_WORDS, MERGES).save_to_preset(tmp_path)
    assets = tmp_path / "assets" / "tokenizer"
    write(assets, merges__txt="Ġ f\nfox\n")
    with pytest.raises(ValueError, match=r'merges\.txt", line 2: must be two .* got \'fox\''):
        load(tmp_path)
    (assets / "merges.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"merges\.txt"):
        load(tmp_path)
    for content, message in (
        ("{", "must be JSON"),
        ("[1]", "must be a JSON object, got list"),
        ('{"a": -1}', "must hold ids from 0"),
        ('{"a": 1, "b": 1}', "must hold each id once"),
    ):
        write(assets, vocabulary__json=content)
        with pytest.raises(ValueError, match=rf'vocabulary\.json": {message}'):
            load(tmp_path)
    (assets / "vocabulary.json").write_bytes(b'{"\xff": 1}')
    with pytest.raises(ValueError, match=r'vocabulary\.json": must be UTF-8 text'):
        load(tmp_path)
    (assets / "vocabulary.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"vocabulary\.json"):
        load(tmp_path)


def test_a_class_that_we_do_not_have_is_named_with_its_file(tmp_path: Path) -> None:
    write(tmp_path, tokenizer__json={"registered_name": "keras_hub>BertTokenizer", "config": {}})
    with pytest.raises(ValueError, match=r'tokenizer\.json": .*BartTokenizer.*BertTokenizer'):
        load(tmp_path)


class Letters(Tokenizer):
    """A class of one's own, without files."""

    def tokenize_text(self, text: str) -> list[int]:
        return [self.token_to_id(letter) for letter in text]

    def detokenize_ids(self, ids: list[int]) -> str:
        return "".join(self.id_to_token(id) for id in ids)

    def get_vocabulary(self) -> list[str]:
        return ["a", "b"]


def test_a_class_of_ones_own_is_saved_and_loaded(tmp_path: Path) -> None:
    Letters(sequence_length=2).save_to_preset(tmp_path)
    found = load(tmp_path, custom_objects={"Letters": Letters})
    assert isinstance(found, Letters)
    assert found("b").tolist() == [1, 0]
    assert isinstance(Letters.from_preset(tmp_path), Letters)


# from_preset


def test_the_base_class_finds_the_class_of_a_folder(tmp_path: Path) -> None:
    GPT2Tokenizer(GPT2_WORDS, MERGES).save_to_preset(tmp_path)
    for kind in (Tokenizer, BytePairTokenizer, GPT2Tokenizer):
        assert type(kind.from_preset(tmp_path)) is GPT2Tokenizer
    assert type(Tokenizer.from_preset(str(tmp_path))) is GPT2Tokenizer


def test_a_class_below_the_folders_class_is_made(tmp_path: Path) -> None:
    class MyBart(BartTokenizer):
        pass

    assert type(MyBart.from_preset(write_bart(tmp_path))) is MyBart


@pytest.mark.parametrize("kind", [GPT2Tokenizer, SentencePieceTokenizer, Letters])
def test_another_class_is_refused(kind: type[Tokenizer], tmp_path: Path) -> None:
    BartTokenizer(BART_WORDS, MERGES).save_to_preset(tmp_path)
    message = f"Unable to find a subclass of {kind.__name__} .* got BartTokenizer"
    with pytest.raises(ValueError, match=message):
        kind.from_preset(tmp_path)


def test_settings_may_take_the_place_of_the_folders(tmp_path: Path) -> None:
    BartTokenizer(BART_WORDS, MERGES).save_to_preset(tmp_path / "keras")
    (tmp_path / "hf").mkdir()
    write_bart(tmp_path / "hf")
    for name in ("keras", "hf"):
        found = BartTokenizer.from_preset(tmp_path / name, sequence_length=4, add_prefix_space=True)
        assert found("fox").tolist() == [4, 1, 1, 1]


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    write(tmp_path, config__json={"model_type": "bart"})
    assert load(tmp_path) is None
    with pytest.raises(FileNotFoundError, match=r"^from_preset .* files of a tokenizer, got none"):
        BartTokenizer.from_preset(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"^load .*none.* got no such folder"):
        load(tmp_path / "none")


# Folders of transformers


def test_a_folder_of_transformers_is_read(tmp_path: Path) -> None:
    found = load(write_bart(tmp_path))
    assert type(found) is BartTokenizer
    assert found(TEXT).tolist() == [3, 4, 2]
    assert sorted(found.unsplittable_tokens) == ["</s>", "<pad>", "<s>"]


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ({"config__json": {"model_type": "gpt2"}}, GPT2Tokenizer),
        ({"tokenizer_config__json": {"tokenizer_class": "GPT2TokenizerFast"}}, GPT2Tokenizer),
        ({}, GPT2Tokenizer),
    ],
    ids=["model", "tokenizer class", "special tokens"],
)
def test_the_class_is_found_by(
    files: dict[str, Any], kind: type[Tokenizer], tmp_path: Path
) -> None:
    write(tmp_path, vocab__json=GPT2_WORDS, merges__txt="\n".join(MERGES), **files)
    assert type(load(tmp_path)) is kind


def test_a_vocabulary_without_special_tokens_is_a_plain_one(tmp_path: Path) -> None:
    found = load(write(tmp_path, vocab__json={"a": 0}, merges__txt=""))
    assert type(found) is BytePairTokenizer


def test_what_transformers_5_calls_bart_is_bart(tmp_path: Path) -> None:
    named = {"tokenizer_class": "RobertaTokenizer", "bos_token": "<s>"}
    write(tmp_path, config__json={"model_type": "bart"}, tokenizer_config__json=named)
    write(tmp_path, tokenizer__json=byte_level_definition(BART_WORDS))
    assert type(load(tmp_path)) is BartTokenizer


def test_gpt2_without_its_special_token_is_refused(tmp_path: Path) -> None:
    write(tmp_path, vocab__json={"a": 0}, merges__txt="", config__json={"model_type": "gpt2"})
    with pytest.raises(ValueError, match=r"must hold '<\|endoftext\|>', .* GPT2Tokenizer, got 1 "):
        load(tmp_path)


@pytest.mark.parametrize(
    "files",
    [
        {"added_tokens__json": {"<new>": 9}},
        {"tokenizer_config__json": {"added_tokens_decoder": {"9": {"content": "<new>"}}}},
        {"tokenizer__json": {"added_tokens": [{"id": 9, "content": "<new>"}]}},
    ],
    ids=["added_tokens.json", "tokenizer_config.json", "tokenizer.json"],
)
def test_added_tokens_belong_to_the_vocabulary(files: dict[str, Any], tmp_path: Path) -> None:
    found = load(write_bart(tmp_path, **files))
    assert found is not None
    assert found.vocabulary_size() == 10
    assert found("a<new>").tolist() == [3, 9]
    assert found.detokenize([3, 9]) == "a<new>"


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer_config__json": {"add_prefix_space": True}},
        {"tokenizer__json": {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}}},
    ],
)
def test_the_blank_before_a_text_counts(files: dict[str, Any], tmp_path: Path) -> None:
    found = load(write_bart(tmp_path, **files))
    assert found is not None
    assert found("fox").tolist() == [4]


def test_one_of_two_files_is_not_enough(tmp_path: Path) -> None:
    write_bart(tmp_path)
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"merges\.txt"):
        load(tmp_path)


def test_a_byte_level_definition_gives_the_class_of_the_model(tmp_path: Path) -> None:
    write(tmp_path, config__json={"model_type": "bart"})
    found = load(write(tmp_path, tokenizer__json=byte_level_definition(BART_WORDS)))
    assert type(found) is BartTokenizer
    assert found.merges == ["Ġ f", "o x"]
    assert found(TEXT).tolist() == [3, 90, 91, 2]


@pytest.mark.parametrize(
    "changes",
    [
        {"normalizer": {"type": "NFC"}},
        {"pre_tokenizer": {"type": "Whitespace"}},
        {
            "pre_tokenizer": {
                "type": "ByteLevel",
                "add_prefix_space": False,
                "trim_offsets": True,
                "use_regex": False,
            }
        },
    ],
    ids=["normalizer", "other words", "no words"],
)
def test_a_definition_that_does_more_keeps_its_own_ways(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    write(tmp_path, config__json={"model_type": "bart"})
    write(tmp_path, tokenizer__json=byte_level_definition(BART_WORDS, **changes))
    assert type(load(tmp_path)) is PretrainedTokenizer


def test_another_model_keeps_the_ways_of_its_definition(tmp_path: Path) -> None:
    write(tmp_path, config__json={"model_type": "whisper"}, vocab__json={}, merges__txt="")
    write(tmp_path, tokenizer__json=byte_level_definition(BART_WORDS))
    found = load(tmp_path)
    assert type(found) is PretrainedTokenizer
    assert found.token_bytes()[4] == b" fox"


@pytest.mark.parametrize(
    "files",
    [
        {
            "tokenizer_config__json": {
                "bos_token": "[CLS]",
                "eos_token": {"content": "[SEP]"},
                "pad_token": "[PAD]",
            }
        },
        {
            "special_tokens_map__json": {
                "bos_token": {"content": "[CLS]"},
                "eos_token": "[SEP]",
                "pad_token": "[PAD]",
            }
        },
        {"config__json": {"bos_token_id": 0, "eos_token_id": [1, 9], "pad_token_id": 2}},
    ],
    ids=["tokenizer_config.json", "special_tokens_map.json", "config.json"],
)
def test_any_definition_has_a_face(files: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path, tokenizer__json=word_piece_definition(), **files)
    found = load(tmp_path)
    assert type(found) is PretrainedTokenizer
    assert (found.start_token_id, found.end_token_id, found.pad_token_id) == (0, 1, 2)
    assert found.special_tokens == ["[CLS]", "[SEP]", "[PAD]", "[UNK]"]
    assert found("a foxes").tolist() == [5, 4, 6]
    assert found(["a foxes", "fox"]) == [[5, 4, 6], [4]]
    assert found.detokenize([5, 4, 6]) == "a foxes"
    table = found.token_bytes()
    assert [table[id] for id in range(7)] == [b"", b"", b"", b"", b" fox", b" a", b"es"]
    assert found.get_vocabulary()[4] == "fox"
    with pytest.raises(ValueError, match="7 tokens, got 7"):
        found.detokenize([7])
    with pytest.raises(ValueError, match="got 'bee'"):
        found.token_to_id("bee")

    found.save_to_preset(tmp_path / "saved")
    again = load(tmp_path / "saved")
    assert type(again) is PretrainedTokenizer
    assert serialize(again) == serialize(found)
    assert again("a foxes").tolist() == [5, 4, 6]


def test_a_wrong_definition_is_named(tmp_path: Path) -> None:
    write(tmp_path, tokenizer__json={"version": "1.0", "model": {"type": "Nothing"}})
    with pytest.raises(ValueError, match=r'tokenizer\.json": must be a file of the tokenizers'):
        load(tmp_path)
    with pytest.raises(ValueError, match=r"^PretrainedTokenizer: must have a vocabulary"):
        PretrainedTokenizer()("a")
    write(tmp_path, tokenizer__json=word_piece_definition())
    with pytest.raises(ValueError, match=r'tokenizer\.json": vocabulary: must hold \'<s>\''):
        PretrainedTokenizer(tmp_path / "tokenizer.json", start_token="<s>")
