# SPDX-License-Identifier: Apache-2.0
"""Where presets come from: folders, KerasHub's names, and handles of Kaggle and Hugging Face."""

from fuseq.hub.catalog import KNOWN_FAMILIES, PresetInfo, keras_hub_rows, presets
from fuseq.hub.folders import available
from fuseq.hub.handles import HuggingFaceHandle, KaggleHandle, parse_handle
from fuseq.hub.resolve import locate

__all__ = [
    "KNOWN_FAMILIES",
    "HuggingFaceHandle",
    "KaggleHandle",
    "PresetInfo",
    "available",
    "keras_hub_rows",
    "locate",
    "parse_handle",
    "presets",
]
