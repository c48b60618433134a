# SPDX-License-Identifier: Apache-2.0
"""Finds the class of a family: `Seq2SeqLM` for a BART preset is `BartSeq2SeqLM`."""

from importlib import import_module
from os import PathLike
from typing import TypeVar

# The modules that define the classes of each family, imported when they are needed.
_MODULES = {"bart": "fuseq.models.bart", "gpt2": "fuseq.models.gpt2"}
_BACKBONES = {"bart": "BartBackbone", "gpt2": "GPT2Backbone"}


C = TypeVar("C")


def load_families(family: str | None = None) -> None:
    """Imports the classes of one family, or of all."""
    for name, module in _MODULES.items():
        if family in (None, name):
            import_module(module)


def find_subclass(base: type[C], family: str, preset: str | PathLike[str]) -> type[C]:
    """The class below `base`, or itself, that serves a family.

    Args:
        base: The class whose `from_preset` was called.
        family: The family's word in the preset.
        preset: As the user named it.

    Returns:
        The class; a user's own subclass serves the family of its base.

    Raises:
        ValueError: There is none.
    """
    load_families(family)
    if _family(base) == family:
        return base
    for kind in _below(base):
        # The library's own, and not what users have made of them.
        if _family(kind) == family and kind.__module__ in _MODULES.values():
            return kind
    advice = ". Call from_preset of CausalLM, which serves every family"
    raise ValueError(
        f"Unable to find a subclass of {base.__name__} that is compatible with "
        f"{_BACKBONES.get(family, repr(family))} found in preset '{preset}'"
        f"{advice if _is_task(base) and family in _MODULES else ''}"
    )


def serves(base: type, family: str) -> bool:
    """Whether `base`, or a class below it, serves a family; `load_families` was called."""
    return family in map(_family, (base, *_below(base)))


def _is_task(base: type) -> bool:
    from fuseq.models.task import Task

    return issubclass(base, Task)


def _family(kind: type) -> str:
    """The word of the family that a class serves; "" for bases."""
    return str(getattr(kind, "family", ""))


def _below(base: type[C]) -> list[type[C]]:
    found: list[type[C]] = []
    for kind in base.__subclasses__():
        found += [kind, *_below(kind)]
    return found
