# SPDX-License-Identifier: Apache-2.0
"""The HDF5 files that Keras writes, as arrays by their path; needs h5py, but not Keras."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from fuseq._core import Tensor
from fuseq.presets.checkpoint import checked_shard, read_json
from fuseq.presets.keras_attributes import read_text
from fuseq.presets.keras_sink import Sink

Array = npt.NDArray[Any]

BFLOAT16 = np.dtype("V2")  # how Keras stores it: two bytes, and an attribute that says so
_OLD_LAYERS = "_layer_checkpoint_dependencies"  # Keras 2.13 called the group "layers" so
_RENAMED = {
    _OLD_LAYERS: "layers",
    "_query_dense": "query_dense",
    "_key_dense": "key_dense",
    "_value_dense": "value_dense",
    "_output_dense": "output_dense",
}


@dataclass(frozen=True)
class Group:
    """Variables to be written.

    Attributes:
        layer: The group of the backbone's layer.
        name: Keras' name of that layer.
        part: The group below it, or nothing.
        arrays: The variables, bfloat16 as two bytes.
    """

    layer: str
    name: str
    part: str
    arrays: list[Array]


@dataclass(frozen=True)
class Stored:
    """An array in an open file.

    Attributes:
        shape: Its shape.
        dtype: Its dtype as Keras names it.
        dataset: What h5py reads it from.
    """

    shape: tuple[int, ...]
    dtype: str
    dataset: Any


@dataclass
class Hdf5Weights:
    """What the open files of one model hold.

    Attributes:
        path: The file, or the index of the shards.
        arrays: By path, without what stands in front of a task's backbone.
        layer_names: The backbone's layers, from Keras' name to the group.
    """

    path: Path
    arrays: dict[str, Stored] = field(default_factory=dict)
    layer_names: dict[str, str] = field(default_factory=dict)

    def dtype(self, key: str) -> str:
        """An array's dtype as Keras names it; "" where there is no such array."""
        return self.arrays[key].dtype if key in self.arrays else ""

    def read(self, key: str) -> Array:
        """The elements: on the mapped file where they lie there as they are, else a copy.

        Args:
            key: The array's path.

        Returns:
            The array; bfloat16 as unsigned integers of 16 bits.

        Raises:
            ValueError: The elements cannot be read.
        """
        dataset = self.arrays[key].dataset
        try:
            bits = np.dtype(np.uint16) if dataset.dtype.kind == "V" else None
            mapped = _map(dataset, bits or dataset.dtype)
            if mapped is not None:
                return mapped
            array = np.asarray(dataset[()])
            return array.view(bits) if bits is not None else array
        except Exception as error:  # h5py raises many kinds for bad files
            raise _broken(self.path, error) from error


@contextmanager
def open_weights(path: Path) -> Iterator[Hdf5Weights]:
    """Opens a `.weights.h5`, or the `.weights.json` that names its shards.

    Args:
        path: The file; of a backbone or of a task.

    Yields:
        The datasets below the backbone's `layers`; they can be read while the files are open.

    Raises:
        FileNotFoundError: The file or a shard is not there.
        ValueError: A file is not what it should be.
    """
    weights = Hdf5Weights(path)
    with ExitStack() as files:
        shards = _shards(path) if path.suffix == ".json" else [path]
        for shard in shards:
            _collect(files, shard, weights)
        _strip_task(weights)
        yield weights


def to_tensor(array: Array, dtype: str) -> Tensor:
    """An array as a tensor; `dtype` tells bfloat16 from what `read` makes of it."""
    if dtype != "bfloat16":
        return Tensor(array)
    result = Tensor.empty(array.shape, "bfloat16")
    bits = array.astype(np.uint32)
    result.copy_from(Tensor((bits << 16).view(np.float32)))
    return result


def to_array(tensor: Tensor) -> Array:
    """A tensor as an array to be written; bfloat16 as Keras stores it."""
    if tensor.dtype != "bfloat16":
        return tensor.numpy()
    bits = tensor.float().numpy().view(np.uint32) >> 16
    return bits.astype(np.uint16).view(BFLOAT16)


def write_groups(path: Path, groups: Iterable[Group]) -> None:
    """Writes a file as Keras does, one group after the other."""
    import h5py

    with Sink(path) as sink, h5py.File(sink, "w") as file:
        file.create_group("vars")  # of the model itself, which Keras looks for
        for group in groups:
            layer = file.require_group(f"layers/{group.layer}")
            layer.require_group("vars").attrs["name"] = group.name
            variables = layer.require_group(f"{group.part}/vars" if group.part else "vars")
            for number, array in enumerate(group.arrays):
                dataset = variables.create_dataset(str(number), data=array)
                if array.dtype == BFLOAT16:
                    dataset.attrs["dtype"] = "bfloat16"
                sink.check()


def _shards(index: Path) -> list[Path]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f'load "{index}": weight_map must be an object of groups and files')
    names = set()
    for group, files in weight_map.items():
        for file in files if isinstance(files, list) else [files]:
            names.add(checked_shard(index, group, file))
    for name in sorted(names):
        if not (index.parent / name).is_file():
            raise FileNotFoundError(f'load "{index}": the shard "{name}" must exist, got none')
    return [index.parent / name for name in sorted(names)]


def _collect(files: ExitStack, path: Path, weights: Hdf5Weights) -> None:
    """Adds what a file holds; links and data in other files are not followed."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            f'load "{path}": reading this format needs h5py. Run: pip install h5py'
        ) from error

    found: list[tuple[str, Stored]] = []
    references: list[str] = []

    def visit(name: str, item: Any) -> None:  # noqa: ANN401
        key = "/".join(_RENAMED.get(part, part) for part in name.split("/"))
        if isinstance(item, h5py.Group):
            parts = key.split("/")
            if len(parts) >= 3 and parts[-3] == "layers" and parts[-1] == "vars":
                layer_name = read_text(raw, item, "name")
                if layer_name is not None:
                    weights.layer_names[layer_name] = key
        elif item.is_virtual or item.external:
            references.append(key)
        else:
            found.append((key, Stored(tuple(item.shape or ()), _keras_dtype(raw, item), item)))

    if not path.is_file():
        raise FileNotFoundError(f'load "{path}": the file must exist, got none')
    try:
        raw = files.enter_context(path.open("rb"))
        files.enter_context(h5py.File(path, "r")).visititems(visit)
    except Exception as error:  # h5py raises many kinds for bad files
        raise _broken(path, error) from error
    for key in references:
        raise ValueError(f'load "{path}": "{key}" must lie in the file itself, got a reference')
    for key, stored in found:
        if key in weights.arrays:
            raise ValueError(f'load "{weights.path}": "{key}" must be there once, got it twice')
        weights.arrays[key] = stored


def _keras_dtype(raw: BinaryIO, dataset: Any) -> str:  # noqa: ANN401
    """The dtype's name; of what is no number only Keras' bfloat16 is taken for one."""
    if dataset.dtype != BFLOAT16:
        return str(dataset.dtype.name)
    word = read_text(raw, dataset, "dtype")
    return "bfloat16" if word == "bfloat16" else str(dataset.dtype.name)


def _strip_task(weights: Hdf5Weights) -> None:
    """Keeps the backbone: in a task's file it is the one layer that has layers."""
    inner = {"/".join(key.split("/")[:2]) for key in weights.arrays if key.count("/layers/") == 1}
    prefix = f"{inner.pop()}/" if len(inner) == 1 else ""
    start = f"{prefix}layers/"
    weights.arrays = {
        key.removeprefix(prefix): stored
        for key, stored in weights.arrays.items()
        if key.startswith(start) and "/seed_generator/" not in key
    }
    weights.layer_names = {
        name: key.removeprefix(start).removesuffix("/vars")
        for name, key in weights.layer_names.items()
        if key.startswith(start) and key.removeprefix(start).count("/") == 1
    }


def _map(dataset: Any, dtype: np.dtype[Any]) -> Array | None:  # noqa: ANN401
    """The elements on the mapped file, or None where they must be read."""
    import h5py

    offset = dataset.id.get_offset()  # None: chunked, compressed, compact or never written
    if offset is None or dataset.size == 0 or dataset.file.userblock_size:
        return None
    if dtype.kind not in "fiu" or not dtype.isnative or offset % dtype.itemsize != 0:
        return None
    if not dataset.id.get_type().equal(h5py.h5t.py_create(dataset.dtype)):
        return None
    return np.memmap(dataset.file.filename, dtype, "r", offset, dataset.shape)


def _broken(path: Path, error: Exception) -> ValueError:
    return ValueError(f'load "{path}": must be a whole HDF5 file, got an error: {error}')
