# SPDX-License-Identifier: Apache-2.0
"""fuseq runs sequence-to-sequence and causal language models on one C++ engine."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fuseq import callbacks, hub, models, ops, presets, samplers, tokenizers
    from fuseq._core import (
        GenerationOptions,
        Hypothesis,
        Model,
        Prompt,
        Search,
        Session,
        Tensor,
        TokenBytes,
        __version__,
        generate,
        score,
    )
    from fuseq.models import (
        CausalLM,
        Seq2SeqLM,
        export_transformers,
        load_generation_options,
        load_model,
        save_model,
    )
    from fuseq.prompts import prompts_from_arrays, rows_to_arrays

__all__ = [
    "CausalLM",
    "GenerationOptions",
    "Hypothesis",
    "Model",
    "Prompt",
    "Search",
    "Seq2SeqLM",
    "Session",
    "Tensor",
    "TokenBytes",
    "__version__",
    "callbacks",
    "export_transformers",
    "generate",
    "hub",
    "load_generation_options",
    "load_model",
    "models",
    "ops",
    "presets",
    "prompts_from_arrays",
    "rows_to_arrays",
    "samplers",
    "save_model",
    "score",
    "tokenizers",
]

_MODULES = ("callbacks", "hub", "models", "ops", "presets", "samplers", "tokenizers")
_HOMES = {
    "CausalLM": "models",
    "Seq2SeqLM": "models",
    "export_transformers": "models",
    "load_generation_options": "models",
    "load_model": "models",
    "prompts_from_arrays": "prompts",
    "rows_to_arrays": "prompts",
    "save_model": "models",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name in _MODULES:
        return import_module(f"fuseq.{name}")
    if name in __all__:
        return getattr(import_module(f"fuseq.{_HOMES.get(name, '_core')}"), name)
    raise AttributeError(f"module 'fuseq' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
