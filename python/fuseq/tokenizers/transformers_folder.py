# SPDX-License-Identifier: Apache-2.0
"""Reads the tokenizer files of a transformers folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuseq.tokenizers.bart import BartTokenizer
from fuseq.tokenizers.byte_pair import BytePairTokenizer
from fuseq.tokenizers.byte_pair_files import read_merges, read_vocabulary
from fuseq.tokenizers.files import read_json_or_nothing
from fuseq.tokenizers.gpt2 import GPT2Tokenizer
from fuseq.tokenizers.pretrained import PretrainedTokenizer
from fuseq.tokenizers.tokenizer import Tokenizer
from fuseq.tokenizers.transformers_shapes import (
    ADDED_TOKENS,
    DEFINITION,
    SPECIAL_TOKENS,
    TOKENIZER_CONFIG,
    check_added_tokens,
    check_definition,
    check_named_tokens,
)

_VOCABULARY = "vocab.json"
_MERGES = "merges.txt"


@dataclass(frozen=True)
class TokenizerSource:
    """A class and the arguments to make it with."""

    kind: type[Tokenizer]
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class _Files:
    """What the JSON files of a folder hold; nothing for a file that is not there."""

    folder: Path
    config: Mapping[str, Any]
    tokenizer_config: Mapping[str, Any]
    special_tokens: Mapping[str, Any]
    added_tokens: Mapping[str, Any]
    definition: Mapping[str, Any]


def read(folder: Path) -> TokenizerSource | None:
    """Reads what makes the tokenizer of a transformers folder.

    Args:
        folder: The folder.

    Returns:
        Its class and arguments; None where the folder has no files of a tokenizer that we can take.

    Raises:
        FileNotFoundError: A vocabulary has no merges.
        ValueError: A file is not what it should be, or the vocabulary lacks a special token.
    """
    files = _Files(
        folder,
        config=read_json_or_nothing(folder / "config.json"),
        tokenizer_config=read_json_or_nothing(folder / TOKENIZER_CONFIG),
        special_tokens=read_json_or_nothing(folder / SPECIAL_TOKENS),
        added_tokens=read_json_or_nothing(folder / ADDED_TOKENS),
        definition=read_json_or_nothing(folder / DEFINITION),
    )
    check_named_tokens(files.tokenizer_config, folder / TOKENIZER_CONFIG)
    check_named_tokens(files.special_tokens, folder / SPECIAL_TOKENS)
    check_added_tokens(files.added_tokens, folder / ADDED_TOKENS)
    check_definition(files.definition, folder / DEFINITION)
    has_vocabulary = (folder / _VOCABULARY).is_file()
    has_merges = (folder / _MERGES).is_file()
    if _is_foreign(files):
        has_vocabulary = has_merges = False
    if has_vocabulary and has_merges:
        ids = read_vocabulary(folder / _VOCABULARY)
        return _byte_pair(files, ids, read_merges(folder / _MERGES), folder / _VOCABULARY)
    if files.definition:
        model = files.definition.get("model") or {}
        if not _is_foreign(files) and _is_byte_level(files.definition):
            path = folder / DEFINITION
            pairs = [m if isinstance(m, str) else " ".join(m) for m in model.get("merges") or []]
            merges = read_merges(pairs, f'"{path}": model.merges')
            ids = read_vocabulary(model.get("vocab") or {}, f'"{path}": model.vocab')
            return _byte_pair(files, ids, merges, path)
        return _pretrained(files)
    if (has_vocabulary or has_merges) and files.config.get("model_type") in ("bart", "gpt2"):
        missing = folder / (_MERGES if has_vocabulary else _VOCABULARY)
        raise FileNotFoundError(f'"{missing}": must be a file of the tokenizer, got no such file')
    return None


def _is_foreign(files: _Files) -> bool:
    """Whether the folder says that its tokenizer is not one of ours."""
    name = files.tokenizer_config.get("tokenizer_class")
    # transformers 5 writes these two for any definition
    if name and name not in ("PreTrainedTokenizerFast", "TokenizersBackend"):
        return _class_of_name(str(name)) is None
    model_type = files.config.get("model_type")
    return model_type is not None and model_type not in ("bart", "gpt2")


def _class_of_name(name: str) -> type[BytePairTokenizer] | None:
    return {
        "BartTokenizer": BartTokenizer,
        "GPT2Tokenizer": GPT2Tokenizer,
        "RobertaTokenizer": BartTokenizer,  # what transformers 5 writes for BART
    }.get(name.removesuffix("Fast"))


def _byte_pair(
    files: _Files, ids: dict[str, int], merges: list[str], path: Path
) -> TokenizerSource:
    beyond = {token: id for token, id in _added_tokens(files).items() if token not in ids}
    vocabulary = read_vocabulary({**ids, **beyond}, f'"{path}", with the added tokens')
    kind = _byte_pair_class(files, vocabulary)
    for token in kind().special_tokens:
        if token not in vocabulary:
            raise ValueError(
                f'"{files.folder}": its vocabulary must hold {token!r}, a special token of '
                f"{kind.__name__}, got {len(vocabulary)} tokens without it"
            )
    prefix = files.tokenizer_config.get("add_prefix_space")
    if prefix is None:
        prefix = (files.definition.get("pre_tokenizer") or {}).get("add_prefix_space", False)
    special = [token for token in _special_tokens(files, kind) if token and token in vocabulary]
    added = [token for token in _added_tokens(files) if token and token in vocabulary]
    unsplittable = dict.fromkeys([*kind().special_tokens, *special, *added])
    return TokenizerSource(
        kind,
        {
            "vocabulary": vocabulary,
            "merges": merges,
            "add_prefix_space": bool(prefix),
            "unsplittable_tokens": list(unsplittable),
            "additional_special_tokens": [t for t in special if t not in kind().special_tokens],
            "lstrip_tokens": [t for t in unsplittable if t in _lstrip_tokens(files)],
        },
    )


def _byte_pair_class(files: _Files, vocabulary: Mapping[str, int]) -> type[BytePairTokenizer]:
    """By the model, else by the tokenizer's own class, else by the special tokens."""
    by_model = {"bart": BartTokenizer, "gpt2": GPT2Tokenizer}
    named = by_model.get(str(files.config.get("model_type")))
    named = named or _class_of_name(str(files.tokenizer_config.get("tokenizer_class")))
    if named is not None:
        return named
    for kind in by_model.values():
        if all(token in vocabulary for token in kind().special_tokens):
            return kind
    return BytePairTokenizer


def _added_tokens(files: _Files) -> dict[str, int]:
    """The tokens that the folder's files add, with their ids."""
    found: dict[str, int] = dict(files.added_tokens)
    for id, token in (files.tokenizer_config.get("added_tokens_decoder") or {}).items():
        found[str(_content(token))] = int(id)
    for token in files.definition.get("added_tokens") or []:
        found[str(token["content"])] = int(token["id"])
    return found


def _added_forms(files: _Files) -> list[Mapping[str, Any]]:
    """The tokens that files write as an object, which says how they are found."""
    named = [
        value
        for source in (files.special_tokens, files.tokenizer_config)
        for value in source.values()
        if isinstance(value, Mapping) and "content" in value
    ]
    decoder = files.tokenizer_config.get("added_tokens_decoder") or {}
    forms = [*named, *decoder.values(), *(files.definition.get("added_tokens") or [])]
    return [form for form in forms if isinstance(form, Mapping)]


def _lstrip_tokens(files: _Files) -> set[str]:
    return {str(form["content"]) for form in _added_forms(files) if form.get("lstrip")}


def _special_tokens(files: _Files, kind: type[BytePairTokenizer]) -> list[str]:
    """The tokens that transformers leaves out of text; the vocabulary may lack some."""
    defaults = {"unk_token": "<unk>", "mask_token": "<mask>"} if kind is BartTokenizer else {}
    named = {**defaults, **files.special_tokens, **files.tokenizer_config}
    found = [
        str(_content(named[key]))
        for role in ("unk", "sep", "cls", "mask")
        if named.get(key := f"{role}_token")
    ]
    for key in ("additional_special_tokens", "extra_special_tokens"):
        values = named.get(key) or []
        values = values.values() if isinstance(values, Mapping) else values
        found += [str(_content(value)) for value in values]
    found += [str(form["content"]) for form in _added_forms(files) if form.get("special")]
    return list(dict.fromkeys(found))


def _is_byte_level(definition: Mapping[str, Any]) -> bool:
    """Whether a definition does what `BytePairTokenizer` does."""
    model = definition.get("model") or {}
    before = definition.get("pre_tokenizer") or {}
    kind = model.get("type", "BPE" if "merges" in model else None)  # old files have no type
    return (
        kind == "BPE"
        and not any(
            model.get(key)
            for key in (
                "dropout",
                "continuing_subword_prefix",
                "end_of_word_suffix",
                "byte_fallback",
                "ignore_merges",
            )
        )
        and before.get("type") == "ByteLevel"
        and bool(before.get("use_regex", True))
        and not definition.get("normalizer")
    )


def _pretrained(files: _Files) -> TokenizerSource:
    listed = [token for token in files.definition.get("added_tokens") or [] if token.get("special")]
    named = {
        argument: _special_token(files, name)
        for argument, name in (
            ("start_token", "bos"),
            ("end_token", "eos"),
            ("pad_token", "pad"),
        )
    }
    contents = [token["content"] for token in listed if token["content"]]
    others = [token for token in contents if token not in named.values()]
    return TokenizerSource(
        PretrainedTokenizer,
        {
            "definition": files.folder / DEFINITION,
            **named,
            "additional_special_tokens": others,
        },
    )


def _special_token(files: _Files, name: str) -> str | None:
    """The token of a role, if it is in the definition: by its name, else by the model's id."""
    ids = _definition_ids(files.definition)
    for source in (files.tokenizer_config, files.special_tokens):
        token = _content(source.get(f"{name}_token"))
        if token and token in ids:
            return str(token)
    id = files.config.get(f"{name}_token_id")
    first = id[0] if isinstance(id, list) and id else id
    return next((token for token, number in ids.items() if token and number == first), None)


def _definition_ids(definition: Mapping[str, Any]) -> dict[str, int]:
    vocabulary = (definition.get("model") or {}).get("vocab") or {}
    if isinstance(vocabulary, list):  # unigram: pairs of a token and its score
        vocabulary = {pair[0]: id for id, pair in enumerate(vocabulary)}
    added = {token["content"]: token["id"] for token in definition.get("added_tokens") or []}
    return {**vocabulary, **added}


def _content(token: object) -> object:
    """The text of a token that may be written as a str or as a dict."""
    return token.get("content") if isinstance(token, Mapping) else token
