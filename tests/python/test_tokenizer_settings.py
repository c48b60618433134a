# SPDX-License-Identifier: Apache-2.0
"""Settings of tokenizers: written, read, copied and refused."""

import copy
import pickle
import subprocess
import sys
from typing import Any

import pytest
from fuseq.tokenizers import (
    BartTokenizer,
    BytePairTokenizer,
    GPT2Tokenizer,
    PretrainedTokenizer,
    SentencePieceTokenizer,
    deserialize,
    serialize,
)
from small_tokenizers import (
    BART_WORDS,
    BUTTERFLY,
    BUTTERFLY_MERGES,
    MERGES,
    ids_of,
    make_bart,
)

pytest.importorskip("tokenizers")


@pytest.fixture
def bart() -> BartTokenizer:
    return make_bart()


def test_settings_are_those_of_keras_hub(bart: BartTokenizer) -> None:
    policy = {
        "module": "keras",
        "class_name": "DTypePolicy",
        "config": {"name": "int32"},
        "registered_name": None,
    }
    assert serialize(bart) == {
        "module": "keras_hub.src.models.bart.bart_tokenizer",
        "class_name": "BartTokenizer",
        "config": {
            "name": "bart_tokenizer",
            "trainable": True,
            "dtype": policy,
            "config_file": "tokenizer.json",
            "sequence_length": None,
            "add_prefix_space": False,
            "unsplittable_tokens": ["</s>", "<pad>", "<s>"],
        },
        "registered_name": "keras_hub>BartTokenizer",
    }


def test_names_are_those_that_keras_gives() -> None:
    kinds = (BytePairTokenizer, GPT2Tokenizer, SentencePieceTokenizer)
    names = ["byte_pair_tokenizer", "gpt2_tokenizer", "sentence_piece_tokenizer"]
    assert [kind().name for kind in kinds] == names


def test_a_tokenizer_comes_back_from_its_settings(bart: BartTokenizer) -> None:
    made = BartTokenizer(
        bart.vocabulary, MERGES, 4, True, ["<s>", "</s>", "<pad>", "<mask>"], "int64", name="mine"
    )
    again = deserialize(serialize(made))
    assert isinstance(again, BartTokenizer)
    assert again.get_config() == made.get_config()
    again.set_vocabulary_and_merges(made.vocabulary, made.merges)
    assert again([" air<mask>"]).tolist() == made([" air<mask>"]).tolist() == [[4, 8, 1, 1]]


@pytest.mark.parametrize("package", ["keras_hub", "keras_nlp"])
def test_settings_of_older_versions_are_read(package: str) -> None:
    written = {
        "module": f"{package}.src.models.bart.bart_tokenizer",
        "class_name": "BartTokenizer",
        "config": {"name": "bart_tokenizer", "trainable": True, "dtype": "int32"},
        "registered_name": f"{package}>BartTokenizer",
    }
    found = deserialize(written)
    assert type(found) is BartTokenizer
    assert found.dtype == "int32"
    assert sorted(found.unsplittable_tokens) == ["</s>", "<pad>", "<s>"]


def test_an_unknown_class_or_setting_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^tokenizer: must be one of BartTokenizer, .*'other>Bart"
    ):
        deserialize({"registered_name": "other>BartTokenizer"})
    with pytest.raises(ValueError, match=r"must be settings of BartTokenizer, got .*'size'"):
        deserialize({"class_name": "BartTokenizer", "config": {"size": 1}})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sequence_length": 0}, "sequence_length: must be at least 1, got 0"),
        ({"sequence_length": 10**400}, "sequence_length: must be at most 16777216"),
        ({"sequence_length": "8"}, "sequence_length: must be at least 1, got '8'"),
        ({"dtype": "float32"}, "dtype: must be a type of whole numbers"),
        ({"dtype": "nothing"}, "dtype: must be a type of whole numbers"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        BytePairTokenizer(**settings)


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))]
)
def test_copies_do_the_same(bart: BartTokenizer, copied: Any) -> None:
    bart.token_bytes()
    again = copied(bart)
    assert again(" airport").tolist() == [4, 7]
    assert again.token_bytes()[4] == b" air"
    assert again.get_config() == bart.get_config()


@pytest.mark.parametrize(
    ("package", "make"),
    [
        ("tokenizers", lambda: BytePairTokenizer(BUTTERFLY, BUTTERFLY_MERGES)),
        ("tokenizers", lambda: PretrainedTokenizer(__file__)),
        ("sentencepiece", lambda: SentencePieceTokenizer(b"model")),
    ],
)
def test_a_missing_package_is_named_with_its_install_line(
    package: str, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"^{package}: .* Run: pip install {package}$"):
        make()


def test_importing_loads_none_of_the_packages_behind_it() -> None:
    script = "import sys, fuseq.tokenizers; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    modules = set(done.stdout.decode().split())
    assert "fuseq.tokenizers" in modules
    assert not {"tokenizers", "sentencepiece", "transformers", "torch"} & modules


def test_settings_that_keras_hub_does_not_have_are_serialized_beside_its_own() -> None:
    words = ids_of(BART_WORDS)
    tokenizer = BartTokenizer(
        words,
        MERGES,
        unsplittable_tokens=["<s>", "<mask>"],
        additional_special_tokens=["<mask>"],
        lstrip_tokens=["<mask>"],
    )
    written = serialize(tokenizer)
    assert written["fuseq"] == {
        "additional_special_tokens": ["<mask>"],
        "lstrip_tokens": ["<mask>"],
    }
    found = deserialize(written)
    assert isinstance(found, BartTokenizer)
    assert serialize(found) == written
    found.set_vocabulary_and_merges(words, MERGES)
    assert found("air <mask>").tolist() == tokenizer("air <mask>").tolist() == [3, 8]
    assert "fuseq" not in serialize(BartTokenizer())


@pytest.mark.parametrize("config", [None, [5], "BartTokenizer"])
def test_what_is_not_serialized_is_refused(config: Any) -> None:
    with pytest.raises(ValueError, match=r"^tokenizer: must be a dict, as serialize writes it"):
        deserialize(config)


@pytest.mark.parametrize(
    "name", ["unsplittable_tokens", "additional_special_tokens", "lstrip_tokens"]
)
@pytest.mark.parametrize("tokens", ["ab", 5, [""], [None]])
def test_lists_of_tokens_must_be_strings(name: str, tokens: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: must be strings with letters, got "):
        BartTokenizer(**{name: tokens})


def test_a_special_token_must_be_a_string() -> None:
    with pytest.raises(ValueError, match=r"^end_token: must be a string with letters or None"):
        PretrainedTokenizer(end_token=5)  # type: ignore[arg-type]


def test_warnings_point_at_the_callers_line() -> None:
    tokenizer = BytePairTokenizer(BUTTERFLY, BUTTERFLY_MERGES)
    with pytest.warns(UserWarning, match="^tokenize: symbols") as of_tokenize:
        tokenizer(["butterflies", "fly"])
    with pytest.warns(UserWarning, match="^merges: must be") as of_merges:
        BytePairTokenizer(BUTTERFLY, [*BUTTERFLY_MERGES, "a b c"])
    assert [w.filename for w in (*of_tokenize, *of_merges)] == [__file__, __file__]
