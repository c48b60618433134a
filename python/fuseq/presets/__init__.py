# SPDX-License-Identifier: Apache-2.0
"""Folders of models in the formats we read and write.

The readers and writers know files and formats; the families' tables are passed in by
`fuseq.models`, whose functions are also found here, where users look for them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fuseq.models import (
        export_transformers,
        load_generation_options,
        load_model,
        save_model,
    )

__all__ = ["export_transformers", "load_generation_options", "load_model", "save_model"]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name in __all__:
        return getattr(import_module("fuseq.models"), name)
    raise AttributeError(f"module 'fuseq.presets' has no attribute {name!r}")
