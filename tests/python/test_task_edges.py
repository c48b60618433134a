# SPDX-License-Identifier: Apache-2.0
"""Tasks at their edges: threads, pickles, own pre- and postprocessing, odd arguments."""

import copy
import pickle
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fuseq
import numpy as np
import pytest
from fuseq.models import (
    BartBackbone,
    BartSeq2SeqLM,
    BartSeq2SeqLMPreprocessor,
    CausalLM,
    GPT2CausalLM,
    GPT2CausalLMPreprocessor,
)
from fuseq.samplers import RandomSampler, Sampler, TopKSampler

TEXTS = ["the quick brown fox", "fox", " the"]
ROWS = np.array([[2, 0, 9, 8], [2, 0, 5, 7]])


@pytest.fixture
def folder(golden: Path) -> Path:
    return golden / "keras_presets"


@pytest.fixture
def bart(folder: Path) -> CausalLM:
    task = CausalLM.from_preset(folder / "bart_032")
    task.compile(sampler="greedy")
    return task


@pytest.fixture
def gpt2(folder: Path) -> CausalLM:
    task = CausalLM.from_preset(folder / "gpt2_032")
    task.compile(sampler="greedy")
    return task


def in_threads(call: Callable[[int], Any], count: int = 16) -> list[Any]:
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(call, range(count)))


# Threads


def test_a_model_that_is_drawn_late_is_drawn_once() -> None:
    backbone = BartBackbone(5000, 2, 4, 64, 128)
    assert len(set(map(id, in_threads(lambda _: backbone.model, 4)))) == 1


def test_many_threads_may_use_one_task(bart: CausalLM) -> None:
    inputs = {"encoder_token_ids": ROWS, "decoder_token_ids": ROWS}
    logits, texts = bart(inputs), bart.generate(TEXTS, max_length=10)
    assert all((found == logits).all() for found in in_threads(lambda _: bart(inputs)))
    assert all(
        found == texts for found in in_threads(lambda _: bart.generate(TEXTS, max_length=10))
    )
    own = bart.call_decoder_with_cache  # type: ignore[attr-defined]
    bart.call_decoder_with_cache = lambda **inputs: own(**inputs)  # type: ignore[attr-defined]
    assert all(
        found == texts for found in in_threads(lambda _: bart.generate(TEXTS, max_length=10), 6)
    )


# Pickles and copies


def test_a_pickle_follows_the_rules_that_the_task_followed(folder: Path, tmp_path: Path) -> None:
    task = BartSeq2SeqLM(BartBackbone(40, 1, 2, 8, 16, max_sequence_length=12))
    task.save_to_preset(tmp_path / "saved", format="transformers")
    again = pickle.loads(pickle.dumps(task))
    assert again.backbone.rules == task.backbone.rules == "keras_hub"


def test_a_pickle_of_a_folder_that_has_changed_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "gpt2_032", tmp_path / "preset")
    task = CausalLM.from_preset(tmp_path / "preset")
    assert pickle.loads(pickle.dumps(task)).count_params() == task.count_params()
    other = type(task)(type(task.backbone).from_config(task.backbone.get_config()))
    other.save_to_preset(tmp_path / "preset")
    with pytest.raises(ValueError, match="Call save_to_preset first"):
        pickle.dumps(task)
    assert pickle.loads(pickle.dumps(other)).count_params() == other.count_params()


def test_a_backbone_pickles_too(bart: CausalLM) -> None:
    again = pickle.loads(pickle.dumps(bart.backbone))
    assert again.get_config() == bart.backbone.get_config()
    with pytest.raises(ValueError, match="BartBackbone must come from a preset"):
        pickle.dumps(BartBackbone(40, 1, 2, 8, 16))


def test_a_copy_of_a_task_has_its_parts(gpt2: CausalLM) -> None:
    other = copy.copy(gpt2)
    other.compile(sampler="beam")
    assert other.backbone is gpt2.backbone
    assert other.sampler != gpt2.sampler
    gpt2.generate("the", max_length=6)
    third = copy.copy(gpt2)
    assert third.generate_function is None
    assert third.make_generate_function().__self__ is third  # type: ignore[attr-defined]
    assert gpt2.generate_function is not None


def test_a_config_makes_an_equal_backbone(folder: Path) -> None:
    backbone = CausalLM.from_preset(folder / "bart_032", dtype="bfloat16").backbone
    again = BartBackbone(**backbone.get_config())
    assert again.get_config() == backbone.get_config()
    assert again.dtype == "bfloat16"


def test_a_backbone_is_saved_alone(bart: CausalLM, tmp_path: Path) -> None:
    bart.backbone.save_to_preset(tmp_path / "saved")
    again = BartBackbone.from_preset(tmp_path / "saved")
    inputs = {"encoder_token_ids": ROWS, "decoder_token_ids": ROWS}
    assert (again.forward(inputs)[0] == bart(inputs)).all()


# Weights


@pytest.mark.parametrize("suffix", [".weights.h5", ".safetensors"])
def test_weights_that_are_loaded_first_have_the_dtype_that_was_asked_for(
    folder: Path, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"saved{suffix}"
    CausalLM.from_preset(folder / "bart_032").save_weights(path)
    task = CausalLM.from_preset(folder / "bart_032", load_weights=False, dtype="bfloat16")
    task.load_weights(path)
    assert task.backbone.dtype == "bfloat16"


# The progress bar


def test_a_bar_counts_inputs_where_one_is_wanted(
    gpt2: CausalLM, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["the"] * 300
    plain = gpt2.generate(texts, max_length=6)
    assert capsys.readouterr().err == ""  # no terminal
    assert gpt2.generate(texts, max_length=6, progress_bar=True) == plain
    assert "300/300" in capsys.readouterr().err
    assert gpt2.generate((text for text in texts), max_length=6, progress_bar=True) == plain
    assert "300 inputs" in capsys.readouterr().err
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    gpt2.generate(texts, max_length=6)
    assert "300/300" in capsys.readouterr().err
    gpt2.generate(texts, max_length=6, progress_bar=False)
    gpt2.generate(texts[:3], max_length=6)
    gpt2.generate("the", max_length=6, progress_bar=True)
    assert capsys.readouterr().err == ""


# Where rows end


def test_the_settings_stop_ids_hold_under_preset(gpt2: CausalLM, tmp_path: Path) -> None:
    gpt2.save_to_preset(tmp_path / "ours", format="fuseq")
    (row,) = gpt2.generate({"token_ids": [[5, 6, 0, 0, 0, 0]], "padding_mask": [[1, 1]]})[
        "token_ids"
    ]
    stop = int(row[3])
    model = fuseq.load_model(tmp_path / "ours")
    settings = fuseq.GenerationOptions(max_length=6, stop_token_ids=[stop])
    fuseq.save_model(model, tmp_path / "ours", settings)
    task = CausalLM.from_preset(tmp_path / "ours", preprocessor=None)
    found = task.generate({"token_ids": [[5, 6]]}, max_new_tokens=4, sampler="preset")
    assert found["token_ids"][0, : found["padding_mask"].sum()].tolist()[-1] == stop
    assert found["padding_mask"].sum() == 2 + row[2:].tolist().index(stop) + 1


def test_sources_of_ids_alone_start_as_texts_do(bart: CausalLM, folder: Path) -> None:
    assert bart.preprocessor is not None
    sources = bart.preprocessor.rows_of(["the quick"])
    ids = [[0, *sources[0], 2]]
    text = bart.generate("the quick", max_new_tokens=5, return_scores=True)
    for words in (bart.preprocessor, None):
        bart.preprocessor = words
        found = bart.generate({"encoder_token_ids": ids}, max_new_tokens=5)
        assert found["decoder_token_ids"][0].tolist() == text.token_ids


# Own pre- and postprocessing, own choice


def test_own_preprocessing_and_postprocessing_are_used(gpt2: CausalLM) -> None:
    class Loud(GPT2CausalLMPreprocessor):
        def generate_preprocess(self, x: Any, *, sequence_length: int | None = None) -> Any:
            texts = [x] if isinstance(x, str) else list(x)
            return super().generate_preprocess(
                [text.lower() for text in texts], sequence_length=sequence_length
            )

        def generate_postprocess(self, x: Any) -> Any:
            return [f"<{text}>" for text in super().generate_postprocess(x)]

    assert gpt2.preprocessor is not None
    expected = gpt2.generate(["the", "fox"], max_length=8)
    gpt2.preprocessor = Loud(gpt2.preprocessor.tokenizer, 32)
    assert gpt2.generate(["THE", "Fox"], max_length=8) == [f"<{text}>" for text in expected]
    assert gpt2.generate("THE", max_length=8) == f"<{expected[0]}>"


def test_own_preprocessing_of_pairs_is_used(bart: CausalLM) -> None:
    class Reversed(BartSeq2SeqLMPreprocessor):
        def generate_preprocess(self, x: Any, **lengths: Any) -> Any:
            if isinstance(x, dict):
                x = {"encoder_text": x["decoder_text"], "decoder_text": x["encoder_text"]}
            return super().generate_preprocess(x, **lengths)

    assert bart.preprocessor is not None
    pair = {"encoder_text": ["the fox"], "decoder_text": ["quick"]}
    expected = bart.generate(
        {"encoder_text": ["quick"], "decoder_text": ["the fox"]}, max_length=20
    )
    bart.preprocessor = Reversed(bart.preprocessor.tokenizer, 32, 32)
    assert bart.generate(pair, max_length=20) == expected


def test_own_preprocessing_is_told_the_longest_source(bart: CausalLM, gpt2: CausalLM) -> None:
    seen: list[Any] = []

    class Noting(BartSeq2SeqLMPreprocessor):
        def generate_preprocess(self, x: Any, **lengths: Any) -> Any:
            seen.append(lengths)
            return super().generate_preprocess(x, **lengths)

    class Plain(GPT2CausalLMPreprocessor):
        def generate_preprocess(self, x: Any, **lengths: Any) -> Any:
            return super().generate_preprocess(x, **lengths)

    assert bart.preprocessor is not None
    options: dict[str, Any] = {"max_length": 20, "return_scores": True}
    expected = bart.generate(TEXTS, encoder_sequence_length=4, **options)
    assert bart.generate(TEXTS, **options) != expected
    bart.preprocessor = Noting(bart.preprocessor.tokenizer, 32, 32)
    assert bart.generate(TEXTS, encoder_sequence_length=4, **options) == expected
    bart.generate(TEXTS, encoder_sequence_length=1000, **options)
    bart.generate(TEXTS, **options)
    positions = bart.backbone.max_encoder_length
    assert [lengths.get("encoder_sequence_length") for lengths in seen] == [4, positions, None]
    assert gpt2.preprocessor is not None
    gpt2.preprocessor = Plain(gpt2.preprocessor.tokenizer, 32)
    with pytest.raises(ValueError, match="must come with a model that has an encoder"):
        gpt2.generate(TEXTS, encoder_sequence_length=4)


def test_an_own_generate_step_is_refused(gpt2: CausalLM) -> None:
    class Own(GPT2CausalLM):
        def generate_step(self, inputs: Any, stop_token_ids: Any = None) -> Any:
            return inputs

    own = Own(gpt2.backbone, gpt2.preprocessor)
    with pytest.raises(ValueError, match=r"generate_step must be fuseq's own.*call_with_cache"):
        own.generate("the", max_length=6)


def test_own_probabilities_are_used(gpt2: CausalLM) -> None:
    class Second(Sampler):
        def compute_probabilities(self, logits: Any) -> Any:
            scores = np.array(logits, np.float32)
            scores[np.arange(len(scores)), scores.argmax(-1)] = -np.inf
            return super().compute_probabilities(scores)

        def get_next_token(self, probabilities: Any) -> Any:
            return probabilities.argmax(-1)

    inputs = {"token_ids": np.array([[9, 8, 0]]), "padding_mask": np.array([[1, 1, 0]])}
    logits = gpt2({"token_ids": np.array([[9, 8]])})[0, -1]
    found = gpt2.generate(inputs, stop_token_ids=None, sampler=Second())["token_ids"]
    assert found[0, 2] == np.argsort(logits)[-2]


# Arguments


def test_a_preprocessor_that_is_given_keeps_its_lengths(bart: CausalLM, folder: Path) -> None:
    words = bart.preprocessor
    assert words is not None
    before = words.sequence_length
    other = CausalLM.from_preset(folder / "bart_032", preprocessor=words, sequence_length=5)
    assert other.preprocessor is not None
    assert (other.preprocessor.sequence_length, words.sequence_length) == (5, before)


@pytest.mark.parametrize(
    "arguments", [{"dtype": "bfloat16"}, {"num_threads": 1}, {"load_weights": False}]
)
def test_a_backbone_that_is_given_is_taken_as_it_is(
    bart: CausalLM, folder: Path, arguments: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="must come without backbone, got both"):
        CausalLM.from_preset(folder / "bart_032", backbone=bart.backbone, **arguments)


def test_a_sampler_for_one_call_goes_on_and_compile_starts_again(gpt2: CausalLM) -> None:
    sampler = RandomSampler(seed=3)
    calls = [gpt2.generate("the", max_length=20, sampler=sampler) for _ in range(2)]
    assert calls[0] != calls[1]
    gpt2.compile(sampler=sampler)
    assert gpt2.generate("the", max_length=20) == calls[0]


@pytest.mark.parametrize(
    "seed", [np.int64(3), [1, 2], np.array([1, 2]), (np.uint64(1), np.int32(2))]
)
def test_seeds_may_be_numpys(gpt2: CausalLM, seed: Any) -> None:
    plain = int(seed) if isinstance(seed, np.integer) else [int(value) for value in seed]
    gpt2.compile(sampler=TopKSampler(k=40))
    texts = ["the", "fox"]
    assert gpt2.generate(texts, 14, seed=seed) == gpt2.generate(texts, 14, seed=plain)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"max_batch_size": 1.5}, ValueError, "max_batch_size must be a positive whole number"),
        ({"max_batch_size": 10**12}, ValueError, "max_batch_size must be a positive whole"),
        ({"suppress_token_ids": 5.5}, TypeError, "suppress_token_ids: must be whole numbers"),
        ({"stop_token_ids": [1.5]}, TypeError, "stop_token_ids: must be whole numbers"),
        ({"logit_bias": [1]}, TypeError, "logit_bias: must be a dict of ids and numbers"),
        ({"seed": "a"}, ValueError, "seed: must be a whole number or one for each input"),
        ({"seed": -1}, ValueError, r"seed: must be in 0 \.\.\. 2\*\*64 - 1, got -1"),
        ({"seed": [1, 2, 3]}, ValueError, "seed: must be one for each of 1 inputs, got 3"),
        ({"encoder_sequence_length": 4}, ValueError, "must come with a model that has an encoder"),
    ],
)
def test_wrong_arguments_are_named(
    gpt2: CausalLM, arguments: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        gpt2.generate(["the"], **arguments)


def test_a_length_of_sources_must_come_with_texts(bart: CausalLM) -> None:
    inputs = {"encoder_token_ids": ROWS, "decoder_token_ids": ROWS}
    with pytest.raises(ValueError, match="encoder_sequence_length must come with texts"):
        bart.generate(inputs, encoder_sequence_length=3)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"token_ids": np.zeros((1, 0), int)}, r"token_ids: must have one column or more"),
        ({"token_ids": [[1, 2], [3]]}, r"token_ids: must have shape \[B, T\], got rows of several"),
        ({"token_ids": [[1.5]]}, "token_ids: must be whole numbers, got float64"),
        (
            {"token_ids": [[1, 2]], "padding_mask": [[1, 1, 1]]},
            r"^padding_mask: must have shape \[1, 2\] or fewer columns, got \[1, 3\]",
        ),
    ],
)
def test_arrays_are_named_as_they_were_given(
    gpt2: CausalLM, inputs: dict[str, Any], message: str
) -> None:
    for call in (gpt2.generate, gpt2):
        with pytest.raises((TypeError, ValueError), match=message):
            call(inputs)


@pytest.mark.parametrize("id", [2**32 + 5, -1, 100_000])
def test_ids_of_a_step_are_in_the_vocabulary(gpt2: CausalLM, id: int) -> None:
    with pytest.raises(ValueError, match=f"token_ids: must be in 0 .*, got {id}"):
        gpt2.call_with_cache([[id]], None)


@pytest.mark.parametrize("index", [1.5, -1, True])
def test_the_index_of_a_step_is_a_cell(gpt2: CausalLM, index: Any) -> None:
    with pytest.raises(ValueError, match="cache_update_index: must be a whole number >= 0"):
        gpt2.call_with_cache([[5]], None, index)


def test_caches_have_their_shapes(bart: CausalLM) -> None:
    states = bart.call_encoder(ROWS)  # type: ignore[attr-defined]
    step: Any = bart.call_decoder_with_cache  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"^cache: must have shape \[2, .*got \[1\]"):
        step(states, None, ROWS[:, :1], self_attention_cache=[0.0])
    with pytest.raises(ValueError, match="cross_attention_cache: must have shape"):
        step(states, None, ROWS[:, :1], cross_attention_cache=np.zeros((2, 1, 2, 3, 2, 8)))


def test_labels_of_padding_may_be_anything(gpt2: CausalLM) -> None:
    mask = np.array([[1, 1, 1, 0]])
    targets = np.array([[5, 6, 7, -100]])
    losses = gpt2.score(ROWS[:1], mask, "loss", target_ids=targets)
    alone = gpt2.score(ROWS[:1, :3], None, "loss", target_ids=targets[:, :3])
    assert losses[0, 3] == 0
    assert losses[0, :3] == pytest.approx(alone[0])
    with pytest.raises(ValueError, match=r"target_ids must be in 0 .* got -100"):
        gpt2.score(ROWS[:1], None, "loss", target_ids=targets)
    with pytest.raises(ValueError, match="target_ids must be whole numbers, got float64"):
        gpt2.score(ROWS[:1], None, "loss", target_ids=targets.astype(float))
