# SPDX-License-Identifier: Apache-2.0
"""Tasks of both kinds of presets, for tests of the rules that hold in each."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fuseq
import keras_presets
import pytest
from stand_in_presets import TINY_TEXTS as TEXTS

if TYPE_CHECKING:
    from transformers_folders import Oracle

SETTINGS = {
    "num_beams": 4,
    "length_penalty": 2.0,
    "min_length": 8,
    "max_length": 24,
    "no_repeat_ngram_size": 3,
    "early_stopping": True,
    "forced_bos_token_id": 0,
    "forced_eos_token_id": 2,
}
FolderOf = Callable[..., Path]
OracleOf = Callable[[Path], "Oracle"]
KINDS = ("keras_hub", "transformers")


def keras(name: str = "bart_032", sampler: object = "greedy", **arguments: Any) -> Any:
    """A recorded preset of KerasHub as a task."""
    lm = fuseq.CausalLM.from_preset(keras_presets.FOLDER / name, num_threads=1, **arguments)
    lm.compile(sampler=sampler)
    return lm


def task(folder: Path, sampler: object = "preset", **arguments: Any) -> Any:
    """A folder as a task."""
    lm = fuseq.CausalLM.from_preset(folder, num_threads=1, **arguments)
    lm.compile(sampler=sampler)
    return lm


def check_equal(
    lm: Any,
    theirs: "Oracle",
    decoder_text: str | None = None,
    *,
    texts: list[str] = TEXTS,
    **options: Any,
) -> None:
    """Texts, ids and scores of beams are those of transformers."""
    inputs: Any = texts
    if decoder_text is not None:
        inputs = {"encoder_text": texts, "decoder_text": decoder_text}
    rows = lm.generate(inputs, return_scores=True, **options)
    settings = theirs.model.generation_config
    several = options.get("num_return_sequences", settings.num_return_sequences or 1) > 1
    for text, found in zip(texts, rows, strict=True):
        want = theirs.generate(text, decoder_text, **options)
        made = found if several else [found]
        assert [row.token_ids for row in made] == [row.ids for row in want]
        assert [row.text for row in made] == [row.text for row in want]
        if (settings.num_beams or 1) > 1:
            assert [row.score for row in made] == pytest.approx(
                [w.score for w in want], rel=1e-4, abs=1e-4
            )
