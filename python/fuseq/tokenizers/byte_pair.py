# SPDX-License-Identifier: Apache-2.0
"""Byte-level byte-pair encoding, the tokenizer of GPT-2, BART and RoBERTa."""

import json
import warnings
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from fuseq.tokenizers.byte_level import byte_symbols, token_to_bytes
from fuseq.tokenizers.byte_pair_files import (
    MERGES_FILE,
    VOCABULARY_FILE,
    find_vocabulary_file,
    read_merges,
    read_vocabulary,
)
from fuseq.tokenizers.callers import stack_level
from fuseq.tokenizers.files import write_file
from fuseq.tokenizers.inputs import to_id
from fuseq.tokenizers.settings import check_tokens
from fuseq.tokenizers.tokenizer import Tokenizer


class BytePairTokenizer(Tokenizer):
    """Byte-level byte-pair encoding with GPT-2's rules for where words begin.

    Merges need not have ids for their parts or results; what has no id in the end is left out, with
    one warning per tokenizer.

    Args:
        vocabulary: The ids of tokens: a dict or a JSON file; or a folder of both files. None: they
            are set later.
        merges: Strings "a b", best first, or a file of them.
        sequence_length: All rows are cut or padded to this length; None: rows keep their own.
        add_prefix_space: Put a blank before a text that does not begin with one.
        unsplittable_tokens: Tokens that are found in text as they are; None: the special tokens.
        dtype: That of the ids, "string" for tokens instead of ids.
        name: Kept for KerasHub.
        trainable: Kept for KerasHub.
        config_file: The file that `save_to_preset` writes the settings to.
        additional_special_tokens: Other tokens that are no text, as folders of transformers have;
            None: those of the class.
        lstrip_tokens: Those of unsplittable_tokens that take the blanks before them with them.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: An argument or a file is not as said above; or the vocabulary lacks a special or
            unsplittable token.

    Example:
        >>> vocabulary = {"butter": 1, "fly": 2}
        >>> merges = ["b u", "t t", "e r", "bu tt", "butt er", "f l", "fl y"]
        >>> tokenizer = BytePairTokenizer(vocabulary, merges)
        >>> tokenizer("butterfly").tolist()
        [1, 2]
        >>> tokenizer.detokenize([1, 2])
        'butterfly'
    """

    def __init__(
        self,
        vocabulary: Mapping[str, int] | str | PathLike[str] | None = None,
        merges: Iterable[str] | str | PathLike[str] | None = None,
        sequence_length: int | None = None,
        add_prefix_space: bool = False,
        unsplittable_tokens: Iterable[str] | None = None,
        dtype: object = "int32",
        *,
        name: str | None = None,
        trainable: bool = True,
        config_file: str = "tokenizer.json",
        additional_special_tokens: Iterable[str] | None = None,
        lstrip_tokens: Iterable[str] = (),
    ) -> None:
        """Keeps the settings and reads the vocabulary."""
        super().__init__(
            sequence_length=sequence_length,
            dtype=dtype,
            name=name,
            trainable=trainable,
            config_file=config_file,
        )
        self.add_prefix_space = bool(add_prefix_space)
        if additional_special_tokens is not None:
            self.additional_special_tokens = tuple(
                check_tokens(additional_special_tokens, "additional_special_tokens")
            )
        self.lstrip_tokens = tuple(check_tokens(lstrip_tokens, "lstrip_tokens"))
        unsplittable = self.special_tokens if unsplittable_tokens is None else unsplittable_tokens
        self.unsplittable_tokens = check_tokens(unsplittable, "unsplittable_tokens")
        self.vocabulary: dict[str, int] | None = None
        self.merges: list[str] | None = None
        self._has_warned = False
        self.set_vocabulary_and_merges(vocabulary, merges)

    def set_vocabulary_and_merges(
        self,
        vocabulary: Mapping[str, int] | str | PathLike[str] | None,
        merges: Iterable[str] | str | PathLike[str] | None,
    ) -> None:
        """Sets the vocabulary.

        Args:
            vocabulary: As in the constructor.
            merges: As in the constructor; both None: there is no vocabulary any more.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: As in the constructor.
        """
        self._made = {}
        self.vocabulary = self.merges = None
        if vocabulary is None and merges is None:
            return
        if isinstance(vocabulary, str | PathLike) and Path(vocabulary).is_dir() and merges is None:
            merges = Path(vocabulary) / MERGES_FILE
        if vocabulary is None or merges is None:
            missing = "vocabulary" if vocabulary is None else "merges"
            raise ValueError(f"{missing}: must be given, as the other one is, got None")
        ids = read_vocabulary(vocabulary)
        rules = read_merges(merges)
        for token in self.unsplittable_tokens:
            if token not in ids and token not in self.special_tokens:
                raise ValueError(f"unsplittable_tokens: must be in the vocabulary, got {token!r}")
        self.vocabulary, self.merges = ids, rules
        try:
            self._check_special_tokens()
            self._encoder()
        except Exception:
            self.vocabulary = self.merges = None
            raise

    def tokenize_text(self, text: str) -> list[int]:
        """Turns one text into ids.

        Args:
            text: May be empty.

        Returns:
            The ids.
        """
        self._ids()
        ids: list[int] = self._encoder().encode(text, add_special_tokens=False).ids
        return self._without_unknown(ids)

    def tokenize_texts(self, texts: list[str]) -> list[list[int]]:
        """Turns many texts into ids, on all threads.

        Args:
            texts: May be empty.

        Returns:
            The ids of each.
        """
        self._ids()
        if len(texts) == 1:
            return [self.tokenize_text(texts[0])]
        encoder = self._encoder()
        encode = getattr(encoder, "encode_batch_fast", encoder.encode_batch)
        rows = encode(texts, add_special_tokens=False)
        return [self._without_unknown(row.ids) for row in rows]

    def detokenize_ids(self, ids: list[int]) -> str:
        """Turns ids into text.

        Args:
            ids: Ids of the vocabulary.

        Returns:
            The text.
        """
        pieces = self._pieces()
        return b"".join([pieces[id] for id in ids]).decode("utf-8", errors="replace")

    def get_vocabulary(self) -> list[str]:
        """The tokens in the order of their ids."""
        return list(self._ids())

    def vocabulary_size(self) -> int:
        """How many tokens there are; ids may be larger where there are holes."""
        return len(self._ids())

    def has_id(self, id: int) -> bool:
        """Whether a token has this id; what is no whole number is no id."""
        try:
            return to_id(id) in self._pieces()
        except TypeError:
            return False

    def id_to_token(self, id: int) -> str:
        """Finds the token of an id; ValueError where there is none."""
        number = to_id(id)
        self._ids()
        if "tokens" not in self._made:
            self._made["tokens"] = {key: token for token, key in self._ids().items()}
        found: str | None = self._made["tokens"].get(number)
        if found is None:
            raise self._unknown_id(number, "id")
        return found

    def token_to_id(self, token: str) -> int:
        """Finds the id of a token; ValueError where there is none."""
        found = self._ids().get(token)
        if found is None:
            raise self._unknown_token(token)
        return found

    def get_config(self) -> dict[str, Any]:
        """The settings, with KerasHub's names; the vocabulary is an asset."""
        return {
            **super().get_config(),
            "add_prefix_space": self.add_prefix_space,
            "unsplittable_tokens": sorted(self.unsplittable_tokens),
        }

    def get_own_config(self) -> dict[str, Any]:
        """The settings that KerasHub does not have, where they differ from the class's."""
        config: dict[str, Any] = {}
        if self.additional_special_tokens != type(self).additional_special_tokens:
            config["additional_special_tokens"] = list(self.additional_special_tokens)
        if self.lstrip_tokens:
            config["lstrip_tokens"] = list(self.lstrip_tokens)
        return config

    def save_assets(self, dir_path: str | PathLike[str]) -> None:
        """Writes `vocabulary.json` and `merges.txt`.

        Args:
            dir_path: The folder.

        Raises:
            ValueError: There is no vocabulary yet.
        """
        folder = Path(dir_path)
        write_file(folder / VOCABULARY_FILE, json.dumps(self._ids()))
        write_file(folder / MERGES_FILE, "".join(f"{merge}\n" for merge in self.merges or ()))

    def load_assets(self, dir_path: str | PathLike[str]) -> None:
        """Reads `vocabulary.json` (or `vocab.json`) and `merges.txt`.

        Args:
            dir_path: The folder.

        Raises:
            FileNotFoundError: A file is missing.
            ValueError: A file is not what it should be.
        """
        folder = Path(dir_path)
        self.set_vocabulary_and_merges(find_vocabulary_file(folder), folder / MERGES_FILE)

    def _ids(self) -> dict[str, int]:
        if self.vocabulary is None:
            raise ValueError(
                f"{type(self).__name__}: must have a vocabulary, got none. "
                "Pass vocabulary and merges, or call load_assets"
            )
        return self.vocabulary

    def _pieces(self) -> dict[int, bytes]:
        """The bytes of every id, special tokens as their names."""
        self._ids()
        if "pieces" not in self._made:
            literal = set(self.unsplittable_tokens)  # found in text as they are
            self._made["pieces"] = {
                id: token.encode("utf-8") if token in literal else token_to_bytes(token)
                for token, id in self._ids().items()
            }
        pieces: dict[int, bytes] = self._made["pieces"]
        return pieces

    def _bytes_of_ids(self) -> list[bytes]:
        pieces = self._pieces()
        special = set(self.special_token_ids)
        return [
            b"" if id in special else pieces.get(id, b"")
            for id in range(max(pieces, default=-1) + 1)
        ]

    def _encoder(self) -> Any:  # noqa: ANN401
        """The encoder of the tokenizers library, with an id for every symbol it may meet."""
        if "encoder" not in self._made:
            ids = self._ids()
            merges = [_split(merge) for merge in self.merges or ()]
            unknown = _symbols_without_ids(ids, merges)
            self._made["unknown"] = unknown
            self._made["first_unknown"] = min(unknown, default=None)
            self._made["encoder"] = _make_encoder(
                {**ids, **{symbol: id for id, symbol in unknown.items()}},
                merges,
                add_prefix_space=self.add_prefix_space,
                unsplittable=self.unsplittable_tokens,
                lstrip=self.lstrip_tokens,
            )
        return self._made["encoder"]

    def _without_unknown(self, ids: list[int]) -> list[int]:
        first = self._made["first_unknown"]
        if first is None or not ids or max(ids) < first:
            return ids
        if not self._has_warned:
            self._has_warned = True
            symbol = self._made["unknown"][next(id for id in ids if id >= first)]
            warnings.warn(
                f"tokenize: symbols must be in the vocabulary, got {symbol!r}, which is left out, "
                "as are others from now on",
                stacklevel=stack_level(),
            )
        return [id for id in ids if id < first]


def _split(merge: str) -> tuple[str, str]:
    first, second = merge.split(" ")
    return first, second


def _symbols_without_ids(
    ids: Mapping[str, int], merges: Iterable[tuple[str, str]]
) -> dict[int, str]:
    """Gives ids above all others to bytes, parts and results that have none."""
    symbols = dict.fromkeys(byte_symbols())
    for first, second in merges:
        symbols[first] = symbols[second] = symbols[first + second] = None
    start = max(ids.values(), default=-1) + 1
    return dict(enumerate((symbol for symbol in symbols if symbol not in ids), start))


def _make_encoder(
    ids: dict[str, int],
    merges: list[tuple[str, str]],
    *,
    add_prefix_space: bool,
    unsplittable: list[str],
    lstrip: tuple[str, ...],
) -> Any:  # noqa: ANN401
    try:
        import tokenizers
    except ImportError as error:
        raise ImportError(
            "tokenizers: must be installed for byte-pair encoding, got no such package. "
            "Run: pip install tokenizers"
        ) from error

    encoder = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=ids, merges=merges))
    encoder.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
        add_prefix_space=add_prefix_space, use_regex=True
    )
    encoder.add_special_tokens(
        [
            tokenizers.AddedToken(token, normalized=False, special=True, lstrip=token in lstrip)
            for token in unsplittable
        ]
    )
    return encoder
