# SPDX-License-Identifier: Apache-2.0
"""Folders of transformers, read and written by the families' tables."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from fuseq import _core
from fuseq._core import Model, Tensor
from fuseq.presets.checkpoint import SAFETENSORS_FILE, Tensors, read_json, read_tensors
from fuseq.presets.differences import differences
from fuseq.presets.family import Family, Source, Spec
from fuseq.presets.preset_files import OTHER_WEIGHTS

CONFIG_FILE = "config.json"
GENERATION_FILE = "generation_config.json"
_LAYER = re.compile(r"\.(\d+)\.")


def read_spec(folder: Path, families: Mapping[str, Family]) -> Spec:
    """What `config.json` says, with the stop ids of the generation settings."""
    config = read_json(folder / CONFIG_FILE)
    family = _find_family(config.get("model_type"), families, f'load "{folder / CONFIG_FILE}"')
    spec = family.spec(config)
    return {**spec, "eos_ids": _stop_ids(folder, spec["eos_ids"])}


def load_model(
    folder: Path,
    families: Mapping[str, Family],
    *,
    dtype: str | None,
    num_threads: int | None,
    cpu_isa: str,
) -> Model:
    """Loads a transformers folder; the file's pages are given back as the weights are packed."""
    spec = read_spec(folder, families)
    family = families[spec["family"]]
    tensors, unsupported = read_tensors(folder)
    spec = family.adapt(spec, lambda name: _find(tensors, family, name))
    text = json.dumps(spec)
    weights = _map_weights(text, family, tensors)
    unknown = [name for name in unsupported if not _is_ignored(name, family)]
    if unknown:
        raise ValueError(
            f'load "{folder}": weights must be float32, float16 or bfloat16, got another dtype for '
            + ", ".join(f'"{name}"' for name in unknown)
        )
    return Model.build(text, weights, dtype=dtype, num_threads=num_threads, cpu_isa=cpu_isa)


def save_model(model: Model, folder: str | PathLike[str], families: Mapping[str, Family]) -> None:
    """Writes `config.json` and `model.safetensors`; the folder appears when it is whole.

    Weights in other files go, all else in the folder is kept.
    """
    _core.save_folder(folder, writer(model, families), OTHER_WEIGHTS)


def writer(
    model: Model, families: Mapping[str, Family], token_ids: Spec | None = None
) -> Callable[[Path], None]:
    """Checks that the form can hold a model; what comes back writes its files into a folder.

    Args:
        model: The model.
        families: By their words.
        token_ids: Fields of the spec to write in place of the model's own.

    Returns:
        A function of the folder.
    """
    family = _find_family(model.family, families, "export_transformers")
    if model.dtype == "int8":
        raise ValueError(
            f"export_transformers: a {family.model_type} checkpoint must get weights that are "
            'floats, got int8. Use save_model or format="fuseq", or load with dtype="float32"'
        )
    config = _config(model, family, token_ids or {})
    entries = list(_entries(model, family))

    def write(folder: Path) -> None:
        text = json.dumps(config, indent=2) + "\n"
        (folder / CONFIG_FILE).write_text(text, encoding="utf-8")
        _core.save_safetensors(folder / SAFETENSORS_FILE, entries, {"format": "pt"})

    return write


def _find_family(word: object, families: Mapping[str, Family], call: str) -> Family:
    if not isinstance(word, str) or word not in families:
        known = ", ".join(families)
        raise ValueError(f"{call}: model_type must be one of {known}, got {word!r}")
    return families[word]


def _stop_ids(folder: Path, ids: list[int]) -> list[int]:
    """`eos_token_id` of the generation config, where it is there, else what config.json says."""
    path = folder / GENERATION_FILE
    if not path.exists():
        return ids
    value = read_json(path).get("eos_token_id")
    if value is None:
        return ids
    found = value if isinstance(value, list) else [value]
    if any(isinstance(i, bool) or not isinstance(i, int) for i in found):
        raise ValueError(f'load "{path}": eos_token_id must be an id or a list, got {value!r}')
    return found


def _stored_name(tensors: Tensors, family: Family, name: str) -> str | None:
    """The full name, or the one that a bare backbone's checkpoint has, or None."""
    return next((key for key in (name, name.removeprefix(family.prefix)) if key in tensors), None)


def _find(tensors: Tensors, family: Family, name: str) -> Tensor | None:
    stored = _stored_name(tensors, family, name)
    return None if stored is None else tensors[stored]


def _is_ignored(name: str, family: Family) -> bool:
    full = (name, family.prefix + name)
    return any(re.fullmatch(pattern, text) for pattern in family.ignored for text in full)


def _source(name: str, family: Family) -> Source | None:
    """Where the checkpoint keeps our weight `name`, its layer filled in."""
    layer = _LAYER.search(name)
    source = family.weights.get(_LAYER.sub(".{i}.", name, count=1) if layer else name)
    if source is None or layer is None:
        return source
    return replace(source, name=source.name.replace("{i}", layer[1]))


def _read(tensor: Tensor, source: Source) -> Tensor:
    """Our weight out of the checkpoint's tensor; a wrong shape is the engine's to report."""
    if not tensor.shape:
        return tensor
    if source.leading_axis and tensor.shape[0] == 1 and len(tensor.shape) > 1:
        tensor = tensor.reshape(tensor.shape[1:])
    if source.parts > 1:
        axis = len(tensor.shape) - 1
        length = tensor.shape[axis] // source.parts
        tensor = tensor.narrow(axis, source.part * length, length)
    return tensor.transpose() if source.transpose else tensor


def _map_weights(spec: str, family: Family, tensors: Tensors) -> Tensors:
    """The checkpoint under our names; what nobody asked for keeps its own name."""
    sources = {name: _source(name, family) for name, _, _ in _core.weight_table(spec)}
    primary = {source.name for source in sources.values() if source is not None}
    weights: Tensors = {}
    used = set()
    for name, source in sources.items():
        if source is None:
            continue
        others = (other for other in source.others if other not in primary)
        for candidate in (source.name, *others):
            stored = _stored_name(tensors, family, candidate)
            if stored is not None:
                used.add(stored)
                weights[name] = _read(tensors[stored], source)
                break
    for name, tensor in tensors.items():
        if name not in used and not _is_ignored(name, family):
            weights[name] = tensor
    return weights


def _config(model: Model, family: Family, token_ids: Spec) -> dict[str, Any]:
    """The model's `config.json`, after checking that it says all that the spec says."""
    spec: Spec = {**json.loads(model.spec), **token_ids}
    config = family.config(spec)
    held = json.loads(_core.validate_spec(json.dumps(family.spec(config))))
    lost = [field for field in differences(spec, held) if field not in family.from_weights]
    if lost:
        raise ValueError(
            f"export_transformers: a {family.model_type} config.json must hold every field of the "
            f"spec, got others in {', '.join(lost)}. Use save_model"
        )
    return {
        "architectures": [family.architecture],
        "model_type": family.model_type,
        "dtype": model.dtype,
        **config,
    }


Entry = tuple[str, str, tuple[int, ...], Callable[[], Tensor]]


def _entries(model: Model, family: Family) -> Iterator[Entry]:
    """What to write under the checkpoint's names, each made when its turn comes."""
    parts: dict[str, list[tuple[str, Source, tuple[int, ...]]]] = {}
    for name, shape, _ in _core.weight_table(model.spec):
        source = _source(name, family)
        if source is None:
            raise ValueError(
                f"export_transformers: a {family.model_type} checkpoint must have a name for every "
                f'weight, got "{name}". Use save_model'
            )
        parts.setdefault(source.name, []).append((name, source, shape))
    for name, pieces in parts.items():
        shape = _stored_shape(pieces[0][1], pieces[0][2])
        yield name, model.dtype, shape, _maker(model, pieces, shape)
    if not json.loads(model.spec)["head"]["tied"]:
        pieces = parts[family.weights["embed.tokens"].name]
        for name in family.untied_copies:
            yield name, model.dtype, pieces[0][2], _maker(model, pieces, pieces[0][2])


def _stored_shape(source: Source, shape: tuple[int, ...]) -> tuple[int, ...]:
    stored = shape[::-1] if source.transpose else shape
    stored = (*stored[:-1], stored[-1] * source.parts)
    return (1, *stored) if source.leading_axis else stored


def _maker(
    model: Model, pieces: list[tuple[str, Source, tuple[int, ...]]], shape: tuple[int, ...]
) -> Callable[[], Tensor]:
    def make() -> Tensor:
        whole = Tensor.empty(shape, model.dtype)
        for name, source, _ in pieces:
            _read(whole, source).copy_from(model.weight(name))
        return whole

    return make
