# SPDX-License-Identifier: Apache-2.0
"""What users give to fit becomes batches: of every form, in an order that can be repeated."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fuseq.models import BartSeq2SeqLM, BartSeq2SeqLMPreprocessor, CausalLM, GPT2CausalLM
from fuseq.training.data import read_training_data, split_off_validation
from training_batches import (
    COUNT,
    PAIRS,
    SOURCES,
    TARGETS,
    assert_equal,
    batches_of,
    cut,
    layout_of,
    rows_of,
    stack,
    texts_of,
    with_preprocessor,
    without_preprocessor,
)

pytest_plugins = ("training_fixtures",)


# ---- layouts ----


def test_a_batch_of_texts_padded_back_is_the_layout_of_kerashub(task: CausalLM) -> None:
    x, y, weights = layout_of(task)
    pad_id = task.preprocessor.pad_id  # type: ignore[union-attr]
    start = 0
    for batch in batches_of(task, texts_of(task), batch_size=5):
        rows = slice(start, start + batch.num_rows)
        start += batch.num_rows
        for name, value in batch.inputs.items():
            full = x[name][rows]
            padding = pad_id if name.endswith("ids") else 0
            missing = full.shape[1] - value.shape[1]
            padded = np.pad(value, ((0, 0), (0, missing)), constant_values=padding)
            np.testing.assert_array_equal(padded, full)
            assert value.dtype == (np.int64 if name.endswith("ids") else np.bool_)
            assert value[:, -1].any() or value.shape[1] == 1
        missing = y.shape[1] - batch.targets.shape[1]
        padded = np.pad(batch.targets, ((0, 0), (0, missing)), constant_values=pad_id)
        np.testing.assert_array_equal(padded, y[rows])
        padded = np.pad(batch.weights, ((0, 0), (0, missing)))
        np.testing.assert_array_equal(padded, weights[rows])
        assert batch.targets.dtype == np.int64
        assert batch.weights.dtype == np.float32
        assert batch.num_positions == batch.num_rows * y.shape[1]
    assert start == COUNT


def test_columns_that_no_row_needs_are_cut_off(bart: BartSeq2SeqLM) -> None:
    (batch,) = batches_of(bart, {"encoder_text": ["fox"], "decoder_text": ["a fox"]})
    assert batch.inputs["encoder_token_ids"].shape[1] < 16
    assert batch.targets.shape[1] < 12
    assert batch.num_positions == 12


def test_arrays_give_the_batches_of_their_texts(task: CausalLM) -> None:
    expected = batches_of(task, texts_of(task), batch_size=4)
    for other in (task, without_preprocessor(task)):
        assert_equal(batches_of(other, *layout_of(task), batch_size=4), expected)


def test_lists_and_tensors_give_what_arrays_give(task: CausalLM) -> None:
    torch = pytest.importorskip("torch")
    x, y, weights = layout_of(task)
    expected = batches_of(task, x, y, weights)
    for convert in (np.ndarray.tolist, lambda array: torch.from_numpy(array.copy())):
        arrays = {name: convert(value) for name, value in x.items()}
        assert_equal(batches_of(task, arrays, convert(y), convert(weights)), expected)


def test_without_masks_and_weights_all_ids_count(task: CausalLM) -> None:
    x, y, _ = layout_of(task)
    ids = {name: value for name, value in x.items() if name.endswith("ids")}
    (batch,) = batches_of(task, ids, y)
    assert batch.targets.shape == y.shape
    assert batch.weights.all()
    assert all(batch.inputs[name.replace("token_ids", "padding_mask")].all() for name in ids)


def test_weights_of_rows_count_in_every_column(task: CausalLM) -> None:
    x, y, _ = layout_of(task)
    weights = np.arange(COUNT) / 4 - 1  # negative ones are allowed, as in Keras
    (batch,) = batches_of(task, x, y, weights)
    np.testing.assert_array_equal(batch.weights, np.repeat(weights[:, None], y.shape[1], 1))


def test_labels_and_padding_that_do_not_count_may_be_anything(task: CausalLM) -> None:
    x, y, weights = layout_of(task)
    expected = batches_of(task, x, y, weights)
    arrays = dict(x)
    for name in task.keys.ids:
        mask = arrays[name.replace("token_ids", "padding_mask")]
        arrays[name] = np.where(mask, arrays[name], -100)
    got = batches_of(task, arrays, np.where(weights, y, -100), weights)
    assert rows_of(got) == rows_of(expected)
    assert min(array.min() for array in (got[0].targets, *got[0].inputs.values())) >= 0


def test_labels_that_are_ignored_have_no_weight(task: CausalLM) -> None:
    x, y, weights = layout_of(task)
    labels = np.where(weights, y, -100)
    (got,) = batches_of(task, x, labels, batch_size=COUNT)
    (expected,) = batches_of(task, x, y, weights, batch_size=COUNT)
    assert_equal([replace(got, targets=expected.targets)], [expected])
    assert got.num_positions == y.size
    (got,) = batches_of(task, x, np.where(weights, y, -1), batch_size=COUNT, ignored_id=-1)
    assert_equal([replace(got, num_positions=y.size, targets=expected.targets)], [expected])
    assert got.num_positions == weights.sum() == expected.weights.sum()


def test_an_ignored_id_is_no_position_of_texts(task: CausalLM) -> None:
    _, y, weights = layout_of(task)
    pad_id = task.preprocessor.pad_id  # type: ignore[union-attr]
    common = int(np.bincount(y[weights != 0]).argmax())
    for id in {pad_id, common, -1}:
        for batch_size in (1, COUNT):
            batches = batches_of(task, texts_of(task), batch_size=batch_size, ignored_id=id)
            assert sum(batch.num_positions for batch in batches) == (y != id).sum()
            counted = sum(batch.weights.sum() for batch in batches)
            assert counted == ((y != id) & (weights != 0)).sum()


def test_given_labels_are_passed_over_where_there_are_texts(task: CausalLM) -> None:
    got = batches_of(task, texts_of(task), "not used", "not used")
    assert_equal(got, batches_of(task, texts_of(task)))


def test_texts_may_be_lists_tuples_or_arrays(task: CausalLM) -> None:
    expected = batches_of(task, texts_of(task))
    for convert in (list, tuple, np.array, lambda texts: np.array(texts, object)):
        x = {key: convert(TARGETS if key != "encoder_text" else SOURCES) for key in task.keys.texts}
        assert_equal(batches_of(task, x), expected)
        if not task.backbone.is_seq2seq:
            assert_equal(batches_of(task, x["text"]), expected)


def test_a_preprocessor_of_the_users_is_called_for_every_batch(bart: BartSeq2SeqLM) -> None:
    class Half(BartSeq2SeqLMPreprocessor):
        def __call__(self, *arguments: Any, **options: Any) -> Any:
            x, y, weights = super().__call__(*arguments, **options)
            return x, y, weights * 0.5

    words: Any = bart.preprocessor
    own = with_preprocessor(bart, Half(words.tokenizer, 16, 12))
    got, expected = batches_of(own, PAIRS, batch_size=5), batches_of(bart, PAIRS, batch_size=5)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one.weights, other.weights * 0.5)
        np.testing.assert_array_equal(one.targets, other.targets)
        assert one.num_positions == other.num_positions
    shuffled = batches_of(own, PAIRS, batch_size=5, shuffle=True)
    assert stack(shuffled) == stack(got)


def test_a_batch_counts_its_real_tokens(gpt2: GPT2CausalLM) -> None:
    (batch,) = batches_of(gpt2, ["a", ""])
    assert batch.num_tokens == int(layout_of(gpt2, ["a", ""])[0]["padding_mask"].sum())


# ---- order ----


@pytest.mark.parametrize("length_buckets", [True, False])
def test_an_epoch_has_every_row_once(task: CausalLM, length_buckets: bool) -> None:
    data = texts_of(task)
    options = {"batch_size": 4, "shuffle": True, "length_buckets": length_buckets}
    given = batches_of(task, data, batch_size=4)
    shuffled = batches_of(task, data, **options)
    assert stack(shuffled) == stack(given)
    assert rows_of(shuffled) != rows_of(given)
    assert len(shuffled) == read_training_data(task, data, batch_size=4).num_batches == 6


def test_the_order_depends_on_seed_and_epoch_alone(task: CausalLM) -> None:
    options = {"batch_size": 4, "shuffle": True}
    first = batches_of(task, texts_of(task), seed=3, epoch=1, **options)
    data = read_training_data(task, texts_of(task), seed=3, **options)
    orders = [rows_of(list(data.epoch(epoch))) for epoch in (0, 1, 2)]
    assert orders[1] == rows_of(first)
    assert orders[0] != orders[1] != orders[2]
    assert rows_of(batches_of(task, texts_of(task), seed=4, epoch=1, **options)) != orders[1]


def test_buckets_bring_rows_of_similar_lengths_together(task: CausalLM) -> None:
    def padding(length_buckets: bool) -> int:
        batches = batches_of(
            task, texts_of(task), batch_size=4, shuffle=True, length_buckets=length_buckets
        )
        return sum(int((~m).sum()) for b in batches for k, m in b.inputs.items() if "mask" in k)

    assert padding(True) < padding(False)


def test_a_later_first_batch_gives_the_rest_of_the_epoch(task: CausalLM) -> None:
    data = read_training_data(task, texts_of(task), batch_size=4, shuffle=True)
    everything = list(data.epoch(2))
    for first in (0, 1, 5, 6):
        assert_equal(list(data.epoch(2, first_batch=first)), everything[first:])


@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_processes_together_have_the_batch_of_one(task: CausalLM, world_size: int) -> None:
    options: dict[str, Any] = {"shuffle": True, "seed": 1}
    whole = batches_of(task, texts_of(task), batch_size=2 * world_size, **options)
    parts = [
        batches_of(task, texts_of(task), batch_size=2, rank=rank, world_size=world_size, **options)
        for rank in range(world_size)
    ]
    assert {len(part) for part in parts} == {len(whole)}
    for index, batch in enumerate(whole):
        together = [part[index] for part in parts]
        assert rows_of(together) == rows_of([batch])
        assert sum(part.num_positions for part in together) == batch.num_positions
        counts = [part.num_rows for part in together]
        assert max(counts) - min(counts) <= 1


def test_a_process_without_rows_has_one_row_of_no_weight(task: CausalLM) -> None:
    x = {"encoder_text": ["a"], "decoder_text": ["fox"]} if task.backbone.is_seq2seq else ["fox"]
    (batch,) = batches_of(task, x, rank=1, world_size=2)
    assert (batch.num_rows, batch.num_positions, batch.num_tokens) == (0, 0, 0)
    assert batch.targets.shape[0] == 1
    assert not batch.weights.any()
    assert not batch.targets.any()


def test_validation_takes_the_last_rows(task: CausalLM) -> None:
    data = read_training_data(task, texts_of(task), batch_size=4, shuffle=True)
    training, validation = split_off_validation(data, 0.3)
    rows = rows_of(batches_of(task, texts_of(task)))
    assert rows_of(list(validation.epoch(0))) == rows[16:]  # int(23 * 0.7)
    assert Counter(rows_of(list(training.epoch(0)))) == Counter(rows[:16])
    assert (training.num_batches, validation.num_batches) == (4, 2)


# ---- batches that something else makes ----


def test_batches_of_every_shape_give_what_memory_gives(task: CausalLM) -> None:
    x, y, weights = layout_of(task)
    texts = cut(texts_of(task))
    expected = batches_of(task, texts_of(task), batch_size=5)
    for source in (
        texts,
        [(item,) for item in texts],
        [(item, None, None) for item in texts],
        list(zip(cut(x), cut(y), cut(weights), strict=True)),
        [list(item) for item in zip(cut(x), cut(y), cut(weights), strict=True)],
    ):
        data = read_training_data(task, source)
        assert data.num_batches == 5
        assert_equal(list(data.epoch(0)), expected)
        assert_equal(list(data.epoch(1)), expected)
        assert_equal(list(data.epoch(1, first_batch=2)), expected[2:])


def test_without_weights_in_a_batch_all_labels_count(task: CausalLM) -> None:
    x, y, _ = layout_of(task)
    batches = batches_of(task, list(zip(cut(x), cut(y), strict=True)))
    assert all(batch.weights.all() for batch in batches)


def test_a_generator_goes_on_in_the_next_epoch(task: CausalLM) -> None:
    def make() -> Iterator[Any]:
        yield from cut(texts_of(task))

    data = read_training_data(task, make())
    assert data.num_batches is None
    batches = data.epoch(0)
    got = [next(batches), next(batches)]
    del batches
    got += list(data.epoch(1))
    assert_equal(got, batches_of(task, texts_of(task), batch_size=5))
    assert list(data.epoch(2)) == []  # used up: the trainer says so


def test_data_sets_of_tensorflow_are_read_as_numpy(task: CausalLM) -> None:
    class DataSet:  # what is used of tf.data.Dataset
        def as_numpy_iterator(self) -> Iterator[Any]:
            x = texts_of(task) if task.backbone.is_seq2seq else {"text": TARGETS}
            for item in cut(x):
                yield {
                    key: np.array([text.encode() for text in column], object)
                    for key, column in item.items()
                }

    data: Any = DataSet()
    assert_equal(batches_of(task, data), batches_of(task, texts_of(task), batch_size=5))


def test_processes_take_batches_in_turn_and_leave_a_tail_out(task: CausalLM) -> None:
    whole = batches_of(task, texts_of(task), batch_size=5)
    for rank in range(2):
        data = read_training_data(task, cut(texts_of(task)), rank=rank, world_size=2)
        assert data.num_batches == 2
        assert_equal(list(data.epoch(0)), whole[rank:4:2])
        assert_equal(list(data.epoch(0, first_batch=1)), whole[2 + rank : 4 : 2])


def row_dicts(task: CausalLM) -> list[dict[str, str]]:
    columns = texts_of(task) if task.backbone.is_seq2seq else {"text": TARGETS}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def test_a_data_loader_gives_what_lists_give(task: CausalLM) -> None:
    loaders = pytest.importorskip("torch.utils.data")
    expected = batches_of(task, texts_of(task), batch_size=5)
    x, y, weights = layout_of(task)
    arrays = [
        ({name: value[row] for name, value in x.items()}, y[row], weights[row])
        for row in range(COUNT)
    ]
    rows: list[list[Any]] = [row_dicts(task), [(row,) for row in row_dicts(task)], arrays]
    if not task.backbone.is_seq2seq:
        rows += [TARGETS, [(text,) for text in TARGETS]]
    for source in rows:
        loader = loaders.DataLoader(source, batch_size=5)
        data = read_training_data(task, loader)
        assert data.num_batches == 5
        assert_equal(list(data.epoch(0)), expected)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_data_loader_that_shuffles_has_an_order_of_seed_and_epoch(
    task: CausalLM, num_workers: int
) -> None:
    torch = pytest.importorskip("torch")
    data_set = row_dicts(task)

    def rows(epoch: int, seed: int = 3, first_batch: int = 0, **processes: int) -> list[Any]:
        loader = torch.utils.data.DataLoader(
            data_set, batch_size=5, shuffle=True, num_workers=num_workers
        )
        data = read_training_data(task, loader, seed=seed, **processes)
        torch.rand(epoch + first_batch + 1)  # the generator is somewhere else
        before = torch.get_rng_state()
        found = rows_of(list(data.epoch(epoch, first_batch=first_batch)))
        assert torch.equal(torch.get_rng_state(), before)
        return found

    whole = rows(1)
    assert rows(1) == whole
    assert rows(1, first_batch=2) == whole[10:]
    assert whole not in (rows(0), rows(1, seed=4), rows_of(batches_of(task, texts_of(task))))
    assert Counter(whole) == Counter(rows(0))
    if num_workers == 0:
        parts = [rows(1, rank=rank, world_size=2) for rank in range(2)]
        assert parts[0] == whole[0:5] + whole[10:15]
        assert parts[1] == whole[5:10] + whole[15:20]


def test_a_distributed_sampler_is_told_the_epoch_and_shards(task: CausalLM) -> None:
    loaders = pytest.importorskip("torch.utils.data")
    rows = row_dicts(task)[:20]
    seen = []
    for rank in range(2):
        sampler = loaders.DistributedSampler(rows, num_replicas=2, rank=rank)
        loader = loaders.DataLoader(rows, batch_size=5, sampler=sampler)
        data = read_training_data(task, loader, rank=rank, world_size=2)
        assert data.num_batches == 2
        first, second = (rows_of(list(data.epoch(epoch))) for epoch in (0, 1))
        assert first != second
        seen += first
    expected = rows_of(batches_of(task, texts_of(task)))[:20]
    assert Counter(seen) == Counter(expected)


def test_a_data_set_of_hugging_face_gives_what_lists_give(task: CausalLM) -> None:
    datasets = pytest.importorskip("datasets")
    columns = texts_of(task) if task.backbone.is_seq2seq else {"text": TARGETS}
    dataset = datasets.Dataset.from_dict({**columns, "number": list(range(COUNT))})
    expected = batches_of(task, texts_of(task), batch_size=5)
    assert_equal(batches_of(task, dataset, batch_size=5), expected)
    assert_equal(
        batches_of(task, {name: dataset[name] for name in columns}, batch_size=5), expected
    )
    stream = datasets.Dataset.to_iterable_dataset(dataset)
    data = read_training_data(task, stream, batch_size=5)
    assert data.num_batches is None
    assert_equal(list(data.epoch(0)), expected)
    assert_equal(list(data.epoch(1)), expected)


@pytest.mark.parametrize("format", [None, "numpy", "torch"])
def test_a_data_set_of_ids_gives_what_arrays_give(task: CausalLM, format: str | None) -> None:
    datasets = pytest.importorskip("datasets")
    if format == "torch":
        pytest.importorskip("torch")
    x, y, weights = layout_of(task)
    columns = {**x, "y": y, "sample_weight": weights.astype(np.float32)}
    columns |= {name: np.array(["not read"] * COUNT) for name in task.keys.texts}
    dataset = datasets.Dataset.from_dict({name: list(value) for name, value in columns.items()})
    dataset = dataset.with_format(format)
    expected = batches_of(task, x, y, weights, batch_size=5)
    assert_equal(batches_of(task, dataset, batch_size=5), expected)
    assert_equal(batches_of(task, dataset.to_iterable_dataset(), batch_size=5), expected)


def test_a_split_stream_of_hugging_face_is_not_split_again(task: CausalLM) -> None:
    datasets = pytest.importorskip("datasets")
    from datasets.distributed import split_dataset_by_node

    columns = texts_of(task) if task.backbone.is_seq2seq else {"text": TARGETS}
    stream = datasets.Dataset.from_dict(columns).to_iterable_dataset()
    seen = []
    for rank in range(2):
        part = split_dataset_by_node(stream, rank=rank, world_size=2)
        seen += rows_of(batches_of(task, part, batch_size=4, rank=rank, world_size=2))
    assert Counter(seen) == stack(batches_of(task, texts_of(task)))
