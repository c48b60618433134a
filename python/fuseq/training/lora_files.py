# SPDX-License-Identifier: Apache-2.0
"""Files of LoRA's factors as KerasHub writes them, `.lora.h5`; needs h5py, but not Keras."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fuseq.presets.family import Family, Spec
from fuseq.presets.keras_saving import check_spec, keras_tables
from fuseq.presets.keras_sink import Sink
from fuseq.presets.preset_files import whole_file
from fuseq.training.adapters import adapters, check_bare
from fuseq.training.lora import LoraAdapter, add_lora, keras_name, kernel_shape
from fuseq.training.torch_module import TransformerModule

_SUFFIX = ".lora.h5"
_RANK = "lora/vars/rank"
_FACTORS = ("lora_kernel_a", "lora_kernel_b")
_DEFAULT = {"query", "value"}

Array = npt.NDArray[Any]
Shape = tuple[int, ...]


def save_lora(path: Path, module: TransformerModule, family: Family) -> None:
    """Writes the factors; the file appears when it is whole.

    Args:
        path: Ends in `.lora.h5`.
        module: Has adapters of `enable_lora`.
        family: The model's family.

    Raises:
        ValueError: There are no such adapters, the path ends otherwise, or KerasHub's form cannot
            hold the model.
        FileNotFoundError: There is no such folder.
        IsADirectoryError: The path is that of a folder.
        OSError: The system refused to write; an old file is left as it was.
    """
    call = "save_lora_weights"
    found = _lora_adapters(module, call)
    if not found:
        raise ValueError(f"{call}: the model must have LoRA, got none. Call enable_lora(rank)")
    _check_path(path, call)
    if path.is_dir():
        raise IsADirectoryError(f'{call} "{path}": must be a file, got a folder. Name another')
    import h5py

    _check_form(module, family, call)
    numbers = {name: number for number, name in layer_numbers(module.spec).items()}
    with (
        whole_file(path, call) as unfinished,
        Sink(unfinished) as sink,
        h5py.File(sink, "w") as file,
    ):
        file.create_dataset(_RANK, data=np.int64(next(iter(found.values())).rank))
        for name, adapter in found.items():
            for factor in _FACTORS:
                values = getattr(adapter, factor).detach().cpu().numpy()
                file.create_dataset(f"lora/{numbers[name]}/vars/{factor}", data=values)
                sink.check()


def load_lora(path: Path, module: TransformerModule, family: Family) -> None:
    """Reads the factors, after adding adapters as in the file if there are none.

    Args:
        path: The file.
        module: Gets them; it stays as it was if the file does not fit.
        family: The model's family.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not what it should be, of another rank or for other layers; all
            that is missing, unexpected or misshapen is in one message.
    """
    call = "load_lora_weights"
    _check_form(module, family, call)
    names = layer_numbers(module.spec)
    found = _lora_adapters(module, call)
    with _Factors(path) as file:
        rank = file.rank()
        words = {keras_name(name) for name in found}
        if not found:
            stored = (names.get(number) for number in file.numbers())
            words = {keras_name(name) for name in stored if name} or set(_DEFAULT)
        elif next(iter(found.values())).rank != rank:
            raise ValueError(
                f'{call} "{path}": the rank must be {next(iter(found.values())).rank}, as in '
                f"enable_lora, got {rank}"
            )
        shapes: dict[str, Shape] = {}
        for number, name in names.items():
            if keras_name(name) in words:
                kernel = kernel_shape(module, name)
                start = f"lora/{number}/vars"
                shapes[f"{start}/{_FACTORS[0]}"] = (*kernel[:-1], rank)
                shapes[f"{start}/{_FACTORS[1]}"] = (rank, kernel[-1])
        values = file.read(shapes)
    if not found:
        check_bare(module, call)
        add_lora(module, rank, {word for word in words if word})
        found = adapters(module)
    numbers = {name: number for number, name in names.items()}
    with torch.no_grad():
        for name, adapter in found.items():
            for factor in _FACTORS:
                value = values[f"lora/{numbers[name]}/vars/{factor}"]
                getattr(adapter, factor).copy_(torch.from_numpy(value))


def layer_numbers(spec: Spec) -> dict[int, str]:
    """Where Keras counts our layers among its layers that have weights.

    Layers of the backbone come from the inputs to the outputs, by the number of steps that are left
    to the end; where it is equal those of the decoder come first. Behind each come its parts, the
    last one first.

    Args:
        spec: Of a model that KerasHub has.

    Returns:
        Numbers to our names, as "decoder.0.attn.q".
    """
    depth = int(spec["decoder"]["layers"])
    decoder = [(-index, f"decoder.{index}") for index in range(depth)]
    table, norm = "", ""  # layers that count, but have no parts
    if spec["encoder"]["layers"]:
        # From a stack's first layer back to its table: dropout, norm, sum, table.
        decoder = [(4, table), (2, norm), *decoder]
        encoder = [(depth - index, f"encoder.{index}") for index in range(depth)]
        encoder = [(depth + 4, table), (depth + 2, norm), *encoder]
        blocks = sorted([*decoder, *encoder], key=lambda block: -block[0])
    else:
        blocks = [(1, table), *decoder]
    numbers: dict[int, str] = {}
    number = 1  # behind the table of tokens
    for _, block in blocks:
        number += 1
        if block:
            cross = block.startswith("decoder") and bool(spec["encoder"]["layers"])
            for part in _parts(block.startswith("decoder"), cross):
                if part:
                    numbers[number] = f"{block}.{part}"
                number += 1
    return numbers


def _parts(is_decoder: bool, has_cross: bool) -> list[str]:
    """The parts of a layer as Keras counts them; "": a norm, or an attention as a whole."""
    feed_forward = ["ffn.down", "ffn.up"]
    parts = ["", *feed_forward] if is_decoder else [*feed_forward, ""]
    for attention in ("cross_attn", "attn") if has_cross else ("attn",):
        parts += ["", "", *(f"{attention}.{letter}" for letter in "ovkq")]
    return parts


class _Factors:
    """An open file of factors."""

    def __init__(self, path: Path) -> None:
        """Keeps the path."""
        self.path = path
        self.datasets: dict[str, Any] = {}

    def __enter__(self) -> "_Factors":
        """Opens the file; links and data in other files are not followed."""
        call = "load_lora_weights"
        import h5py

        _check_path(self.path, call)
        if not self.path.is_file():
            raise FileNotFoundError(f'{call} "{self.path}": the file must exist, got none')

        def visit(name: str, item: Any) -> None:  # noqa: ANN401
            is_here = isinstance(item, h5py.Dataset) and not (item.is_virtual or item.external)
            if is_here and name.startswith("lora/"):
                self.datasets[name] = item

        try:
            with ExitStack() as files:
                files.enter_context(h5py.File(self.path, "r")).visititems(visit)
                self._files = files.pop_all()
        except Exception as error:  # h5py raises many kinds for bad files
            raise self._broken(error) from error
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the file."""
        self._files.close()

    def rank(self) -> int:
        """The rank.

        Raises:
            ValueError: There is none.
        """
        dataset = self.datasets.pop(_RANK, None)
        value = None
        if dataset is not None and dataset.shape == () and dataset.dtype.kind in "iu":
            value = int(self._values(dataset))
        if value is None or value < 1:
            got = "none" if dataset is None else "another value"
            raise self._error(f'"{_RANK}" must be a whole number above 0, got {got}')
        return value

    def numbers(self) -> list[int]:
        """The numbers of the layers that the file has something for."""
        words = [name.split("/")[1] for name in self.datasets]
        return [int(word) for word in words if word.isascii() and word.isdigit() and len(word) < 9]

    def read(self, shapes: Mapping[str, Shape]) -> dict[str, Array]:
        """Arrays in float32.

        Raises:
            ValueError: One is not there or of another shape, or there are others.
        """
        faults = [f'unexpected: "{name}"' for name in self.datasets if name not in shapes]
        for name, shape in shapes.items():
            dataset = self.datasets.get(name)
            if dataset is None:
                faults.append(f'missing: "{name}" {list(shape)}')
            elif dataset.shape != shape:
                got = list(dataset.shape or ())
                faults.append(f'misshapen: "{name}" must be {list(shape)}, got {got}')
            elif dataset.dtype.kind != "f":
                faults.append(f'dtype: "{name}" must be floats, got {dataset.dtype.name}')
        if faults:
            raise self._error(
                "all factors must be there, in shape, and no others, got"
                + "".join(f"\n  {fault}" for fault in faults)
            )
        return {name: self._values(self.datasets[name]).astype(np.float32) for name in shapes}

    def _values(self, dataset: Any) -> Any:  # noqa: ANN401
        try:
            return dataset[()]
        except Exception as error:  # as above
            raise self._broken(error) from error

    def _broken(self, error: Exception) -> ValueError:
        return self._error(f"must be a whole HDF5 file, got an error: {error}")

    def _error(self, text: str) -> ValueError:
        return ValueError(f'load_lora_weights "{self.path}": {text}')


def _lora_adapters(module: TransformerModule, call: str) -> dict[str, LoraAdapter]:
    """The adapters by the names of what they adapt; none is of another kind."""
    found = adapters(module)
    if any(not isinstance(adapter, LoraAdapter) for adapter in found.values()):
        raise ValueError(
            f"{call}: the model must have LoRA in KerasHub's form, got PEFT's. Call save_peft, or "
            "merge_lora() first"
        )
    return found


def _check_form(module: TransformerModule, family: Family, call: str) -> None:
    """Raises a ValueError where KerasHub has no such model, and so no numbers of its layers."""
    try:
        check_spec(module.spec, keras_tables(family, call), call)
    except ValueError as error:
        reason = str(error).partition(". Use format=")[0]  # advice for whole models
        raise ValueError(
            f"{reason}. Use enable_peft, save_peft and load_peft for adapters of this model"
        ) from error


def _check_path(path: Path, call: str) -> None:
    if not path.name.endswith(_SUFFIX):
        raise ValueError(f'{call}: filepath must end in {_SUFFIX}, got "{path}"')
