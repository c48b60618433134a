# SPDX-License-Identifier: Apache-2.0
"""What tokenizers take, in all its types, and what comes out."""

from typing import Any

import numpy as np
import pytest
from fuseq.tokenizers import BartTokenizer, BytePairTokenizer, Tokenizer

pytest.importorskip("tokenizers")

WORDS = {"<s>": 0, "<pad>": 1, "</s>": 2, "air": 3, "Ġair": 4, "plane": 5, "Ġat": 6, "port": 7}
WORDS["<mask>"] = 8
MERGES = ["Ġ a", "a i", "p l", "n e", "Ġa t", "p o", "r t", "ai r", "pl a", "po rt", "Ġa i"]
MERGES += ["Ġai r", "pla ne"]
BUTTERFLY = {"butter": 1, "fly": 2}
BUTTERFLY_MERGES = ["b u", "t t", "e r", "bu tt", "butt er", "f l", "fl y"]


@pytest.fixture
def bart() -> BartTokenizer:
    return BartTokenizer(WORDS, MERGES)


def test_one_text_gives_an_array_and_many_give_lists(bart: BartTokenizer) -> None:
    one = bart(" air")
    assert isinstance(one, np.ndarray)
    assert one.dtype == np.int32
    assert one.shape == (1,)
    many = bart([" air", " airport"])
    assert many == [[4], [4, 7]]
    assert type(many[1][0]) is int


@pytest.mark.parametrize(
    "texts",
    [
        (" air", "port"),
        np.array([" air", "port"]),
        np.array([" air", "port"], dtype=object),
        np.array([b" air", b"port"]),
        [b" air", np.str_("port")],
    ],
    ids=["tuple", "U", "object", "S", "mixed"],
)
def test_batches_of_any_type_are_the_same(bart: BartTokenizer, texts: Any) -> None:
    assert bart(texts) == [[4], [7]]


@pytest.mark.parametrize("text", [np.array(" air"), np.array(b" air"), b" air", np.str_(" air")])
def test_one_text_may_be_an_array_of_rank_0_or_bytes(bart: BartTokenizer, text: Any) -> None:
    assert bart(text).tolist() == [4]


def test_nothing_is_a_text_and_a_batch(bart: BartTokenizer) -> None:
    empty = bart("")
    assert (empty.shape, empty.dtype) == ((0,), np.int32)
    assert bart([]) == []
    assert bart(["", " air"]) == [[], [4]]
    assert bart.detokenize([]) == ""
    assert bart.detokenize(np.zeros([0, 3], np.int32)) == []


def test_rows_are_cut_and_padded_to_the_sequence_length() -> None:
    bart = BartTokenizer(WORDS, MERGES, sequence_length=3)
    rows = bart([" airplane at airport", " air", ""])
    assert isinstance(rows, np.ndarray)
    assert rows.dtype == np.int32
    assert rows.tolist() == [[4, 5, 6], [4, 1, 1], [1, 1, 1]]
    assert bart(" air").tolist() == [4, 1, 1]
    assert bart([]).shape == (0, 3)
    butterfly = BytePairTokenizer(BUTTERFLY, BUTTERFLY_MERGES, sequence_length=2)
    assert butterfly(["butterfly", "butter"]).tolist() == [[1, 2], [1, 0]]


def test_tokens_may_come_out_instead_of_ids() -> None:
    bart = BartTokenizer(WORDS, MERGES, dtype="string")
    assert bart(" airport").tolist() == ["Ġair", "port"]
    assert bart([" air", "plane"]) == [["Ġair"], ["plane"]]


def test_ids_may_have_another_type() -> None:
    assert BytePairTokenizer(BUTTERFLY, BUTTERFLY_MERGES, dtype="int64")("fly").dtype == np.int64


@pytest.mark.parametrize("inputs", [3, None, {"a": 1}, np.array([1]), np.array([["a"]])])
def test_inputs_of_other_types_are_refused(bart: BartTokenizer, inputs: Any) -> None:
    with pytest.raises(TypeError, match=r"^inputs: must be a str"):
        bart(inputs)


def test_a_text_of_another_type_is_named_by_its_place(bart: BartTokenizer) -> None:
    with pytest.raises(TypeError, match=r"^inputs\[1\]: must be a str or bytes, got int"):
        bart(["a", 3])


def test_bytes_that_are_not_utf8_are_named_by_their_place(bart: BartTokenizer) -> None:
    with pytest.raises(ValueError, match=r"^inputs\[1\]: must be UTF-8"):
        bart([b"a", b"\xff"])
    with pytest.raises(ValueError, match=r"^inputs: must be Unicode text"):
        bart("\ud800")


@pytest.mark.parametrize(
    "ids",
    [[4, 7], (4, 7), np.array([4, 7]), np.array([4, 7], np.uint8), [np.int64(4), np.array(7)]],
)
def test_a_row_of_ids_may_be_of_any_type(bart: BartTokenizer, ids: Any) -> None:
    assert bart.detokenize(ids) == " airport"


@pytest.mark.parametrize(
    "ids", [[[4], [7]], np.array([[4], [7]]), [np.array([4]), [7]], [(4,), (7,)]]
)
def test_rows_of_ids_may_be_of_any_type(bart: BartTokenizer, ids: Any) -> None:
    assert bart.detokenize(ids) == [" air", "port"]


def test_ids_may_be_a_tensor_of_torch(bart: BartTokenizer) -> None:
    torch = pytest.importorskip("torch")
    assert bart.detokenize(torch.tensor([[4, 7]])) == [" airport"]


def test_one_id_is_a_row_of_one(bart: BartTokenizer) -> None:
    assert bart.detokenize(4) == bart.detokenize(np.int32(4)) == " air"


@pytest.mark.parametrize("id", [-1, 9, 1 << 40])
def test_ids_that_no_token_has_are_refused_or_left_out(bart: BartTokenizer, id: int) -> None:
    with pytest.raises(ValueError, match=rf"^ids: must be ids .* 9 tokens, got {id}$"):
        bart.detokenize([4, id])
    with pytest.raises(ValueError, match=rf"^id: must be ids .* got {id}$"):
        bart.id_to_token(id)
    assert bart.detokenize([4, id, 7], skip_unknown=True) == " airport"


@pytest.mark.parametrize("ids", [[1.5], np.array([1.5]), np.zeros([1, 1, 1], int), "air", None])
def test_ids_of_other_types_are_refused(bart: BartTokenizer, ids: Any) -> None:
    with pytest.raises(TypeError, match=r"^ids: must be"):
        bart.detokenize(ids)


@pytest.mark.parametrize("id", [4, np.int32(4), np.array(4)])
def test_one_id_may_be_of_any_type(bart: BartTokenizer, id: Any) -> None:
    assert bart.id_to_token(id) == "Ġair"
    assert bart.has_id(id)


def test_one_id_may_be_a_tensor_of_torch(bart: BartTokenizer) -> None:
    torch = pytest.importorskip("torch")
    assert bart.id_to_token(torch.tensor(4)) == "Ġair"
    assert bart.has_id(torch.tensor(4))


class Letters(Tokenizer):
    """The least that a class of one's own must have."""

    def get_vocabulary(self) -> list[str]:
        return ["a", "b"]


@pytest.mark.parametrize("id", [1.0, "a", None, np.array([1])])
def test_what_is_no_whole_number_is_no_id(bart: BartTokenizer, id: Any) -> None:
    for tokenizer in (bart, Letters()):
        assert tokenizer.has_id(id) is False
        with pytest.raises(TypeError, match=r"^id: must be a whole number, got "):
            tokenizer.id_to_token(id)


def test_the_sequence_length_may_be_an_integer_of_numpy() -> None:
    bart = BartTokenizer(WORDS, MERGES, sequence_length=np.int64(2))  # type: ignore[arg-type]
    assert type(bart.sequence_length) is int
    assert bart("air").tolist() == [3, 1]


def test_ids_that_do_not_fit_the_dtype_are_refused() -> None:
    tokenizer = BytePairTokenizer({"a": 127, "b": 128}, [], dtype="int8")
    assert tokenizer("a").tolist() == [127]
    for inputs in ("ab", ["ab"]):
        with pytest.raises(ValueError, match=r"^dtype: must hold .* 127 in int8, got 128$"):
            tokenizer(inputs)
