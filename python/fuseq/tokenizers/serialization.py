# SPDX-License-Identifier: Apache-2.0
"""Tokenizers in the form in which KerasHub writes them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from fuseq.tokenizers.bart import BartTokenizer
from fuseq.tokenizers.byte_pair import BytePairTokenizer
from fuseq.tokenizers.gpt2 import GPT2Tokenizer
from fuseq.tokenizers.pretrained import PretrainedTokenizer
from fuseq.tokenizers.sentence_piece import SentencePieceTokenizer
from fuseq.tokenizers.tokenizer import Tokenizer

_OWN = "fuseq"  # beside KerasHub's keys, where KerasHub does not look

# What KerasHub calls the module of each class; None: KerasHub has no such class.
_MODULES: Mapping[type[Tokenizer], str | None] = MappingProxyType(
    {
        BartTokenizer: "keras_hub.src.models.bart.bart_tokenizer",
        BytePairTokenizer: "keras_hub.src.tokenizers.byte_pair_tokenizer",
        GPT2Tokenizer: "keras_hub.src.models.gpt2.gpt2_tokenizer",
        PretrainedTokenizer: None,
        SentencePieceTokenizer: "keras_hub.src.tokenizers.sentence_piece_tokenizer",
    }
)


def serialize(tokenizer: Tokenizer) -> dict[str, Any]:
    """Writes a tokenizer's settings as KerasHub does, so that KerasHub can read those it has.

    Args:
        tokenizer: The tokenizer.

    Returns:
        A dict of module, class_name, config and registered_name, and of the settings that KerasHub
        does not have as `fuseq`, where there are any; the vocabulary is not in it.

    Example:
        >>> serialize(BartTokenizer())["registered_name"]
        'keras_hub>BartTokenizer'
    """
    kind = type(tokenizer)
    name = kind.__name__
    module, registered_name = kind.__module__, name
    if kind in _MODULES:
        module = _MODULES[kind] or __package__
        registered_name = f"{'keras_hub' if _MODULES[kind] else 'fuseq'}>{name}"
    own = tokenizer.get_own_config()
    return {
        "module": module,
        "class_name": name,
        "config": tokenizer.get_config(),
        "registered_name": registered_name,
        **({_OWN: own} if own else {}),
    }


def deserialize(
    config: Mapping[str, Any],
    custom_objects: Mapping[str, type[Tokenizer]] | None = None,
) -> Tokenizer:
    """Makes a tokenizer from what `serialize` wrote, here or in KerasHub or KerasNLP.

    Args:
        config: The dict.
        custom_objects: Your own classes by their names.

    Returns:
        The tokenizer, without vocabulary where that is a file: call `load_assets`.

    Raises:
        ValueError: There is no such class, or it has no such setting.

    Example:
        >>> deserialize({"class_name": "BartTokenizer", "config": {"sequence_length": 8}})
        BartTokenizer(sequence_length=8)
    """
    kind = find_class(config, custom_objects)
    settings = read_settings(config)
    try:
        return kind.from_config(settings)
    except TypeError as error:
        raise ValueError(
            f"tokenizer: must be settings of {kind.__name__}, got {dict(settings)!r} ({error})"
        ) from error


def read_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a written tokenizer.

    Args:
        config: The dict that `serialize` wrote, here or in KerasHub or KerasNLP.

    Returns:
        KerasHub's settings and ours.

    Raises:
        ValueError: They are no dicts.
    """
    settings: dict[str, Any] = {}
    for key in ("config", _OWN):
        found = config.get(key)
        if found is not None and not isinstance(found, Mapping):
            raise ValueError(f"tokenizer: {key} must be a dict of settings, got {found!r}")
        settings.update(found or {})
    return settings


def find_class(
    config: Mapping[str, Any],
    custom_objects: Mapping[str, type[Tokenizer]] | None = None,
) -> type[Tokenizer]:
    """Finds the class of a written tokenizer.

    Args:
        config: The dict that `serialize` wrote, here or in KerasHub or KerasNLP.
        custom_objects: Your own classes by their names.

    Returns:
        The class.

    Raises:
        ValueError: It is no dict, or there is no such class.
    """
    if not isinstance(config, Mapping):
        raise ValueError(f"tokenizer: must be a dict, as serialize writes it, got {config!r}")
    custom = custom_objects or {}
    name = str(config.get("registered_name") or config.get("class_name") or "")
    package, _, short = name.rpartition(">")
    known = {kind.__name__: kind for kind in _MODULES}
    if package not in ("", "fuseq", "keras_hub", "keras_nlp"):
        known = {}
    found = custom.get(name) or custom.get(short) or known.get(short)
    if found is None:
        names = ", ".join([*(kind.__name__ for kind in _MODULES), *custom])
        raise ValueError(f"tokenizer: must be one of {names}, got {name!r}")
    return found
