# SPDX-License-Identifier: Apache-2.0
"""How the next id is chosen: KerasHub's samplers, done by the engine.

A sampler stands for fields of `GenerationOptions` (`generation_fields`), is called with KerasHub's
protocol on logits from anywhere, and is written and read as KerasHub does (`serialize`). Letters in
shapes: B batch, T cells of a row, V vocabulary, W beams, D width of a hidden state.
"""

from fuseq.samplers.beam import BeamSampler
from fuseq.samplers.contrastive import ContrastiveSampler
from fuseq.samplers.drawing import (
    GreedySampler,
    MinPSampler,
    RandomSampler,
    TopKSampler,
    TopPSampler,
)
from fuseq.samplers.preset import PresetSampler
from fuseq.samplers.sampler import Sampler
from fuseq.samplers.serialization import deserialize, get, serialize

__all__ = [
    "BeamSampler",
    "ContrastiveSampler",
    "GreedySampler",
    "MinPSampler",
    "PresetSampler",
    "RandomSampler",
    "Sampler",
    "TopKSampler",
    "TopPSampler",
    "deserialize",
    "get",
    "serialize",
]
