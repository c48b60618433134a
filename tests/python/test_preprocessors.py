# SPDX-License-Identifier: Apache-2.0
"""Preprocessors: ids, masks, labels and weights are those of KerasHub 0.32, cell by cell."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuseq.models import (
    BartSeq2SeqLMPreprocessor,
    CausalLMPreprocessor,
    GPT2Backbone,
    GPT2CausalLM,
    GPT2CausalLMPreprocessor,
    Preprocessor,
    Seq2SeqLMPreprocessor,
)
from fuseq.models.dtypes import engine_dtype
from fuseq.tokenizers import BartTokenizer, GPT2Tokenizer
from tiny_tasks import BART, GPT2

# <s> 0, <pad> 1, </s> 2; a 67, t 86, he 260, in 262, n 80, " fox" 268, " the" 261, " " 223
TEXTS = {
    "encoder_text": ["the fox", "inn", "the fox the fox"],
    "decoder_text": ["a fox", "", "a fox in the inn"],
}
FIRST = {key: texts[0] for key, texts in TEXTS.items()}
SOURCE_IDS = [[0, 86, 260, 268, 2, 1, 1], [0, 262, 80, 2, 1, 1, 1], [0, 86, 260, 268, 261, 268, 2]]
SOURCE_MASK = [[1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1]]
# <|endoftext|> 267 starts and ends, "!" 0 pads
LINES = ["the fox", "", "a fox in the inn"]


def bart(**arguments: Any) -> BartSeq2SeqLMPreprocessor:
    lengths = {"encoder_sequence_length": 7, "decoder_sequence_length": 6, **arguments}
    return BartSeq2SeqLMPreprocessor(BartTokenizer.from_preset(BART), **lengths)


def gpt2(**arguments: Any) -> GPT2CausalLMPreprocessor:
    lengths = {"sequence_length": 6, **arguments}
    return GPT2CausalLMPreprocessor(GPT2Tokenizer.from_preset(GPT2), **lengths)


def is_same(found: Any, expected: Any) -> None:
    """Ids int32, masks bool, and every cell."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, values in expected.items():
            assert found[key].dtype == (np.bool_ if key.endswith("mask") else np.int32)
            np.testing.assert_array_equal(found[key], values)
    else:
        np.testing.assert_array_equal(found, expected)


def is_example(found: Any, x: dict[str, Any], y: Any, weights: Any) -> None:
    """Inputs, labels and weights of training."""
    is_same(found[0], x)
    is_same(found[1], y)
    is_same(found[2], weights)
    assert (found[1].dtype, found[2].dtype) == (np.int32, np.bool_)


# ---- BART, training ----


def test_rows_of_bart_are_packed_and_shifted_as_in_keras_hub() -> None:
    is_example(
        bart()(TEXTS),
        {
            "encoder_token_ids": SOURCE_IDS,
            "encoder_padding_mask": SOURCE_MASK,
            "decoder_token_ids": [
                [2, 0, 67, 268, 2, 1],
                [2, 0, 2, 1, 1, 1],
                [2, 0, 67, 268, 223, 262],
            ],
            "decoder_padding_mask": [[1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1]],
        },
        [[0, 67, 268, 2, 1, 1], [0, 2, 1, 1, 1, 1], [0, 67, 268, 223, 262, 2]],
        [[1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]],
    )


def test_single_texts_of_bart_give_rows_without_a_batch() -> None:
    is_example(
        bart()(FIRST),
        {
            "encoder_token_ids": SOURCE_IDS[0],
            "encoder_padding_mask": SOURCE_MASK[0],
            "decoder_token_ids": [2, 0, 67, 268, 2, 1],
            "decoder_padding_mask": [1, 1, 1, 1, 1, 0],
        },
        [0, 67, 268, 2, 1, 1],
        [1, 1, 1, 1, 0, 0],
    )


@pytest.mark.parametrize("name", ["decoder_sequence_length", "sequence_length"])
def test_lengths_of_one_call_of_bart_cut_texts_and_keep_their_ends(name: str) -> None:
    words = bart()
    is_example(
        words(TEXTS, encoder_sequence_length=4, **{name: 4}),
        {
            "encoder_token_ids": [[0, 86, 260, 2], [0, 262, 80, 2], [0, 86, 260, 2]],
            "encoder_padding_mask": [[1, 1, 1, 1]] * 3,
            "decoder_token_ids": [[2, 0, 67, 268], [2, 0, 2, 1], [2, 0, 67, 268]],
            "decoder_padding_mask": [[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 1]],
        },
        [[0, 67, 268, 2], [0, 2, 1, 1], [0, 67, 268, 2]],
        [[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 1]],
    )
    assert (words.encoder_sequence_length, words.decoder_sequence_length) == (7, 6)
    assert words(TEXTS)[1].shape == (3, 6)


def test_labels_that_are_given_are_replaced_by_those_of_the_text() -> None:
    expected = bart()(TEXTS)
    found = bart()(TEXTS, [[9]], [[0.5]])
    is_example(found, *expected)
    lines = gpt2()(LINES)
    is_example(gpt2()(LINES, [[9]], [[0.5]]), *lines)


def test_training_bart_needs_both_texts() -> None:
    with pytest.raises(ValueError, match="x: must have 'decoder_text', got 'encoder_text'"):
        bart()({"encoder_text": ["the fox"]})
    with pytest.raises(ValueError, match="x: must be a dict with 'encoder_text', 'decoder_text'"):
        bart()(["the fox"])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="lists must have one length, got 1 in 'encoder_text', 2"):
        bart()({"encoder_text": ["the"], "decoder_text": ["fox", "inn"]})
    with pytest.raises(ValueError, match="must have keys of 'encoder_text', 'decoder_text', got"):
        bart()({**TEXTS, "text": ["inn"]})
    with pytest.raises(TypeError, match=r"x\['decoder_text'\]\[1\]: must be text, got int"):
        bart()({"encoder_text": ["the", "fox"], "decoder_text": ["inn", 3]})


# ---- BART, generation ----


def test_prompts_of_bart_have_no_end() -> None:
    is_same(
        bart().generate_preprocess(TEXTS),
        {
            "encoder_token_ids": SOURCE_IDS,
            "encoder_padding_mask": SOURCE_MASK,
            "decoder_token_ids": [
                [2, 0, 67, 268, 1, 1],
                [2, 0, 1, 1, 1, 1],
                [2, 0, 67, 268, 223, 262],
            ],
            "decoder_padding_mask": [[1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]],
        },
    )


def test_sources_alone_start_with_the_end_and_the_start_token() -> None:
    expected = {
        "encoder_token_ids": SOURCE_IDS[0],
        "encoder_padding_mask": SOURCE_MASK[0],
        "decoder_token_ids": [2, 0, 1, 1, 1, 1],
        "decoder_padding_mask": [1, 1, 0, 0, 0, 0],
    }
    is_same(bart().generate_preprocess("the fox"), expected)
    is_same(bart().generate_preprocess({"encoder_text": "the fox"}), expected)
    batch = {key: [row] for key, row in expected.items()}
    for one in (["the fox"], ("the fox",), np.array(["the fox"]), {"encoder_text": [b"the fox"]}):
        is_same(bart().generate_preprocess(one), batch)


def test_single_pairs_give_rows_without_a_batch() -> None:
    is_same(
        bart().generate_preprocess(FIRST),
        {
            "encoder_token_ids": SOURCE_IDS[0],
            "encoder_padding_mask": SOURCE_MASK[0],
            "decoder_token_ids": [2, 0, 67, 268, 1, 1],
            "decoder_padding_mask": [1, 1, 1, 1, 0, 0],
        },
    )


def test_lengths_of_one_call_hold_for_prompts() -> None:
    found = bart().generate_preprocess(TEXTS, sequence_length=3, encoder_sequence_length=4)
    is_same(found["decoder_token_ids"], [[2, 0, 67], [2, 0, 1], [2, 0, 67]])
    is_same(found["encoder_token_ids"], [[0, 86, 260, 2], [0, 262, 80, 2], [0, 86, 260, 2]])
    longer = bart().generate_preprocess("inn", decoder_sequence_length=8)
    is_same(longer["decoder_token_ids"], [2, 0, 1, 1, 1, 1, 1, 1])


def test_other_starts_of_prompts_can_be_chosen() -> None:
    words = bart(decoder_start_ids=[2])
    is_same(words.generate_preprocess(FIRST)["decoder_token_ids"], [2, 67, 268, 1, 1, 1])
    assert words.get_config()["decoder_start_ids"] == [2]


def test_texts_of_bart_are_what_the_mask_shows_without_special_tokens() -> None:
    ids, mask = [2, 0, 67, 268, 2, 80], [1, 1, 1, 1, 1, 0]
    rows = {"decoder_token_ids": ids, "decoder_padding_mask": mask}
    assert bart().generate_postprocess(rows) == "a fox"
    assert bart().generate_postprocess({key: [row] for key, row in rows.items()}) == ["a fox"]
    all_true = {"decoder_token_ids": np.array([ids]), "decoder_padding_mask": np.ones((1, 6), bool)}
    assert bart().generate_postprocess(all_true) == ["a foxn"]
    with pytest.raises(ValueError, match=r"must have one shape \[B, T\], got \[6\] and \[1, 6\]"):
        bart().generate_postprocess({"decoder_token_ids": ids, "decoder_padding_mask": [mask]})


# ---- GPT-2 ----

ENDED = [[267, 83, 257, 265, 267, 0], [267, 267, 0, 0, 0, 0], [267, 64, 265, 220, 259, 258]]
ENDED_MASK = [[1, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]]
OPEN = [[267, 83, 257, 265, 0, 0], [267, 0, 0, 0, 0, 0], [267, 64, 265, 220, 259, 258]]
OPEN_MASK = [[1, 1, 1, 1, 0, 0], [1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]]
BARE = [[83, 257, 265, 0, 0, 0], [0, 0, 0, 0, 0, 0], [64, 265, 220, 259, 258, 220]]
BARE_MASK = [[1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]]


@pytest.mark.parametrize(
    ("adds", "ids", "mask", "labels", "weights"),
    [
        (
            (True, True),
            ENDED,
            ENDED_MASK,
            [[83, 257, 265, 267, 0, 0], [267, 0, 0, 0, 0, 0], [64, 265, 220, 259, 258, 267]],
            [[1, 1, 1, 1, 0, 0], [1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]],
        ),
        (
            (False, True),
            [[83, 257, 265, 267, 0, 0], [267, 0, 0, 0, 0, 0], [64, 265, 220, 259, 258, 220]],
            [[1, 1, 1, 1, 0, 0], [1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]],
            [[257, 265, 267, 0, 0, 0], [0, 0, 0, 0, 0, 0], [265, 220, 259, 258, 220, 267]],
            [[1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]],
        ),
        ((True, False), OPEN, OPEN_MASK, BARE, BARE_MASK),
        (
            (False, False),
            BARE,
            BARE_MASK,
            [[257, 265, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0], [265, 220, 259, 258, 220, 259]],
            [[1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]],
        ),
    ],
)
def test_rows_of_gpt2_are_packed_and_shifted_as_in_keras_hub(
    adds: tuple[bool, bool],
    ids: list[list[int]],
    mask: list[list[int]],
    labels: list[list[int]],
    weights: list[list[int]],
) -> None:
    words = gpt2(add_start_token=adds[0], add_end_token=adds[1])
    is_example(words(LINES), {"token_ids": ids, "padding_mask": mask}, labels, weights)
    row = {"token_ids": ids[0], "padding_mask": mask[0]}
    is_example(words(LINES[0]), row, labels[0], weights[0])
    prompts = words.generate_preprocess(LINES)  # starts, and never an end
    is_same(prompts, {"token_ids": OPEN, "padding_mask": OPEN_MASK})


def test_lengths_of_one_call_of_gpt2_hold_for_it_alone() -> None:
    words = gpt2(add_start_token=False, add_end_token=False)
    is_example(
        words(LINES, sequence_length=3),
        {
            "token_ids": [[83, 257, 265], [0, 0, 0], [64, 265, 220]],
            "padding_mask": [[1, 1, 1], [0, 0, 0], [1, 1, 1]],
        },
        [[257, 265, 0], [0, 0, 0], [265, 220, 259]],
        [[1, 1, 0], [0, 0, 0], [1, 1, 1]],
    )
    prompt = words.generate_preprocess(LINES[0], sequence_length=3)
    is_same(prompt, {"token_ids": [267, 83, 257], "padding_mask": [1, 1, 1]})
    assert words.sequence_length == 6


def test_texts_of_gpt2_lose_start_and_end_and_what_is_masked() -> None:
    row = {"token_ids": [267, 83, 257, 265, 0, 267], "padding_mask": [1, 1, 1, 1, 0, 0]}
    assert gpt2().generate_postprocess(row) == "the fox"
    row["padding_mask"] = [1] * 6  # the pad id is a word too
    assert gpt2().generate_postprocess(row) == "the fox!"
    batch = {"token_ids": OPEN, "padding_mask": OPEN_MASK}
    assert gpt2().generate_postprocess(batch) == ["the fox", "", "a fox in the"]


# ---- of both ----


@pytest.mark.parametrize("make", [bart, gpt2])
def test_a_config_makes_an_equal_preprocessor(make: Any) -> None:
    words = make(name="mine")
    again = type(words).from_config(words.get_config(), words.tokenizer)
    assert again.get_config() == words.get_config()
    assert again.name == "mine"
    pickled = pickle.loads(pickle.dumps(words))
    assert pickled.get_config() == words.get_config()
    x = TEXTS if make is bart else LINES
    is_example(pickled(x), *words(x))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (bart, "encoder_sequence_length"),
        (bart, "decoder_sequence_length"),
        (bart, "sequence_length"),
        (gpt2, "sequence_length"),
    ],
)
def test_lengths_are_positive_and_can_be_set(make: Any, name: str) -> None:
    words = make()
    setattr(words, name, np.int64(9))
    assert getattr(words, name) == 9
    for wrong in (0, -1, 2.5, True, None, "6"):
        with pytest.raises(ValueError, match="must be a positive whole number of tokens, got"):
            setattr(words, name, wrong)
    assert getattr(words, name) == 9


@pytest.mark.parametrize("kind", [BartSeq2SeqLMPreprocessor, GPT2CausalLMPreprocessor])
def test_lengths_are_1024_where_nobody_says_otherwise(kind: Any) -> None:
    words = kind(BartTokenizer.from_preset(BART))
    assert words.sequence_length == 1024
    assert getattr(words, "encoder_sequence_length", 1024) == 1024


def test_a_tokenizer_is_needed() -> None:
    with pytest.raises(TypeError, match=r"BartSeq2SeqLMPreprocessor: tokenizer must be a .* str"):
        BartSeq2SeqLMPreprocessor("bart")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("base", "folder", "kind"),
    [
        (Preprocessor, BART, BartSeq2SeqLMPreprocessor),
        (Seq2SeqLMPreprocessor, BART, BartSeq2SeqLMPreprocessor),
        (BartSeq2SeqLMPreprocessor, BART, BartSeq2SeqLMPreprocessor),
        (Preprocessor, GPT2, GPT2CausalLMPreprocessor),
        (CausalLMPreprocessor, GPT2, GPT2CausalLMPreprocessor),
    ],
)
def test_bases_find_the_class_of_a_preset(
    base: type[Preprocessor], folder: Path, kind: type[Preprocessor]
) -> None:
    name = "decoder_sequence_length" if folder == BART else "sequence_length"
    words = base.from_preset(folder, **{name: 9})
    assert type(words) is kind
    assert words.sequence_length == 9


def test_the_class_of_another_family_is_an_error_that_names_both() -> None:
    with pytest.raises(
        ValueError,
        match=r"Unable to find a subclass of GPT2CausalLMPreprocessor .* with BartBackbone found i",
    ):
        GPT2CausalLMPreprocessor.from_preset(BART)
    with pytest.raises(ValueError, match="Unable to find a subclass of Seq2SeqLMPreprocessor that"):
        Seq2SeqLMPreprocessor.from_preset(GPT2)


def test_an_unknown_argument_of_a_preset_is_an_error() -> None:
    with pytest.raises(TypeError, match="sequence_lenght"):
        BartSeq2SeqLMPreprocessor.from_preset(BART, sequence_lenght=3)


@pytest.mark.parametrize("make", [bart, gpt2])
def test_a_saved_preprocessor_keeps_its_lengths_and_words(make: Any, tmp_path: Path) -> None:
    words = make()
    words.save_to_preset(tmp_path)
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {
        "preprocessor.json",
        "tokenizer.json",
        "assets/tokenizer/vocabulary.json",
        "assets/tokenizer/merges.txt",
    }
    written = json.loads((tmp_path / "preprocessor.json").read_text("utf-8"))
    assert written["registered_name"] == f"keras_hub>{type(words).__name__}"
    assert "build_config" not in written
    assert "compile_config" not in written
    # A preset is one when it has a model.
    (tmp_path / "config.json").write_bytes(
        ((BART if make is bart else GPT2) / "config.json").read_bytes()
    )
    again = Preprocessor.from_preset(tmp_path)
    assert type(again) is type(words)
    assert again.get_config() == words.get_config()
    x = TEXTS if make is bart else LINES
    is_example(again(x), *words(x))  # type: ignore[operator]


@pytest.mark.parametrize("config_file", ["tokenizer.json", "words[1].json"])
def test_a_save_keeps_other_assets_and_drops_those_of_the_old_tokenizer(
    config_file: str, tmp_path: Path
) -> None:
    words = bart()
    words.tokenizer.config_file = config_file
    words.save_to_preset(tmp_path / "preset")
    assets = tmp_path / "preset" / "assets"
    of_tokenizer = assets / config_file.split(".")[0]
    (of_tokenizer / "vocabulary.spm").write_bytes(b"of a tokenizer of another class")
    (assets / "notes.txt").write_text("mine", "utf-8")
    (assets / "images").mkdir()
    (assets / "images" / "a").write_text("mine", "utf-8")
    words.save_to_preset(tmp_path / "preset")
    assert (assets / "notes.txt").read_text("utf-8") == "mine"
    assert (assets / "images" / "a").read_text("utf-8") == "mine"
    assert {path.name for path in of_tokenizer.iterdir()} == {"vocabulary.json", "merges.txt"}


def test_a_preset_without_words_says_so(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((BART / "config.json").read_bytes())
    with pytest.raises(FileNotFoundError, match="must hold a tokenizer, got none"):
        BartSeq2SeqLMPreprocessor.from_preset(tmp_path)


# ---- arguments of one call ----


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (bart, "encoder_sequence_length"),
        (bart, "decoder_sequence_length"),
        (bart, "sequence_length"),
        (gpt2, "sequence_length"),
    ],
)
@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "6"])
def test_lengths_of_one_call_are_checked(make: Any, name: str, wrong: object) -> None:
    words = make()
    texts = FIRST if make is bart else "the fox"
    for call in (words, words.generate_preprocess):
        with pytest.raises(ValueError, match=f": {name} must be a positive whole number of tok"):
            call(texts, **{name: wrong})


def test_the_length_of_a_prompt_may_stand_second() -> None:
    assert gpt2().generate_preprocess("the fox", 10)["token_ids"].shape == (10,)


@pytest.mark.parametrize(
    ("make", "argument"), [(bart, "decoder_start_ids"), (gpt2, "prompt_start_ids")]
)
def test_start_ids_are_checked_and_handed_out_as_copies(make: Any, argument: str) -> None:
    words = make(**{argument: np.array([3, 4])})
    words.start_ids().append(5)
    assert words.start_ids() == [3, 4]
    for wrong in (5, "12", ["x"], [True], [-1], [1.0], [2**31], {1: 2}):
        with pytest.raises(ValueError, match=f": {argument} must be a list of whole numbers >= 0"):
            make(**{argument: wrong})


def test_a_base_cannot_be_saved(tmp_path: Path) -> None:
    words = CausalLMPreprocessor(GPT2Tokenizer.from_preset(GPT2))
    with pytest.raises(ValueError, match=r"must be of a family's class.* got CausalLMPreprocessor"):
        words.save_to_preset(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_only_tasks_advise_another_task() -> None:
    with pytest.raises(ValueError, match=r"found in preset '.*'$"):
        GPT2CausalLMPreprocessor.from_preset(BART)
    with pytest.raises(ValueError, match=r"found in preset '.*'$"):
        GPT2Backbone.from_preset(BART)
    with pytest.raises(ValueError, match="Call from_preset of CausalLM, which serves every family"):
        GPT2CausalLM.from_preset(BART)


def test_dtypes_may_be_numpy_s_classes_and_broken_policies_are_told() -> None:
    assert engine_dtype(np.float32) == engine_dtype(np.dtype("float32")) == "float32"
    assert engine_dtype({"config": {"name": "mixed_bfloat16"}}) == "bfloat16"
    for config in (5, None, "x", []):
        with pytest.raises(ValueError, match=r"^dtype: the config of a policy must be an object"):
            engine_dtype({"config": config})


def test_what_a_preprocessor_must_override_is_named() -> None:
    base = Preprocessor(BartTokenizer.from_preset(BART))
    with pytest.raises(NotImplementedError, match="Preprocessor: must have a sequence_length"):
        _ = base.sequence_length
    with pytest.raises(NotImplementedError, match="Preprocessor: must override prompts"):
        base.prompts({"text": ["the"]})
