# SPDX-License-Identifier: Apache-2.0
"""fuseq.samplers: arguments, names, written forms, fields for the engine, single choices."""

import json
import pickle
from collections.abc import Callable
from typing import Any

import fuseq
import numpy as np
import pytest
from fuseq import samplers
from fuseq.samplers import (
    BeamSampler,
    ContrastiveSampler,
    GreedySampler,
    MinPSampler,
    PresetSampler,
    RandomSampler,
    Sampler,
    TopKSampler,
    TopPSampler,
)
from table_models import VOCAB, Second

CLASSES = {
    "beam": BeamSampler,
    "contrastive": ContrastiveSampler,
    "greedy": GreedySampler,
    "min_p": MinPSampler,
    "preset": PresetSampler,
    "random": RandomSampler,
    "top_k": TopKSampler,
    "top_p": TopPSampler,
}
SOME = [
    GreedySampler(temperature=0.5),
    RandomSampler(7, temperature=0.7),
    TopKSampler(3, 7),
    TopPSampler(0.9, 50, 3, temperature=0.7),
    MinPSampler(0.2, 1),
    BeamSampler(3, True, length_penalty=0.5, early_stopping="never"),
    ContrastiveSampler(4, 0.3),
    PresetSampler({"num_beams": 2}),
]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TopKSampler(k=0), "TopKSampler: k must be a positive whole number, got 0"),
        (lambda: TopKSampler(k=2.5), "TopKSampler: k must be a positive whole number, got 2.5"),
        (lambda: TopKSampler(k=True), "TopKSampler: k must be a positive whole number, got True"),
        (lambda: TopPSampler(p=0), "TopPSampler: p must be above 0 and at most 1, got 0"),
        (lambda: TopPSampler(p=1.5), "TopPSampler: p must be above 0 and at most 1, got 1.5"),
        (lambda: TopPSampler(k=-1), "TopPSampler: k must be None or a positive whole number, got"),
        (lambda: MinPSampler(p=-0.1), "MinPSampler: p must be from 0 to 1, got -0.1"),
        (lambda: MinPSampler(p="x"), "MinPSampler: p must be from 0 to 1, got 'x'"),
        (lambda: RandomSampler(seed=-1), "RandomSampler: seed must be None or a whole number"),
        (lambda: TopKSampler(seed=2**64), "TopKSampler: seed must be None or a whole number"),
        (lambda: BeamSampler(0), "BeamSampler: num_beams must be a positive whole number, got 0"),
        (
            lambda: BeamSampler(length_penalty=float("nan")),
            "BeamSampler: length_penalty must be a finite number, got nan",
        ),
        (
            lambda: BeamSampler(early_stopping="maybe"),
            "BeamSampler: early_stopping must be True, False or \"never\", got 'maybe'",
        ),
        (lambda: ContrastiveSampler(k=0), "ContrastiveSampler: k must be a positive whole number"),
        (lambda: ContrastiveSampler(alpha=2), "ContrastiveSampler: alpha must be from 0 to 1"),
        *(
            (lambda bad=bad: GreedySampler(temperature=bad), "GreedySampler: temperature must be a")
            for bad in (0, -1, float("inf"), float("nan"), 1e-40, "1", None)
        ),
        (lambda: PresetSampler().generation_fields(), "PresetSampler: needs the settings"),
    ],
)
def test_wrong_arguments_are_named(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError) as error:
        make()
    assert str(error.value).startswith(message)


def test_positional_arguments_are_those_of_keras_hub() -> None:
    assert TopPSampler(0.9, 50, 3).get_config() == {
        "temperature": 1.0,
        "p": 0.9,
        "k": 50,
        "seed": 3,
    }
    assert TopKSampler(3, 7).get_config() == {"temperature": 1.0, "k": 3, "seed": 7}
    assert ContrastiveSampler(4, 0.3).get_config() == {"temperature": 1.0, "k": 4, "alpha": 0.3}
    assert BeamSampler(3, True).get_config() == {
        "temperature": 1.0,
        "num_beams": 3,
        "return_all_beams": True,
    }
    with pytest.raises(TypeError):
        BeamSampler(3, True, 0.5)  # type: ignore[misc]


@pytest.mark.parametrize(("name", "kind"), CLASSES.items())
def test_get_finds_names_classes_and_dicts(name: str, kind: type[Sampler]) -> None:
    assert type(samplers.get(name)) is kind
    assert samplers.get(name) == kind()
    assert samplers.get(kind) == kind()
    assert samplers.get({"class_name": kind.__name__, "config": {}}) == kind()


def test_get_returns_none_samplers_and_functions_as_they_are() -> None:
    sampler = TopKSampler()
    assert samplers.get(None) is None
    assert samplers.get(sampler) is sampler
    assert samplers.get(len) is len


@pytest.mark.parametrize("name", ["foo", "Greedy", "", "other>TopKSampler", "SpeculativeSampler"])
def test_an_unknown_name_is_an_error_that_lists_the_known(name: str) -> None:
    for identifier in (name, {"class_name": name, "config": {}}):
        with pytest.raises(ValueError) as error:
            samplers.get(identifier)
        known = "beam, contrastive, greedy, min_p, preset, random, top_k, top_p"
        assert str(error.value) == f"sampler: must be one of {known}, got {name!r}"


def test_get_of_another_type_is_an_error() -> None:
    with pytest.raises(TypeError, match="sampler: must be a name, a dict, a Sampler or a function"):
        samplers.get(5)  # type: ignore[call-overload]


@pytest.mark.parametrize("sampler", SOME, ids=lambda sampler: type(sampler).__name__)
def test_samplers_survive_being_written(sampler: Sampler) -> None:
    written = json.loads(json.dumps(samplers.serialize(sampler)))
    for again in (
        samplers.deserialize(written),
        samplers.get(written),
        type(sampler).from_config(sampler.get_config()),
        pickle.loads(pickle.dumps(sampler)),
        eval(repr(sampler)),
    ):
        assert type(again) is type(sampler)
        assert again == sampler
        assert hash(again) == hash(sampler)
    assert sampler != type(sampler)()


def test_the_written_form_is_that_of_keras_hub() -> None:
    theirs = {
        "module": "keras_hub.src.samplers.top_p_sampler",
        "class_name": "TopPSampler",
        "config": {"temperature": 0.7, "p": 0.9, "k": 50, "seed": 3},
        "registered_name": "keras_hub>TopPSampler",
    }
    sampler = samplers.get(theirs)
    assert sampler == TopPSampler(0.9, 50, 3, temperature=0.7)
    assert samplers.serialize(sampler) == {**theirs, "module": "fuseq.samplers"}
    assert samplers.get({**theirs, "registered_name": "keras_nlp>TopPSampler"}) == sampler
    assert samplers.get({"class_name": "keras_hub>TopPSampler", "config": {}}) == TopPSampler()
    # What KerasHub lacks is not said to be KerasHub's.
    assert samplers.serialize(MinPSampler())["registered_name"] == "fuseq>MinPSampler"
    # KerasHub reads beams as long as they ask for nothing that it lacks.
    assert "early_stopping" not in samplers.serialize(BeamSampler())["config"]


def test_a_users_class_is_read_by_custom_objects() -> None:
    written = samplers.serialize(Second(temperature=2.0))
    assert (written["class_name"], written["registered_name"]) == ("Second", "Second")
    again = samplers.deserialize(written, custom_objects={"Second": Second})
    assert isinstance(again, Second)
    assert again.temperature == 2.0
    assert again != Second(temperature=2.0)  # its own attributes are not known here
    with pytest.raises(ValueError, match="must be one of"):
        samplers.deserialize(written)


@pytest.mark.parametrize(
    ("sampler", "fields"),
    [
        (GreedySampler(temperature=3), {}),
        (RandomSampler(5), {"do_sample": True}),
        (RandomSampler(temperature=2.0), {"do_sample": True, "temperature": 2.0}),
        (TopKSampler(), {"do_sample": True, "top_k": 5}),
        (TopPSampler(), {"do_sample": True, "top_p": 0.1, "top_p_of_all": True}),
        (
            TopPSampler(0.5, 3),
            {"do_sample": True, "top_k": 3, "top_p": 0.5, "top_p_of_all": True},
        ),
        (MinPSampler(0.2), {"do_sample": True, "min_p": 0.2}),
        (BeamSampler(), {"num_beams": 5}),
        (BeamSampler(1), {}),
        (
            BeamSampler(3, True, length_penalty=0.0, early_stopping=True, temperature=0.5),
            {
                "num_beams": 3,
                "num_return_sequences": 3,
                "length_penalty": 0.0,
                "early_stopping": True,
                "temperature": 0.5,
            },
        ),
        (ContrastiveSampler(), {"penalty_alpha": 0.6, "top_k": 5}),
        (ContrastiveSampler(k=1), {}),
        (ContrastiveSampler(alpha=0), {}),
        (PresetSampler({"num_beams": 4}), {"num_beams": 4}),
        (
            PresetSampler({"do_sample": True, "temperature": 0.5}, temperature=0.7),
            {"do_sample": True, "temperature": 0.7},
        ),
    ],
)
def test_fields_are_those_that_differ(
    sampler: Sampler,
    fields: dict[str, Any],
    gpt2_tiny: Any,
) -> None:
    assert sampler.generation_fields() == fields
    options = fuseq.GenerationOptions(**fields, max_new_tokens=1)
    assert fuseq.generate(gpt2_tiny, [[3, 4]], options)  # the engine takes them together


def test_seeded_samplers_count_the_sequences_they_have_drawn() -> None:
    sampler = TopKSampler(seed=9)
    assert [sampler.next_draws(count) for count in (3, 2, 0, 1)] == [(9, 0), (9, 3), (9, 5), (9, 5)]
    for unseeded in (TopKSampler(), GreedySampler(), BeamSampler()):
        assert [unseeded.next_draws(2), unseeded.next_draws(2)] == [(None, 0), (None, 0)]


def test_probabilities_are_a_softmax_with_temperature() -> None:
    logits = np.random.default_rng(0).standard_normal((3, VOCAB)) * 30
    scaled = np.exp(logits / 0.7)
    found = Sampler(temperature=0.7).compute_probabilities(logits)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, scaled / scaled.sum(-1, keepdims=True), rtol=1e-4, atol=1e-30)


@pytest.mark.parametrize(
    ("sampler", "allowed"),
    [
        (GreedySampler(), {1}),
        (RandomSampler(1), {0, 1, 3}),
        (TopKSampler(2, 1), {1, 3}),
        (TopPSampler(0.5, seed=1), {1, 3}),
        (TopPSampler(0.9, k=2, seed=1), {1, 3}),
        (TopPSampler(0.5, k=2, seed=1), {1, 3}),  # of the two best alone, 1 would reach 0.5
        (TopPSampler(0.35, seed=1), {1}),
        (MinPSampler(0.5, seed=1), {1, 3}),
    ],
)
def test_get_next_token_draws_what_its_filter_leaves(sampler: Sampler, allowed: set[int]) -> None:
    probabilities = np.tile(np.float32([0.2, 0.45, 0.0, 0.35]), (300, 1))
    ids = sampler.get_next_token(probabilities)
    assert (ids.dtype, ids.shape) == (np.int32, (300,))
    assert set(ids.tolist()) == allowed
    for kind in (BeamSampler, ContrastiveSampler, Sampler):
        with pytest.raises(NotImplementedError, match="get_next_token must be overridden"):
            kind().get_next_token(probabilities)


def test_get_next_token_goes_on_with_its_seed() -> None:
    probabilities = np.full((50, VOCAB), 1 / VOCAB, np.float32)
    first, second = RandomSampler(4), RandomSampler(4)
    a, b = first.get_next_token(probabilities), first.get_next_token(probabilities)
    assert a.tolist() == second.get_next_token(probabilities).tolist()
    assert a.tolist() != b.tolist()
