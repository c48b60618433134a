# SPDX-License-Identifier: Apache-2.0
"""What a model family tells the readers and writers of checkpoint formats."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fuseq._core import Tensor

Spec = dict[str, Any]
Config = Mapping[str, Any]


@dataclass(frozen=True)
class Source:
    """Where a checkpoint keeps one of our weights.

    Attributes:
        name: The checkpoint's name; `{i}` is the layer.
        transpose: The checkpoint stores [inputs, outputs].
        part: Which of `parts` equal pieces along the checkpoint's last axis.
        parts: How many of our weights the checkpoint keeps in one tensor.
        leading_axis: The checkpoint has one more axis, of extent 1, in front.
        others: Names under which the same tensor may be found instead.
    """

    name: str
    transpose: bool = False
    part: int = 0
    parts: int = 1
    leading_axis: bool = False
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Family:
    """One model family of the transformers format.

    Attributes:
        model_type: The word in `config.json`.
        architecture: The class that `config.json` names on export.
        prefix: What the checkpoint of the bare backbone leaves out of its names.
        spec: Reads `config.json` into our spec.
        config: Writes our spec as `config.json`.
        adapt: Settles what only the weights tell (a bias of zeros, tied matrices); gets the spec
            and a function from checkpoint names to tensors, returns the spec to use.
        weights: Our names (`{i}` for the layer) to where the checkpoint keeps them.
        ignored: Patterns of checkpoint names that carry nothing.
        from_weights: Fields, as "head.bias", that `adapt` fills and `config` does not hold.
        untied_copies: Names written again on export where embedding and head are not tied.
    """

    model_type: str
    architecture: str
    prefix: str
    spec: Callable[[Config], Spec]
    config: Callable[[Config], dict[str, Any]]
    adapt: Callable[[Spec, Callable[[str], Tensor | None]], Spec]
    weights: Mapping[str, Source]
    ignored: tuple[str, ...] = ()
    from_weights: tuple[str, ...] = ()
    untied_copies: tuple[str, ...] = ()
