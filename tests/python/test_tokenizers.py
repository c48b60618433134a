# SPDX-License-Identifier: Apache-2.0
"""Tokenizers on small vocabularies: ids, vocabularies, and classes of one's own."""

import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
from fuseq.tokenizers import (
    BartTokenizer,
    BytePairTokenizer,
    GPT2Tokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    deserialize,
    serialize,
)
from small_tokenizers import (
    BART_WORDS,
    BUTTERFLY,
    BUTTERFLY_MERGES,
    MERGES,
    Letters,
    ids_of,
    make_bart,
    make_every_byte,
    make_gpt2,
)

pytest.importorskip("tokenizers")


@pytest.fixture
def bart() -> BartTokenizer:
    return make_bart()


@pytest.fixture
def gpt2() -> GPT2Tokenizer:
    return make_gpt2()


@pytest.fixture
def every_byte() -> BytePairTokenizer:
    return make_every_byte()


# BART and GPT-2


def test_bart_finds_words_and_special_tokens_in_text(bart: BartTokenizer) -> None:
    texts = ["<s> airplane at airport</s><pad>", " airplane airport"]
    ids = [[0, 4, 5, 6, 4, 7, 2, 1], [4, 5, 4, 7]]
    assert bart(texts) == ids
    assert bart.tokenize(texts) == ids
    assert bart.detokenize(ids) == texts
    assert bart(texts[1]).tolist() == ids[1]
    assert bart.detokenize(ids[0]) == texts[0]


def test_gpt2_finds_words_and_its_special_token_in_text(gpt2: GPT2Tokenizer) -> None:
    texts = [" airplane at airport<|endoftext|>", " airplane airport"]
    ids = [[2, 3, 4, 2, 5, 6], [2, 3, 2, 5]]
    assert gpt2(texts) == ids
    assert gpt2.detokenize(ids) == texts


def test_special_tokens_of_bart(bart: BartTokenizer) -> None:
    assert (bart.start_token, bart.end_token, bart.pad_token) == ("<s>", "</s>", "<pad>")
    assert (bart.start_token_id, bart.end_token_id, bart.pad_token_id) == (0, 2, 1)
    assert bart.special_tokens == ["<s>", "</s>", "<pad>"]
    assert bart.special_token_ids == [0, 2, 1]


def test_special_tokens_of_gpt2(gpt2: GPT2Tokenizer) -> None:
    assert gpt2.start_token == gpt2.end_token == "<|endoftext|>"
    assert (gpt2.start_token_id, gpt2.end_token_id) == (6, 6)
    assert gpt2.pad_token is None
    assert gpt2.pad_token_id == 0
    assert gpt2.special_tokens == ["<|endoftext|>"]


@pytest.mark.parametrize(
    ("kind", "token"), [(BartTokenizer, "<s>"), (GPT2Tokenizer, "<|endoftext|>")]
)
def test_a_missing_special_token_is_named(kind: type[BytePairTokenizer], token: str) -> None:
    with pytest.raises(
        ValueError, match=f"must hold '{token[:2]}.*{kind.__name__}".replace("|", ".")
    ):
        kind({"a": 0}, [])


# Bytes and the vocabulary


def test_half_a_letter_becomes_the_replacement_character(every_byte: BytePairTokenizer) -> None:
    ids = every_byte("é").tolist()
    assert ids == [0xC3, 0xA9]
    assert every_byte.detokenize(ids) == "é"
    assert every_byte.detokenize(ids[:1]) == "\N{REPLACEMENT CHARACTER}"


def test_the_vocabulary_is_in_the_order_of_ids() -> None:
    tokenizer = BytePairTokenizer({"fly": 7, "butter": 2}, BUTTERFLY_MERGES)
    assert tokenizer.get_vocabulary() == ["butter", "fly"]
    assert tokenizer.vocabulary_size() == 2
    assert tokenizer.token_to_id("fly") == 7
    assert tokenizer.id_to_token(7) == "fly"
    with pytest.raises(ValueError, match=r"^token: must be one of the vocabulary, got 'bee'"):
        tokenizer.token_to_id("bee")
    with pytest.raises(ValueError, match="got 3"):
        tokenizer.id_to_token(3)


def test_what_ids_stand_for_covers_holes_and_leaves_special_tokens_empty() -> None:
    words = {"<s>": 0, "<pad>": 1, "</s>": 2, "Ġcaf": 5, "Ã": 6}
    table = BartTokenizer(words, []).token_bytes()
    assert [table[id] for id in range(len(table))] == [b"", b"", b"", b"", b"", b" caf", b"\xc3"]


def test_what_ids_stand_for_is_made_once(gpt2: GPT2Tokenizer) -> None:
    assert gpt2.token_bytes() is gpt2.token_bytes()
    assert gpt2.token_bytes()[0] == b"!"  # fills rows, and is a letter all the same


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [
        ({1: 1}, "must map tokens to ids, got 1: 1"),
        ({"a": "b"}, "must map tokens to ids, got 'a': 'b'"),
        ({"a": 1.0}, "must map tokens to ids, got 'a': 1.0"),
        ({"a": True}, "must map tokens to ids, got 'a': True"),
        ({"a": -1}, "must hold ids from 0 to 16777215, got 'a': -1"),
        ({"a": 1 << 30}, "must hold ids from 0 to 16777215, got 'a': 1073741824"),
        ({"a": 1, "b": 1}, "must hold each id once, got 1 for 'a' and 'b'"),
        ({"\ud800": 1}, "must hold Unicode text"),
        (["a", "b"], "must be a dict, a file or a folder, got list"),
    ],
)
def test_a_wrong_vocabulary_is_refused(vocabulary: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^vocabulary: {message}"):
        BytePairTokenizer(vocabulary, [])


@pytest.mark.parametrize(
    ("merges", "message"),
    [
        (["a b", "ab"], r"merges\[1\]: must be two symbols and a blank, got 'ab'"),
        ([("a", "b")], r"merges\[0\]: must be two symbols"),
        (7, "merges: must be a file or strings of two symbols, got int"),
        (None, "merges: must be given, as the other one is, got None"),
    ],
)
def test_wrong_merges_are_refused(merges: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        BytePairTokenizer({"a": 0, "b": 1}, merges)


def test_merges_without_a_vocabulary_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^vocabulary: must be given"):
        BytePairTokenizer(None, [])


def test_a_wrong_vocabulary_leaves_no_half_made_tokenizer(bart: BartTokenizer) -> None:
    with pytest.raises(ValueError, match="special token"):
        bart.set_vocabulary_and_merges({"a": 0}, [])
    with pytest.raises(ValueError, match="must have a vocabulary"):
        bart("a")


USES: dict[str, Any] = {
    "tokenize": lambda t: t.tokenize("a"),
    "tokenize a batch": lambda t: t(["a", "b"]),
    "detokenize": lambda t: t.detokenize([1]),
    "detokenize nothing": lambda t: t.detokenize([]),
    "get_vocabulary": lambda t: t.get_vocabulary(),
    "vocabulary_size": lambda t: t.vocabulary_size(),
    "id_to_token": lambda t: t.id_to_token(0),
    "token_to_id": lambda t: t.token_to_id("a"),
    "start_token_id": lambda t: t.start_token_id,
    "special_token_ids": lambda t: t.special_token_ids,
    "token_bytes": lambda t: t.token_bytes(),
    "save_assets": lambda t: t.save_assets("never"),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_every_use_without_a_vocabulary_says_so(use: Any) -> None:
    with pytest.raises(ValueError, match=r"^BartTokenizer: must have a vocabulary, got none"):
        use(BartTokenizer())


# Where words begin, and what is left out


def test_of_two_blanks_the_second_begins_the_word(every_byte: BytePairTokenizer) -> None:
    tokens = [every_byte.id_to_token(id) for id in every_byte("a  b")]
    assert tokens == ["a", "Ġ", "Ġb"]


def test_blanks_at_the_end_stay_together(every_byte: BytePairTokenizer) -> None:
    assert [every_byte.id_to_token(id) for id in every_byte("a  ")] == ["a", "ĠĠ"]


def test_unsplittable_tokens_win_over_merges() -> None:
    words, merges = {"sp": 0, "s": 1, "p": 2}, ["s p"]
    assert BytePairTokenizer(words, merges)("sp").tolist() == [0]
    apart = BytePairTokenizer(words, merges, unsplittable_tokens=["s", "p"])
    assert apart("sp").tolist() == [1, 2]


def test_unsplittable_tokens_stand_for_themselves() -> None:
    tokenizer = BytePairTokenizer({"<é>": 0, "é": 1}, [], unsplittable_tokens=["<é>"])
    assert tokenizer("<é>").tolist() == [0]
    assert tokenizer.detokenize([0]) == "<é>"
    assert tokenizer.token_bytes()[1] == b"\xe9"


@pytest.mark.parametrize("tokens", ["sp", ["s", ""], [1]])
def test_unsplittable_tokens_must_be_strings(tokens: Any) -> None:
    with pytest.raises(ValueError, match=r"^unsplittable_tokens: must be strings"):
        BytePairTokenizer({"s": 0}, [], unsplittable_tokens=tokens)


def test_unsplittable_tokens_must_be_in_the_vocabulary() -> None:
    with pytest.raises(ValueError, match=r"^unsplittable_tokens: .* got 'x'"):
        BytePairTokenizer({"s": 0}, [], unsplittable_tokens=["x"])


def test_a_blank_may_be_put_before_a_text() -> None:
    bart = BartTokenizer(ids_of(BART_WORDS), MERGES, add_prefix_space=True)
    assert bart("air").tolist() == bart(" air").tolist() == [4]
    assert bart("").tolist() == []


def test_parts_of_merges_need_no_ids() -> None:
    tokenizer = BytePairTokenizer(BUTTERFLY, BUTTERFLY_MERGES)
    assert tokenizer(["butterfly", "butter"]) == [[1, 2], [1]]
    assert tokenizer.detokenize([[1, 2]]) == ["butterfly"]


def custom_bart(blank: str) -> BartTokenizer:
    """The custom vocabulary of the documentation of KerasHub's `BartSeq2SeqLM`."""
    words = {"<s>": 0, "<pad>": 1, "</s>": 2, f"{blank}after": 5, "noon": 6, f"{blank}sun": 7}
    merges = [f"{blank} a", f"{blank} s", f"{blank} n", "e r", "n o", "o n", f"{blank}s u"]
    merges += [f"{blank}a f", "no on", f"{blank}su n", f"{blank}af t", f"{blank}aft er"]
    return BartTokenizer(vocabulary=words, merges=merges)


def test_the_custom_vocabulary_of_the_documentation_works_as_meant() -> None:
    bart = custom_bart("Ġ")
    assert bart([" afternoon sun", "noon sun"]) == [[5, 6, 7], [6, 7]]
    assert bart("<s> afternoon</s>").tolist() == [0, 5, 6, 2]
    assert bart.detokenize([5, 6, 7]) == " afternoon sun"
    assert bart.vocabulary_size() == 6
    assert len(bart.token_bytes()) == 8


def test_the_custom_vocabulary_of_the_documentation_works_as_printed() -> None:
    # KerasHub 0.17 gives -1 for each symbol without an id, and 6 for "noon"; we leave out the -1.
    bart = custom_bart("Ä\xa0")
    with pytest.warns(UserWarning, match="must be in the vocabulary, got 'Ġ'"):
        assert bart([" afternoon sun", "noon sun"]) == [[6], [6]]


def test_merges_with_more_blanks_never_apply() -> None:
    with pytest.warns(UserWarning, match="got 8 others, .* the first is 'Ä  a'"):
        bart = custom_bart("Ä ")
    assert bart.merges == ["e r", "n o", "o n", "no on"]
    assert bart("noon").tolist() == [6]


def test_what_has_no_id_is_left_out_with_one_warning() -> None:
    tokenizer = BytePairTokenizer({"a": 0, "b": 1, "ab": 2}, ["a b"])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert tokenizer(["axb", "yab"]) == [[0, 1], [2]]
        assert tokenizer("zz").tolist() == []
    assert [str(warning.message) for warning in caught] == [
        "tokenize: symbols must be in the vocabulary, got 'x', which is left out, "
        "as are others from now on"
    ]


# Classes of one's own


def test_a_class_of_ones_own_has_all_the_rest() -> None:
    letters = Letters(sequence_length=3)
    assert letters(["ab", "b"]).tolist() == [[1, 2, 0], [2, 0, 0]]
    assert letters.detokenize([[1, 2], [2]]) == ["ab", "b"]
    assert (letters.end_token_id, letters.start_token_id, letters.pad_token_id) == (0, None, None)
    assert [letters.token_bytes()[id] for id in range(3)] == [b"", b"a", b"b"]
    with pytest.raises(ValueError, match=r"^ids: .* 3 tokens, got 3"):
        letters.detokenize([3])
    with pytest.raises(ValueError, match="got 'c'"):
        letters("c")
    again = pickle.loads(pickle.dumps(letters))
    assert again("a").tolist() == [1, 0, 0]


def test_a_class_of_ones_own_is_written_by_its_name() -> None:
    written = serialize(Letters())
    assert (written["registered_name"], written["module"]) == ("Letters", Letters.__module__)
    assert isinstance(deserialize(written, {"Letters": Letters}), Letters)
    with pytest.raises(ValueError, match="got 'Letters'"):
        deserialize(written)


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("tokenize_text", lambda t: t("a")),
        ("detokenize_ids", lambda t: t.detokenize_ids([1])),
        ("get_vocabulary", lambda t: t.vocabulary_size()),
    ],
)
def test_what_a_class_must_override_is_named(name: str, use: Any) -> None:
    with pytest.raises(NotImplementedError, match=f"Tokenizer: must override {name}"):
        use(Tokenizer())


# SentencePiece


def test_a_model_that_is_none_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("sentencepiece")
    for proto in (b"not a model", b"", "!" * 4096):
        with pytest.raises(ValueError, match=r"^proto: must be"):
            SentencePieceTokenizer(proto)
    with pytest.raises(ValueError, match=r"^proto: must be a file, bytes or base64, got int"):
        SentencePieceTokenizer(3)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match=r"none\.spm"):
        SentencePieceTokenizer(tmp_path / "none.spm")


def test_sentence_piece_without_a_model_says_so() -> None:
    for use in (lambda t: t("a"), lambda t: t.detokenize([1]), lambda t: t.vocabulary_size()):
        with pytest.raises(ValueError, match=r"^SentencePieceTokenizer: must have a vocabulary"):
            use(SentencePieceTokenizer())
