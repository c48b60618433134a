# SPDX-License-Identifier: Apache-2.0
"""One module per family: all that is special about it, by its word in `config.json`."""

from collections.abc import Mapping
from types import MappingProxyType

from fuseq.models.families import bart, gpt2
from fuseq.presets.family import Family

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {family.model_type: family for family in (bart.FAMILY, gpt2.FAMILY)}
)
