# SPDX-License-Identifier: Apache-2.0
"""The tensors of a transformers folder, whatever files they lie in."""

import json
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

from fuseq._core import SafeTensorsFile, Tensor

SAFETENSORS_FILE = "model.safetensors"
_TORCH_FILE = "pytorch_model.bin"
_MAX_JSON_BYTES = 64 << 20

Tensors = dict[str, Tensor]


def read_json(path: Path) -> dict[str, Any]:
    """An object from a JSON file of at most 64 MiB."""
    size = path.stat().st_size
    if size > _MAX_JSON_BYTES:
        raise ValueError(f'load "{path}": must have at most {_MAX_JSON_BYTES} bytes, got {size}')
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise ValueError(f'load "{path}": must be JSON, got an error: {error}') from error
    if not isinstance(value, dict):
        raise ValueError(f'load "{path}": must be a JSON object, got {type(value).__name__}')
    return value


def read_tensors(folder: Path) -> tuple[Tensors, list[str]]:
    """Every tensor by its name, still on the mapped files, and names whose dtype is unknown.

    Raises:
        FileNotFoundError: No file of weights is there.
        ValueError: A file is not what it should be.
        ImportError: Only torch's own files are there, and torch is not installed.
    """
    for name, read in ((SAFETENSORS_FILE, _read_safetensors), (_TORCH_FILE, _read_torch)):
        if (folder / name).exists():
            return read(folder / name)
        index = folder / f"{name}.index.json"
        if index.exists():
            return _read_shards(index, read)
    raise FileNotFoundError(
        f'load "{folder}": the folder must hold {SAFETENSORS_FILE}, {SAFETENSORS_FILE}.index.json, '
        f"{_TORCH_FILE} or {_TORCH_FILE}.index.json, got none of them"
    )


def _read_safetensors(path: Path) -> tuple[Tensors, list[str]]:
    file = SafeTensorsFile(path)
    return file.tensors(), file.unsupported


def _read_torch(path: Path) -> tuple[Tensors, list[str]]:
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f'load "{path}": reading this format needs torch. Run: pip install torch, or convert '
            "the checkpoint to safetensors"
        ) from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises many kinds for bad files
        raise ValueError(
            f'load "{path}": must be a file of weights alone, got an error: {error}'
        ) from error
    if not isinstance(state, dict):
        raise ValueError(f'load "{path}": must be a dict of tensors, got {type(state).__name__}')
    return {
        str(name): Tensor(value.detach())
        for name, value in state.items()
        if isinstance(value, torch.Tensor)
    }, []


def _read_shards(
    index: Path, read: Callable[[Path], tuple[Tensors, list[str]]]
) -> tuple[Tensors, list[str]]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f'load "{index}": weight_map must be an object of names and files')
    tensors: Tensors = {}
    unsupported: list[str] = []
    owners: dict[str, str] = {}
    for shard in sorted({checked_shard(index, name, file) for name, file in weight_map.items()}):
        path = index.parent / shard
        if not path.exists():
            raise FileNotFoundError(f'load "{index}": the shard "{shard}" must exist, got none')
        found, unknown = read(path)
        for name in (*found, *unknown):
            if name in owners:
                raise ValueError(
                    f'load "{index}": "{name}" must be in one shard, got it in "{owners[name]}" '
                    f'and "{shard}"'
                )
            owners[name] = shard
        tensors.update(found)
        unsupported += unknown
    for name, shard in weight_map.items():
        if owners.get(name) != shard:
            raise ValueError(
                f'load "{index}": "{name}" must be in "{shard}", got '
                f"{owners.get(name, 'no such tensor')!r}. Missing or mixed downloads?"
            )
    return tensors, unsupported


def checked_shard(index: Path, name: str, file: object) -> str:
    """A file's bare name: nothing outside the folder is opened."""
    plain = isinstance(file, str) and file not in ("", ".", "..") and PurePath(file).name == file
    if not plain or "\\" in str(file) or "\0" in str(file):
        raise ValueError(
            f'load "{index}": the shard of "{name}" must be a file name in the folder, got {file!r}'
        )
    return str(file)
