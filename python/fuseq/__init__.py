# SPDX-License-Identifier: Apache-2.0
"""fuseq runs sequence-to-sequence and causal language models on one C++ engine."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fuseq import models, ops, presets
    from fuseq._core import (
        GenerationOptions,
        Hypothesis,
        Model,
        Prompt,
        Session,
        Tensor,
        __version__,
        generate,
    )
    from fuseq.models import export_transformers, load_model, save_model

__all__ = [
    "GenerationOptions",
    "Hypothesis",
    "Model",
    "Prompt",
    "Session",
    "Tensor",
    "__version__",
    "export_transformers",
    "generate",
    "load_model",
    "models",
    "ops",
    "presets",
    "save_model",
]

_MODULES = ("models", "ops", "presets")
_OF_MODELS = ("export_transformers", "load_model", "save_model")


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name in _MODULES:
        return import_module(f"fuseq.{name}")
    if name in __all__:
        return getattr(import_module("fuseq.models" if name in _OF_MODELS else "fuseq._core"), name)
    raise AttributeError(f"module 'fuseq' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
