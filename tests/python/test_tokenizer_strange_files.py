# SPDX-License-Identifier: Apache-2.0
"""What the files of a tokenizer may not do, and what they are told."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from fuseq.tokenizers import (
    BartTokenizer,
    PretrainedTokenizer,
    load,
)
from tokenizer_folders import (
    BART_WORDS,
    MERGES,
    byte_level_definition,
    word_piece_definition,
    write,
    write_bart,
)

pytest.importorskip("tokenizers")


# What a strange file may not do


@pytest.mark.parametrize("name", ["/tmp/x.json", "../x.json", "..", "a\0.json", ".json", "x", 5])
def test_a_config_file_must_be_a_plain_name(name: Any, tmp_path: Path) -> None:
    message = r"^config_file: must be the name of a file"
    with pytest.raises(ValueError, match=message):
        BartTokenizer(config_file=name)
    with pytest.raises(ValueError, match=message):
        load(tmp_path, config_file=name)
    tokenizer = BartTokenizer(BART_WORDS, MERGES)
    tokenizer.config_file = name
    with pytest.raises(ValueError, match=message):
        tokenizer.save_to_preset(tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["../outside.json", "/outside.json", "other.json"])
def test_a_file_does_not_say_where_it_is_saved(name: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    BartTokenizer(BART_WORDS, MERGES).save_to_preset(source)
    path = source / "tokenizer.json"
    written = json.loads(path.read_text(encoding="utf-8"))
    written["config"]["config_file"] = name
    path.write_text(json.dumps(written), encoding="utf-8")
    found = load(source)
    assert found is not None
    assert found.config_file == "tokenizer.json"
    found.save_to_preset(tmp_path / "saved")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["saved", "source"]
    assert (tmp_path / "saved" / "tokenizer.json").is_file()


def test_a_file_does_not_name_files_that_lie_elsewhere(tmp_path: Path) -> None:
    BartTokenizer(BART_WORDS, MERGES).save_to_preset(tmp_path)
    path = tmp_path / "tokenizer.json"
    written = json.loads(path.read_text(encoding="utf-8"))
    written["config"].update(vocabulary="/nowhere/a.json", merges="/nowhere/b.txt")
    path.write_text(json.dumps(written), encoding="utf-8")
    assert isinstance(load(tmp_path), BartTokenizer)


@pytest.mark.parametrize(
    "change",
    [
        {"config": [5]},
        {"fuseq": "ab"},
        {"config": {"dtype": {"config": 5}}},
        {"config": {"dtype": "i" + "9" * 5000}},
        {"config": {"unsplittable_tokens": 5}},
        {"config": {"unsplittable_tokens": ["<none>"]}},
        {"config": {"sequence_length": []}},
        {"config": {"size": 1}},
        {"fuseq": {"additional_special_tokens": "ab"}},
        {"fuseq": {"additional_special_tokens": ["<none>"]}},
        {"fuseq": {"lstrip_tokens": [None]}},
    ],
)
def test_wrong_settings_in_a_file_are_named_with_it(change: Any, tmp_path: Path) -> None:
    BartTokenizer(BART_WORDS, MERGES).save_to_preset(tmp_path)
    written = {"registered_name": "keras_hub>BartTokenizer", **change}
    write(tmp_path, tokenizer__json=written)
    with pytest.raises(ValueError, match=re.escape(str(tmp_path))):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer_config", {"added_tokens_decoder": [5]}),
        ("tokenizer_config", {"added_tokens_decoder": {"a": "b"}}),
        ("tokenizer_config", {"added_tokens_decoder": {"9" * 5000: "b"}}),
        ("tokenizer_config", {"added_tokens_decoder": {"9": {"content": None}}}),
        ("tokenizer_config", {"added_tokens_decoder": {"9": "\ud800"}}),
        ("tokenizer_config", {"bos_token": []}),
        ("tokenizer_config", {"extra_special_tokens": 5}),
        ("special_tokens_map", {"mask_token": {"content": [5]}}),
        ("special_tokens_map", {"additional_special_tokens": [None]}),
        ("added_tokens", {"<new>": "9"}),
        ("added_tokens", {"<new>": 0}),
        ("vocab", {"<s>": 0, "a": [1]}),
    ],
)
def test_wrong_shapes_in_files_of_transformers_are_named(
    name: str, content: Any, tmp_path: Path
) -> None:
    write_bart(tmp_path)
    write(tmp_path, **{f"{name}__json": content})
    file = "vocab" if name == "added_tokens" and content["<new>"] == 0 else name
    with pytest.raises(ValueError, match=re.escape(f'"{tmp_path / file}.json"')):
        load(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"added_tokens": [{}]},
        {"added_tokens": [5]},
        {"added_tokens": [None]},
        {"added_tokens": {"a": 5}},
        {"added_tokens": [{"id": "1", "content": "a"}]},
        {"model": []},
        {"model": {"type": "Unigram", "vocab": [5]}},
        {"model": {"type": "BPE", "vocab": {"a": 1}, "merges": [[5, "a"]]}},
        {"model": {"type": "BPE", "vocab": {"a": 1}, "merges": ["a"]}},
        {"model": {"type": "BPE", "vocab": {"a": 1, "b": 1}, "merges": []}},
        {"model": {"type": "BPE", "vocab": {"a": 1}, "merges": ["\ud800 a"]}},
        {"pre_tokenizer": [5]},
        {"model": {"type": "BPE", "vocab": 5, "merges": 5}},
        {"model": {"type": "BPE", "vocab": [["a", 1]], "merges": []}},
    ],
)
def test_wrong_shapes_in_a_definition_are_named(change: Any, tmp_path: Path) -> None:
    write(tmp_path, tokenizer__json=byte_level_definition(BART_WORDS, **change))
    with pytest.raises(ValueError, match=re.escape(f'"{tmp_path / "tokenizer.json"}"')):
        load(tmp_path)


def test_a_panic_of_the_tokenizers_library_is_an_error_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tokenizers

    class PanicException(BaseException):
        """As the library's own, which no one can import."""

    def panic(text: str) -> None:
        raise PanicException(f"index out of range in {len(text)} letters")

    class Panicking:
        from_str = staticmethod(panic)

    monkeypatch.setattr(tokenizers, "Tokenizer", Panicking)
    write(tmp_path, tokenizer__json="{}")
    with pytest.raises(ValueError, match=r'tokenizer\.json": .*, got index out of range'):
        PretrainedTokenizer(tmp_path / "tokenizer.json")


def test_assets_without_a_special_token_are_named(tmp_path: Path) -> None:
    BartTokenizer(BART_WORDS, MERGES).save_to_preset(tmp_path)
    assets = tmp_path / "assets" / "tokenizer"
    write(assets, vocabulary__json={"a": 0})
    with pytest.raises(ValueError, match=re.escape(f"\"{assets}\": vocabulary: must hold '<s>'")):
        load(tmp_path)


@pytest.mark.parametrize("form", ["keras", "transformers"])
def test_wrong_settings_of_the_caller_are_not_blamed_on_the_file(form: str, tmp_path: Path) -> None:
    if form == "keras":
        BartTokenizer(BART_WORDS, MERGES).save_to_preset(tmp_path)
    else:
        write_bart(tmp_path)
    with pytest.raises(
        TypeError, match=r"^from_preset: .* BartTokenizer, got size, width\. It has"
    ):
        BartTokenizer.from_preset(tmp_path, size=1, width=2)
    with pytest.raises(ValueError, match=r"^sequence_length: must be at least 1, got 0$"):
        BartTokenizer.from_preset(tmp_path, sequence_length=0)
    found = load(str(tmp_path), settings={"sequence_length": 3})
    assert found is not None
    assert found.sequence_length == 3


def test_a_definition_that_cannot_encode_a_text_is_an_error(tmp_path: Path) -> None:
    definition = word_piece_definition()
    definition["model"]["unk_token"] = "[NONE]"
    write(tmp_path, tokenizer__json=definition)
    tokenizer = PretrainedTokenizer(tmp_path / "tokenizer.json")
    for inputs in ("bee", ["bee", "fox"]):
        with pytest.raises(ValueError, match=r"^tokenize: the definition must know .* got "):
            tokenizer(inputs)


def test_a_decoder_of_unusual_parts_is_read(tmp_path: Path) -> None:
    definition = word_piece_definition()
    parts = [["ByteFallback"], {"type": "Fuse"}]
    definition["decoder"] = {"type": "Sequence", "decoders": parts}
    write(tmp_path, tokenizer__json=definition)
    tokenizer = PretrainedTokenizer(tmp_path / "tokenizer.json")
    assert tokenizer.token_bytes()[4] == b"fox"
