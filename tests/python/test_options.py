# SPDX-License-Identifier: Apache-2.0
"""GenerationOptions from keywords."""

from copy import copy
from typing import Any

import numpy as np
import pytest
from fuseq import GenerationOptions
from fuseq._core import option_fields


def test_every_field_has_its_default_and_takes_none_for_it() -> None:
    options = GenerationOptions(**{name: None for name, _, _, _ in option_fields()})
    for name, _, default, meaning in option_fields():
        assert getattr(options, name) == default
        assert meaning


def test_fields_keep_what_they_are_given() -> None:
    given: dict[str, Any] = {
        "max_length": 20,
        "num_beams": np.int64(4),
        "length_penalty": 2,
        "early_stopping": "never",
        "use_default_stop_ids": False,
        "stop_token_ids": np.array([4, 5]),
        "suppress_token_ids": (6,),
        "logit_bias": {7: 1.5, 8: -2},
        "forced_eos_token_id": 3,
    }
    options = GenerationOptions(**given)
    assert options.num_beams == 4
    assert options.length_penalty == 2.0
    assert options.early_stopping == "never"
    assert options.stop_token_ids == [4, 5]
    assert options.logit_bias == {7: 1.5, 8: -2.0}
    options.early_stopping = True
    assert options.early_stopping is True
    options.forced_eos_token_id = None  # type: ignore[assignment]
    assert options.forced_eos_token_id == -1
    assert "num_beams=4" in repr(options)
    assert "min_length" not in repr(options)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"num_beam": 2}, TypeError, "num_beam"),
        ({"num_beams": "2"}, TypeError, "num_beams.*str"),
        ({"num_beams": True}, TypeError, "num_beams.*bool"),
        ({"num_beams": 2.0}, TypeError, "num_beams.*float"),
        ({"num_beams": 2**40}, ValueError, "num_beams"),
        ({"length_penalty": "1"}, TypeError, "length_penalty"),
        ({"early_stopping": "always"}, ValueError, "early_stopping.*always"),
        ({"early_stopping": 1}, ValueError, "early_stopping"),
        ({"use_default_stop_ids": 1}, TypeError, "use_default_stop_ids"),
        ({"stop_token_ids": 5}, TypeError, "stop_token_ids"),
        ({"stop_token_ids": "56"}, TypeError, "stop_token_ids"),
        ({"stop_token_ids": [5, 2.5]}, TypeError, r"stop_token_ids\[1\]"),
        ({"logit_bias": [(1, 2.0)]}, TypeError, "logit_bias"),
        ({"logit_bias": {"a": 2.0}}, TypeError, "logit_bias"),
    ],
)
def test_wrong_kinds_are_named(
    fields: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        GenerationOptions(**fields)


def test_a_field_that_is_set_is_checked_too() -> None:
    options = GenerationOptions()
    with pytest.raises(TypeError, match="num_beams"):
        options.num_beams = "many"  # type: ignore[assignment]
    assert options.num_beams == 1


def test_options_go_through_json() -> None:
    options = GenerationOptions(
        num_beams=3, early_stopping="never", seed=None, stop_strings=["é", "\n"],
        logit_bias={7: 1.5}, stop_token_ids=[4],
    )  # fmt: skip
    again = GenerationOptions.from_json(options.to_json())
    assert repr(again) == repr(options)
    assert GenerationOptions().to_json() == "{}\n"
    seeded = GenerationOptions(do_sample=True, seed=2**64 - 5)
    assert GenerationOptions.from_json(seeded.to_json()).seed == 2**64 - 5
    with pytest.raises(ValueError, match='every field must be known, got "beams"'):
        GenerationOptions.from_json('{"beams": 3}')
    with pytest.raises(ValueError, match="stop_strings: must be UTF-8"):
        GenerationOptions(stop_strings=[b"\xff"]).to_json()


def test_copies_are_apart() -> None:
    options = GenerationOptions(num_beams=3)
    other = copy(options)
    other.num_beams = 2
    assert options.num_beams == 3
