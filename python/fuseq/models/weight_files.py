# SPDX-License-Identifier: Apache-2.0
"""Files of weights alone: KerasHub's `.weights.h5` and `.safetensors` with our names."""

import json
from collections.abc import Callable
from pathlib import Path

from fuseq import _core
from fuseq._core import Model, SafeTensorsFile, Tensor
from fuseq.presets import keras_format
from fuseq.presets.family import Family, Spec

_KERAS = ".weights.h5"
_OURS = ".safetensors"
_INT8_MARK = "int8_panels"  # in the metadata of a folder's file


def save(path: Path, model: Model, family: Family) -> None:
    """Writes a model's weights; the file appears when it is whole."""
    _check(path, "save_weights")
    if path.name.endswith(_KERAS):
        keras_format.save_weights_h5(path, model, family)
        return
    if model.dtype == "int8":
        raise ValueError(
            f"save_weights: a {_OURS} file must get weights that are floats, got int8. Save the "
            'task with format="fuseq", or load it with dtype="float32"'
        )

    def maker(name: str) -> Callable[[], Tensor]:
        return lambda: model.weight(name)

    entries = [
        (name, model.dtype, shape, maker(name)) for name, shape, _ in _core.weight_table(model.spec)
    ]
    _core.save_safetensors(path, entries, {})


def load(
    path: Path, spec: Spec, family: Family, *, dtype: str | None, num_threads: int | None
) -> Model:
    """Reads a model of a known spec; errors name the file."""
    _check(path, "load_weights")
    if not path.is_file():
        raise FileNotFoundError(f'load_weights "{path}": the file must exist, got none')
    if path.name.endswith(_KERAS):
        weights = keras_format.load_weights_h5(path, spec, family)
    else:
        file = SafeTensorsFile(path)
        if _INT8_MARK in file.metadata:
            raise ValueError(
                f'load_weights "{path}": the file must hold weights that are floats, got int8, '
                "which is read with its folder. Use from_preset"
            )
        weights = file.tensors()
    try:
        return Model.build(json.dumps(spec), weights, dtype=dtype, num_threads=num_threads)
    except ValueError as error:
        raise ValueError(f'load_weights "{path}": {error}') from error


def _check(path: Path, call: str) -> None:
    if not path.name.endswith((_KERAS, _OURS)):
        raise ValueError(f'{call}: path must end in {_KERAS} or {_OURS}, got "{path}"')
