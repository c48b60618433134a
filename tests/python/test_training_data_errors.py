# SPDX-License-Identifier: Apache-2.0
"""What is wrong with data to train on is said in the words of the call."""

import re
from typing import Any

import numpy as np
import pytest
from fuseq.models import (
    BartSeq2SeqLM,
    BartSeq2SeqLMPreprocessor,
    CausalLM,
    GPT2CausalLM,
    GPT2CausalLMPreprocessor,
)
from fuseq.models.preprocessor import Preprocessor
from fuseq.training.data import read_training_data, split_off_validation
from training_batches import (
    COUNT,
    batches_of,
    cut,
    layout_of,
    texts_of,
    with_preprocessor,
    without_preprocessor,
)

pytest_plugins = ("training_fixtures",)


def check(
    message: str, *arguments: Any, error: type[Exception] = ValueError, **options: Any
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        list(read_training_data(*arguments, **options).epoch(0))


def test_the_errors_of_texts_say_what_is_wrong(bart: BartSeq2SeqLM, gpt2: GPT2CausalLM) -> None:
    two: dict[str, Any] = {"encoder_text": ["a", "b"], "decoder_text": ["a", "b"]}
    for x, message in (
        ({**two, "decoder_text": ["a"]}, "lists must have one length, got 2 in 'encoder_text', 1"),
        ({"encoder_text": ["a"]}, "must have 'decoder_text', got 'encoder_text'"),
        ({**two, "summary": ["a"]}, "'encoder_text', 'decoder_text', got 'summary'"),
        ({"encoder_text": "a", "decoder_text": "b"}, "must have a batch dimension, got one str"),
        ({**two, "decoder_text": "b"}, "x['decoder_text'] must have a batch dimension"),
        ({"encoder_text": [], "decoder_text": []}, "x must have one text or more, got none"),
        (["a", "b"], "must be a dict with 'encoder_text', 'decoder_text', got list"),
    ):
        check(message, bart, x)
        if x:
            check("evaluate: batch 1: x", bart, [two, (x,)], call="evaluate")
    check("x must have a batch dimension", gpt2, "a text")
    check("x must have one text or more", gpt2, [])
    check("x[1]: must be text, got NoneType", gpt2, ["a", None], error=TypeError)
    check(
        "x['decoder_text'][0]: must be text", bart, {**two, "decoder_text": [1, 2]}, error=TypeError
    )


def test_texts_need_a_preprocessor(task: CausalLM) -> None:
    message = "where the task has no preprocessor"
    check(message, without_preprocessor(task), texts_of(task))
    check("fit: batch 0: x must be a dict", without_preprocessor(task), cut(texts_of(task)))


def test_lengths_must_leave_room_for_text(bart: BartSeq2SeqLM, gpt2: GPT2CausalLM) -> None:
    words: Any = bart.preprocessor
    x = {"encoder_text": ["fox"], "decoder_text": ["fox"]}
    for lengths, name in (((2, 9), "encoder_sequence_length"), ((9, 2), "decoder_sequence_length")):
        small = with_preprocessor(bart, BartSeq2SeqLMPreprocessor(words.tokenizer, *lengths))
        check(f"preprocessor.{name} must leave room for tokens", small, x)
        check("Set it to 3 or more", small, x)
        batches_of(small, {"encoder_text": [""], "decoder_text": [""]})
    enough = with_preprocessor(bart, BartSeq2SeqLMPreprocessor(words.tokenizer, 3, 3))
    (batch,) = batches_of(enough, x)
    fox = words.tokenizer("fox")[0]
    assert fox in batch.inputs["encoder_token_ids"]
    assert fox in batch.targets
    for start, end, least in ((True, True, 2), (True, False, 1)):
        pre = GPT2CausalLMPreprocessor(gpt2.preprocessor.tokenizer, least, start, end)  # type: ignore[union-attr]
        batches_of(with_preprocessor(gpt2, pre), ["fox"])
    pre = GPT2CausalLMPreprocessor(gpt2.preprocessor.tokenizer, 1)  # type: ignore[union-attr]
    check(
        "preprocessor.sequence_length must leave room for tokens of 'text', got 1",
        with_preprocessor(gpt2, pre),
        ["fox"],
    )


def test_rows_must_fit_into_the_position_tables(bart: BartSeq2SeqLM, gpt2: GPT2CausalLM) -> None:
    words: Any = bart.preprocessor
    long = " ".join(["fox"] * 3000)
    big = with_preprocessor(bart, BartSeq2SeqLMPreprocessor(words.tokenizer, 2000, 2000))
    for key, name in (
        ("encoder_text", "encoder_sequence_length"),
        ("decoder_text", "decoder_sequence_length"),
    ):
        table = (
            bart.backbone.max_encoder_length
            if key == "encoder_text"
            else bart.backbone.max_sequence_length
        )
        x = {"encoder_text": ["a", "a"], "decoder_text": ["a", "a"], key: ["a", long]}
        check(f"fit: rows of x['{key}'] must have at most {table} tokens", big, x)
        check(f"got 2000 in row 1. Set preprocessor.{name} = {table}", big, x)
    # The configured length may be larger than the table, if no row is.
    (batch,) = batches_of(big, {"encoder_text": ["a"], "decoder_text": ["a"]})
    assert batch.num_positions == 2000
    ids = np.ones((1, gpt2.backbone.max_sequence_length + 1), np.int64)
    check("rows of x['token_ids'] must have at most", gpt2, {"token_ids": ids}, ids)


def test_the_errors_of_arrays_say_what_is_wrong(task: CausalLM) -> None:
    x, y, weights = layout_of(task)
    ids, mask = task.keys.ids[-1], task.keys.masks[-1]
    size = task.backbone.vocabulary_size
    floats = weights.astype(np.float32)

    def changed(array: Any, value: float) -> Any:
        array = array.copy()
        array[2, 0] = value
        return array

    rest = {name: value for name, value in x.items() if name != ids}
    shape = list(y.shape)
    cases: list[tuple[str, tuple[Any, ...]]] = [
        ("y must be given with ids, got None", (x,)),
        ("got 'labels'", ({**x, "labels": y}, y)),
        (f"x must have '{ids}', got", (rest, y)),
        (f"the shape of the ids, {shape}, got {[COUNT, shape[1] - 1]}", (x, y[:, 1:])),
        (f"x['{mask}'] must have the shape", ({**x, mask: x[mask][:, 1:]}, y)),
        (f"sample_weight must have shape {shape} or [{COUNT}], got [3]", (x, y, [1, 2, 3])),
        (
            "sample_weight must be finite, got nan in row 2, column 0",
            (x, y, changed(floats, np.nan)),
        ),
        (f"y must be in 0 ... {size - 1}, got -1 in row 2, column 0", (x, changed(y, -1), weights)),
        (f"y must be in 0 ... {size - 1}, got {size} in row 2", (x, changed(y, size))),
        (
            f"x['{ids}'] must be in 0 ... {size - 1}, got {size}",
            ({**x, ids: changed(x[ids], size)}, y),
        ),
        ("x must have one row or more, got none", ({k: v[:0] for k, v in x.items()}, y[:0])),
        ("must have a batch dimension", ({k: v[0] for k, v in x.items()}, y[0])),
        ("of one column or more, got [23, 0]", ({k: v[:, :0] for k, v in x.items()}, y[:, :0])),
        ("got rows of several lengths", ({**x, ids: [[1], [1, 2]]}, y)),
    ]
    for message, data in cases:
        check(message, task, *data)
        check("fit: batch 1: ", task, [(x, y, weights), data])
        check(message, task, [data])
    check("must be whole numbers, got float64", task, {**x, ids: x[ids] + 0.5}, y, error=TypeError)
    check("y must be numbers, got <U1", task, x, np.full(y.shape, "a"), error=TypeError)


def test_sources_and_targets_must_have_as_many_rows(bart: BartSeq2SeqLM) -> None:
    x, y, _ = layout_of(bart)
    x = {name: value[:4] if name.startswith("encoder") else value for name, value in x.items()}
    check("got 4 in 'encoder_token_ids', 23 in 'decoder_token_ids'", bart, x, y)


def test_a_tokenizer_of_another_model_is_refused(task: CausalLM) -> None:
    class Other(type(task.preprocessor)):  # type: ignore[misc]
        def rows_of(self, texts: Any) -> list[list[int]]:
            return [[task.backbone.vocabulary_size + 1] for _ in texts]

    words: Any = task.preprocessor
    other = with_preprocessor(task, Other(words.tokenizer))
    check("The tokenizer must be that of the model", other, texts_of(task))


def test_a_preprocessor_must_return_three_things(gpt2: GPT2CausalLM) -> None:
    class Wrong(GPT2CausalLMPreprocessor):
        def __call__(self, *arguments: Any, **options: Any) -> Any:
            return super().__call__(*arguments, **options)[0]

    class Bare(Preprocessor):
        pass

    tokenizer = gpt2.preprocessor.tokenizer  # type: ignore[union-attr]
    wrong = with_preprocessor(gpt2, Wrong(tokenizer, 8))
    check("Wrong.__call__: must return (x, y, sample_weight)", wrong, ["a"], error=TypeError)
    check(
        "or have __call__, got Bare",
        with_preprocessor(gpt2, Bare(tokenizer)),
        ["a"],
        error=TypeError,
    )


def test_labels_and_batch_sizes_do_not_come_with_batches(task: CausalLM) -> None:
    source = cut(texts_of(task))
    for options in ({"y": [1]}, {"sample_weight": [1]}, {"batch_size": 4}):
        check(f"fit: {next(iter(options))} must not be given with", task, source, **options)


@pytest.mark.parametrize("value", [0, -1, True, 2.0, "4"])
def test_a_batch_size_is_a_positive_whole_number(task: CausalLM, value: Any) -> None:
    message = f"fit: batch_size must be None or a whole number >= 1, got {value!r}"
    check(message, task, texts_of(task), batch_size=value)


def test_batches_that_are_none_are_refused(task: CausalLM) -> None:
    check("fit: x must give 1 or more batches", task, iter([]))
    check("fit: x must give 3 or more batches", task, iter(cut(texts_of(task))[:2]), world_size=3)
    check("must be x, (x, y) or (x, y, sample_weight), got 4 parts", task, [({}, 1, 2, 3)])
    check("fit: x must be texts, a dict", task, 3, error=TypeError)


def test_a_data_set_must_have_the_columns(task: CausalLM) -> None:
    datasets = pytest.importorskip("datasets")
    dataset = datasets.Dataset.from_dict({"article": ["a"], "summary": ["b"]})
    for source in (dataset, dataset.to_iterable_dataset()):
        check("got 'article', 'summary'. Rename its columns", task, source)
    check("y must not be given with a data set", task, dataset, y=[1])


def test_validation_is_split_off_rows_in_memory(task: CausalLM) -> None:
    data = read_training_data(task, texts_of(task))
    for fraction in (0, 1, -0.1, 0.99):
        with pytest.raises(ValueError, match="validation_split must leave rows on both sides"):
            split_off_validation(data, fraction)
    with pytest.raises(ValueError, match="validation_split must come with data in memory"):
        split_off_validation(read_training_data(task, cut(texts_of(task))), 0.5)
