# SPDX-License-Identifier: Apache-2.0
"""What a model family tells the readers and writers of checkpoint formats."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
class KerasSource:
    """Where a KerasHub file keeps one of our weights.

    Attributes:
        layer: The group of the backbone's layer; `{_i}` is nothing for layer 0, else "_1", "_2".
        name: The name that Keras gave the layer, `{i}` is its number; looked for first, since a
            group's number depends on the order of the layers.
        part: The group below the layer's, or nothing.
        variable: Its number in that group.
        axes: One letter for each stored axis: V vocabulary, P positions, D width, H heads, E width
            of a head, F feed-forward width.
        inputs: How many of the axes, in front, are the inputs of a matrix; 0: no matrix of a dense
            layer, the elements lie as ours do.
    """

    layer: str
    name: str
    part: str = ""
    variable: int = 0
    axes: str = "D"
    inputs: int = 0


@dataclass(frozen=True)
class KerasClass:
    """A class of KerasHub.

    Attributes:
        name: Its name.
        module: The module that the files name.
        object_name: What Keras calls an object that got no name of its own.
    """

    name: str
    module: str
    object_name: str


@dataclass(frozen=True)
class KerasFamily:
    """One model family in KerasHub's form.

    Attributes:
        backbone: The backbone's class; the others likewise.
        tokenizer: Reads the vocabulary.
        preprocessor: Makes token ids of texts.
        task: Backbone and preprocessor.
        task_kind: The word for the task in `metadata.json`.
        spec: Reads the `config` object of the backbone's `config.json` into our spec.
        config: Writes our spec as that object, without `name`, `trainable` and `dtype`.
        weights: Our names (`{i}` for the layer) to where the file keeps them.
        special_tokens: Fields of our spec to the token whose id they hold.
        fixed_ids: Fields of our spec whose id the class knows without a vocabulary.
    """

    backbone: KerasClass
    tokenizer: KerasClass
    preprocessor: KerasClass
    task: KerasClass
    task_kind: str
    spec: Callable[[Config], Spec]
    config: Callable[[Spec], dict[str, Any]]
    weights: Mapping[str, KerasSource]
    special_tokens: Mapping[str, str]
    fixed_ids: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """One model family of the transformers format, and of KerasHub's where it has it.

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
        keras: The family in KerasHub's form, or None.
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
    keras: KerasFamily | None = None
