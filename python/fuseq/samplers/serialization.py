# SPDX-License-Identifier: Apache-2.0
"""Samplers by name, and in the form in which KerasHub writes them."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar, overload

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
from fuseq.samplers.sampler import Sampler, is_built_in

_CLASSES: Mapping[str, type[Sampler]] = MappingProxyType(
    {
        "beam": BeamSampler,
        "contrastive": ContrastiveSampler,
        "greedy": GreedySampler,
        "min_p": MinPSampler,
        "preset": PresetSampler,
        "random": RandomSampler,
        "top_k": TopKSampler,
        "top_p": TopPSampler,
    }
)
_NOT_IN_KERAS_HUB = (MinPSampler, PresetSampler)

C = TypeVar("C", bound=Callable[..., Any])


@overload
def get(identifier: None) -> None: ...
@overload
def get(identifier: str | Mapping[str, Any]) -> Sampler: ...
@overload
def get(identifier: type[Sampler]) -> Sampler: ...
@overload
def get(identifier: C) -> C: ...
def get(identifier: object) -> object:
    """Finds a sampler.

    Args:
        identifier: None; a name: beam, contrastive, greedy, min_p, preset, random, top_k, top_p; a
            dict that `serialize` made, here or in KerasHub; a class; or a sampler or any other
            function, which is returned as it is.

    Returns:
        The sampler, or None.

    Raises:
        ValueError: There is no such name or class.
        TypeError: The identifier is of another type.

    Example:
        >>> get("top_k")
        TopKSampler(temperature=1.0, k=5, seed=None)
    """
    if isinstance(identifier, str | Mapping):
        return deserialize(identifier)
    if isinstance(identifier, type) and issubclass(identifier, Sampler):
        return identifier()
    if identifier is None or callable(identifier):
        return identifier
    raise TypeError(
        f"sampler: must be a name, a dict, a Sampler or a function, got {type(identifier).__name__}"
    )


def serialize(sampler: Sampler) -> dict[str, Any]:
    """Writes a sampler as KerasHub does, so that KerasHub can read those it has.

    Args:
        sampler: The sampler.

    Returns:
        A dict of module, class_name, config and registered_name.

    Example:
        >>> serialize(GreedySampler())["registered_name"]
        'keras_hub>GreedySampler'
    """
    kind = type(sampler)
    name, module = kind.__name__, kind.__module__
    registered_name = name
    if is_built_in(kind):
        module = __package__
        registered_name = f"{'fuseq' if kind in _NOT_IN_KERAS_HUB else 'keras_hub'}>{name}"
    return {
        "module": module,
        "class_name": name,
        "config": sampler.get_config(),
        "registered_name": registered_name,
    }


def deserialize(
    config: str | Mapping[str, Any],
    custom_objects: Mapping[str, type[Sampler]] | None = None,
) -> Sampler:
    """Makes a sampler from what `serialize` wrote, here or in KerasHub or KerasNLP.

    Args:
        config: The dict, or a name as `get` takes it.
        custom_objects: Your own classes by their names.

    Returns:
        The sampler.

    Raises:
        ValueError: There is no such name or class.

    Example:
        >>> deserialize({"class_name": "keras_hub>TopKSampler", "config": {"k": 3}})
        TopKSampler(temperature=1.0, k=3, seed=None)
    """
    written: Mapping[str, Any] = {"class_name": config} if isinstance(config, str) else config
    name = written.get("registered_name") or written.get("class_name") or ""
    kind = _find(name, custom_objects or {})
    return kind.from_config(written.get("config") or {})


def _find(name: str, custom_objects: Mapping[str, type[Sampler]]) -> type[Sampler]:
    """The class of a name, a class's name, or a name registered with Keras."""
    package, _, short = str(name).rpartition(">")
    known = {**_CLASSES, **{kind.__name__: kind for kind in _CLASSES.values()}}
    if package not in ("", "fuseq", "keras_hub", "keras_nlp"):
        known = {}
    found = custom_objects.get(name) or custom_objects.get(short) or known.get(short)
    if found is None:
        names = ", ".join([*_CLASSES, *custom_objects])
        raise ValueError(f"sampler: must be one of {names}, got {name!r}")
    return found
