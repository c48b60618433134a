# SPDX-License-Identifier: Apache-2.0
"""Our weights out of the HDF5 files of KerasHub and into them, by the families' tables."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import numpy as np

from fuseq import _core
from fuseq._core import Model, Tensor
from fuseq.presets.family import KerasFamily, KerasSource, Spec
from fuseq.presets.keras_hdf5 import (
    Array,
    Group,
    Hdf5Weights,
    open_weights,
    to_array,
    to_tensor,
    write_groups,
)

WEIGHTS_FILE = "model.weights.h5"
INDEX_FILE = "model.weights.json"

_LAYER = re.compile(r"\.(\d+)\.")
_FLOATS = ("float16", "float32", "float64", "bfloat16")
_INT8 = "int8"
_GIGABYTE = 1 << 30

Shape = tuple[int, ...]


@dataclass(frozen=True)
class _Weight:
    """One of our weights and where the file keeps it.

    Attributes:
        name: Our name.
        shape: Our shape.
        source: The family's entry, its layer filled in.
        stored: The shape in the file.
        offset: Our rows in front that the file does not have.
    """

    name: str
    shape: Shape
    source: KerasSource
    stored: Shape
    offset: int

    @property
    def group(self) -> str:
        """Where Keras puts the variables, by the number of the layer."""
        return "/".join(part for part in ("layers", self.source.layer, self.source.part) if part)

    @property
    def may_be_int8(self) -> bool:
        """Whether Keras quantises it: matrices and the table of tokens."""
        return self.source.inputs > 0 or "V" in self.source.axes


def load_weights(path: Path, spec: Spec, family: KerasFamily) -> dict[str, Tensor]:
    """Reads a file of a backbone, or the backbone of a task's file.

    Args:
        path: A `.weights.h5`, or the `.weights.json` of shards.
        spec: The whole spec of the model.
        family: Its tables.

    Returns:
        Our weights by name; float32 lies on the mapped file, int8 is dequantised to float32.

    Raises:
        FileNotFoundError: The file or a shard is not there.
        ValueError: A file is not what it should be; all that is missing, unexpected, misshapen or
            of an unknown dtype is in one message.
        ImportError: h5py is not installed.
    """
    with open_weights(path) as file:
        sources = {weight.name: weight for weight in _weights(spec, family)}
        keys = {name: _key(file, weight) for name, weight in sources.items()}
        scales = {
            name: _scale_key(keys[name], weight)
            for name, weight in sources.items()
            if weight.may_be_int8 and file.dtype(keys[name]) == _INT8
        }
        _check(file, sources, keys, scales)
        return {
            name: _read(file, weight, keys[name], scales.get(name))
            for name, weight in sources.items()
        }


def is_int8(path: Path, spec: Spec, family: KerasFamily) -> bool:
    """Whether a file that `load_weights` reads has all as int8 that Keras quantises."""
    with open_weights(path) as file:
        return all(
            file.dtype(_key(file, weight)) == _INT8
            for weight in _weights(spec, family)
            if weight.may_be_int8
        )


def save_weights(path: Path, model: Model, family: KerasFamily) -> None:
    """Writes one `.weights.h5` as a backbone of KerasHub does."""
    weights = list(_weights(json.loads(model.spec), family))
    write_groups(path, _groups(model, weights))


def save_to_folder(
    folder: Path, model: Model, family: KerasFamily, max_shard_size: float | None
) -> None:
    """Writes `model.weights.h5`, or shards and their index where the weights are larger.

    Args:
        folder: Holds the files.
        model: What is written.
        family: Its tables.
        max_shard_size: In units of 2^30 bytes; a weight that is larger gets a shard of its own.
            None: never shards.
    """
    groups = list(_by_group(_weights(json.loads(model.spec), family)).values())
    limit = float("inf") if max_shard_size is None else max_shard_size * _GIGABYTE
    width = 2 if model.dtype == "bfloat16" else 4
    sizes = [sum(prod(weight.stored) for weight in group) * width for group in groups]
    if sum(sizes) <= limit:
        save_weights(folder / WEIGHTS_FILE, model, family)
        return
    shards: list[list[_Weight]] = []
    used = limit
    for group, size in zip(groups, sizes, strict=True):
        if used + size > limit:
            shards.append([])
            used = 0
        shards[-1] += group
        used += size
    weight_map = {}
    for number, shard in enumerate(shards):
        name = f"model_{number:05d}.weights.h5"
        write_groups(folder / name, _groups(model, shard))
        weight_map.update({f"/{weight.group}/vars": name for weight in shard})
    index = {"metadata": {"total_size": sum(sizes)}, "weight_map": weight_map}
    (folder / INDEX_FILE).write_text(json.dumps(index, indent=4) + "\n", encoding="utf-8")


def count_parameters(spec: Spec, family: KerasFamily) -> int:
    """How many parameters the backbone has in KerasHub's form."""
    return sum(prod(weight.stored) for weight in _weights(spec, family))


def _weights(spec: Spec, family: KerasFamily) -> Iterator[_Weight]:
    """Every weight of a spec that KerasHub's form holds."""
    for name, shape, _ in _core.weight_table(json.dumps(spec)):
        layer = _LAYER.search(name)
        key = _LAYER.sub(".{i}.", name, count=1) if layer else name
        source = family.weights[key]
        if layer is not None:
            number = int(layer[1])
            source = replace(
                source,
                layer=source.layer.replace("{_i}", f"_{number}" if number else ""),
                name=source.name.replace("{i}", str(number)),
            )
        stack = spec["encoder" if name.startswith("encoder") else "decoder"]
        sizes = {
            "V": spec["vocab"],
            "P": stack["max_positions"],
            "D": stack["dim"],
            "H": stack["heads"],
            "E": stack["head_dim"],
            "F": stack["ffn_dim"],
        }
        stored = tuple(sizes[axis] for axis in source.axes)
        offset = stack["position_offset"] if "P" in source.axes else 0
        yield _Weight(name, shape, source, stored, offset)


def _key(file: Hdf5Weights, weight: _Weight) -> str:
    """The dataset's path: the layer by Keras' name where the file tells it, else by number."""
    source = weight.source
    layer = file.layer_names.get(source.name, source.layer)
    parts = ("layers", layer, source.part, "vars", str(source.variable))
    return "/".join(part for part in parts if part)


def _scale_key(key: str, weight: _Weight) -> str:
    """Where the scale of an int8 matrix is: after the bias, if the layer has one."""
    return key.removesuffix("/0") + ("/2" if weight.source.inputs else "/1")


def _check(
    file: Hdf5Weights,
    sources: Mapping[str, _Weight],
    keys: Mapping[str, str],
    scales: Mapping[str, str],
) -> None:
    """One message for everything that does not fit."""
    faults = []
    hint = ""
    for name, weight in sources.items():
        key = keys[name]
        stored = file.arrays.get(key)
        if stored is None:
            faults.append(f'missing: "{key}" {_words(weight.stored)}')
        elif stored.shape != weight.stored:
            faults.append(
                f'misshapen: "{key}" must be {_words(weight.stored)}, got {_words(stored.shape)}'
            )
            if name in scales:
                hint = "\nOf quantised models only int8 is read. Is it int4?"
        elif stored.dtype not in _FLOATS and name not in scales:
            allowed = ", ".join(_FLOATS) + (" or int8" if weight.may_be_int8 else "")
            faults.append(f'dtype: "{key}" must be {allowed}, got {stored.dtype}')
    for name, key in scales.items():
        stored, count = file.arrays.get(key), prod(_scale_shape(sources[name]))
        if stored is None:
            faults.append(f'missing: "{key}", the scale of an int8 matrix')
        elif prod(stored.shape) != count or stored.dtype not in _FLOATS:
            faults.append(
                f'misshapen: "{key}" must be {count} scales of an int8 matrix, got '
                f"{_words(stored.shape)} of {stored.dtype}"
            )
    used = {*keys.values(), *scales.values()}
    faults += [
        f'unexpected: "{key}" {_words(stored.shape)}'
        for key, stored in file.arrays.items()
        if key not in used
    ]
    if faults:
        raise ValueError(
            f'load "{file.path}": weights: all must be there, in shape, and no others, got'
            + "".join(f"\n  {fault}" for fault in faults)
            + hint
        )


def _words(shape: Shape) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"


def _scale_shape(weight: _Weight) -> Shape:
    """One scale for each output of a matrix, or for each row of a table."""
    inputs = weight.source.inputs
    return weight.stored[inputs:] if inputs else weight.stored[:1]


def _read(file: Hdf5Weights, weight: _Weight, key: str, scale_key: str | None) -> Tensor:
    """One weight in our layout."""
    array, dtype = file.read(key), file.dtype(key)
    if dtype == "float64" or not array.dtype.isnative:
        array = array.astype(np.float32)
    inputs = weight.source.inputs
    if inputs:
        array = array.reshape(prod(weight.stored[:inputs]), -1).T
    if scale_key is not None:
        scale = file.read(scale_key)
        rows = to_tensor(scale, file.dtype(scale_key)).float().numpy().reshape(-1, 1)
        array, dtype = array.astype(np.float32) / rows, "float32"
    if weight.offset:
        rows = np.zeros((weight.offset, *array.shape[1:]), array.dtype)
        array = np.concatenate([rows, array])
    return to_tensor(array.reshape(weight.shape), dtype)


def _by_group(weights: Iterable[_Weight]) -> dict[str, list[_Weight]]:
    groups: dict[str, list[_Weight]] = {}
    for weight in weights:
        groups.setdefault(weight.group, []).append(weight)
    return groups


def _groups(model: Model, weights: list[_Weight]) -> Iterator[Group]:
    """The groups to be written, each made when its turn comes."""
    for group in _by_group(weights).values():
        variables = sorted(group, key=lambda weight: weight.source.variable)
        source = variables[0].source
        arrays = [_stored(model, weight) for weight in variables]
        yield Group(source.layer, source.name, source.part, arrays)


def _stored(model: Model, weight: _Weight) -> Array:
    """One weight in KerasHub's layout."""
    array = to_array(model.weight(weight.name))
    if weight.source.inputs:
        array = array.T
    return np.ascontiguousarray(array[weight.offset :]).reshape(weight.stored)
