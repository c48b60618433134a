# SPDX-License-Identifier: Apache-2.0
"""Weights of a model that nobody has trained yet, drawn as KerasHub draws them."""

import numpy as np
import numpy.typing as npt

from fuseq import _core

_DEVIATION = 0.02
_LARGEST = 2.0  # deviations; what lies beyond is drawn again


def random_weights(spec: str, seed: int | None = None) -> dict[str, npt.NDArray[np.float32]]:
    """Draws every weight of a spec.

    Matrices and tables come from a normal distribution of deviation 0.02, cut at two deviations;
    biases are 0, scales of norms 1.

    Args:
        spec: The spec as JSON.
        seed: Of the draws; None: a fresh one.

    Returns:
        float32 arrays by our names.
    """
    generator = np.random.default_rng(seed)
    return {name: _draw(name, shape, generator) for name, shape, _ in _core.weight_table(spec)}


def _draw(
    name: str, shape: tuple[int, ...], generator: np.random.Generator
) -> npt.NDArray[np.float32]:
    if name.endswith(".bias"):
        return np.zeros(shape, np.float32)
    if name.endswith("norm.weight"):
        return np.ones(shape, np.float32)
    values = generator.standard_normal(shape, dtype=np.float32)
    while (outside := np.abs(values) > _LARGEST).any():
        values[outside] = generator.standard_normal(int(outside.sum()), dtype=np.float32)
    values *= np.float32(_DEVIATION)
    return values
