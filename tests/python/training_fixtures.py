# SPDX-License-Identifier: Apache-2.0
"""Small tasks to train: `pytest_plugins = ("training_fixtures",)` makes them arguments of tests."""

import pytest
from fuseq.models import BartSeq2SeqLM, CausalLM, GPT2CausalLM
from tiny_tasks import BART, GPT2


@pytest.fixture(scope="module")
def bart() -> BartSeq2SeqLM:
    return BartSeq2SeqLM.from_preset(BART, encoder_sequence_length=16, decoder_sequence_length=12)


@pytest.fixture(scope="module")
def gpt2() -> GPT2CausalLM:
    return GPT2CausalLM.from_preset(GPT2, sequence_length=10)


@pytest.fixture(scope="module", params=["bart", "gpt2"])
def task(request: pytest.FixtureRequest) -> CausalLM:
    found: CausalLM = request.getfixturevalue(request.param)
    return found
