# SPDX-License-Identifier: Apache-2.0
"""Any `tokenizer.json` of the tokenizers library."""

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

from fuseq.tokenizers.byte_level import token_to_bytes
from fuseq.tokenizers.files import read_text, write_file
from fuseq.tokenizers.inputs import to_id
from fuseq.tokenizers.settings import check_token, check_tokens
from fuseq.tokenizers.tokenizer import Tokenizer

DEFINITION_FILE = "tokenizer.json"
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class PretrainedTokenizer(Tokenizer):
    """The face of a tokenizer of the tokenizers library.

    What its template would put around a text is left out, as in every tokenizer here.

    Args:
        definition: A `tokenizer.json` of that library. None: it is set later.
        sequence_length: All rows are cut or padded to this length; None: rows keep their own.
        start_token: Begins a text; None: no token does.
        end_token: Ends a text.
        pad_token: Fills rows.
        additional_special_tokens: Other tokens that are no text.
        dtype: That of the ids, "string" for tokens instead of ids.
        name: Kept for KerasHub.
        trainable: Kept for KerasHub.
        config_file: The file that `save_to_preset` writes the settings to.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not such a file, or lacks a special token.

    Example:
        >>> PretrainedTokenizer(sequence_length=8)
        PretrainedTokenizer(sequence_length=8)
    """

    def __init__(
        self,
        definition: str | PathLike[str] | None = None,
        sequence_length: int | None = None,
        *,
        start_token: str | None = None,
        end_token: str | None = None,
        pad_token: str | None = None,
        additional_special_tokens: Iterable[str] = (),
        dtype: object = "int32",
        name: str | None = None,
        trainable: bool = True,
        config_file: str = "tokenizer.json",
    ) -> None:
        """Keeps the settings and reads the file."""
        super().__init__(
            sequence_length=sequence_length,
            dtype=dtype,
            name=name,
            trainable=trainable,
            config_file=config_file,
        )
        self.start_token = check_token(start_token, "start_token")
        self.end_token = check_token(end_token, "end_token")
        self.pad_token = check_token(pad_token, "pad_token")
        self.additional_special_tokens = tuple(
            check_tokens(additional_special_tokens, "additional_special_tokens")
        )
        self._definition: str | None = None
        if definition is not None:
            self.set_definition(definition)

    def set_definition(self, definition: str | PathLike[str]) -> None:
        """Sets the definition.

        Args:
            definition: A `tokenizer.json` of the tokenizers library.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is not such a file, or lacks a special token.
        """
        self._made = {}
        self._definition = read_text(Path(definition))
        try:
            self._encoder()
            self._check_special_tokens()
        except ValueError as error:
            self._definition = None
            raise ValueError(f'"{definition}": {error}') from error

    def tokenize_text(self, text: str) -> list[int]:
        """Turns one text into ids.

        Args:
            text: May be empty.

        Returns:
            The ids.
        """
        encoder = self._encoder()
        with _as_value_error("tokenize: the definition must know how to encode the text"):
            ids: list[int] = encoder.encode(text, add_special_tokens=False).ids
        return ids

    def tokenize_texts(self, texts: list[str]) -> list[list[int]]:
        """Turns many texts into ids, on all threads.

        Args:
            texts: May be empty.

        Returns:
            The ids of each.
        """
        encoder = self._encoder()
        if len(texts) == 1:
            return [self.tokenize_text(texts[0])]
        encode = getattr(encoder, "encode_batch_fast", encoder.encode_batch)
        with _as_value_error("tokenize: the definition must know how to encode the texts"):
            return [row.ids for row in encode(texts, add_special_tokens=False)]

    def detokenize_ids(self, ids: list[int]) -> str:
        """Turns ids into text.

        Args:
            ids: Ids of the vocabulary.

        Returns:
            The text.
        """
        text: str = self._encoder().decode(ids, skip_special_tokens=False)
        return text

    def get_vocabulary(self) -> list[str]:
        """The tokens in the order of their ids."""
        return list(self._ids())

    def vocabulary_size(self) -> int:
        """How many tokens there are; ids may be larger where there are holes."""
        return len(self._ids())

    def has_id(self, id: int) -> bool:
        """Whether a token has this id; what is no whole number is no id."""
        try:
            return to_id(id) in self._tokens()
        except TypeError:
            return False

    def id_to_token(self, id: int) -> str:
        """Finds the token of an id; ValueError where there is none."""
        number = to_id(id)
        if not self.has_id(number):
            raise self._unknown_id(number, "id")
        return self._tokens()[number]

    def token_to_id(self, token: str) -> int:
        """Finds the id of a token; ValueError where there is none."""
        found = self._ids().get(token)
        if found is None:
            raise self._unknown_token(token)
        return found

    def get_config(self) -> dict[str, Any]:
        """The settings; the definition is an asset."""
        return {
            **super().get_config(),
            "start_token": self.start_token,
            "end_token": self.end_token,
            "pad_token": self.pad_token,
            "additional_special_tokens": list(self.additional_special_tokens),
        }

    def save_assets(self, dir_path: str | PathLike[str]) -> None:
        """Writes the definition as `tokenizer.json`.

        Args:
            dir_path: The folder.

        Raises:
            ValueError: There is no definition yet.
        """
        self._encoder()
        write_file(Path(dir_path) / DEFINITION_FILE, self._definition or "")

    def load_assets(self, dir_path: str | PathLike[str]) -> None:
        """Reads `tokenizer.json`.

        Args:
            dir_path: The folder.

        Raises:
            FileNotFoundError: The file is missing.
            ValueError: The file is not a definition, or lacks a special token.
        """
        self.set_definition(Path(dir_path) / DEFINITION_FILE)

    def _ids(self) -> dict[str, int]:
        encoder = self._encoder()
        if "ids" not in self._made:
            ids: dict[str, int] = encoder.get_vocab(with_added_tokens=True)
            self._made["ids"] = dict(sorted(ids.items(), key=lambda item: item[1]))
        found: dict[str, int] = self._made["ids"]
        return found

    def _tokens(self) -> dict[int, str]:
        if "tokens" not in self._made:
            self._made["tokens"] = {id: token for token, id in self._ids().items()}
        found: dict[int, str] = self._made["tokens"]
        return found

    def _bytes_of_ids(self) -> list[bytes]:
        """What each token adds after a word: a decoder may drop the blank before a first token."""
        tokens = self._tokens()
        encoder = self._encoder()
        kinds = _decoder_kinds(json.loads(self._definition or "{}").get("decoder"))
        special = set(self.special_token_ids)
        pieces = [b""] * (max(tokens, default=-1) + 1)
        plain = [id for id in tokens if id not in special]
        before = next((id for id in plain if tokens[id].isalpha() and tokens[id].isascii()), None)
        start = [] if before is None else [before]
        length = len(encoder.decode(start, skip_special_tokens=False))
        rows = [[*start, id] for id in plain]
        texts = encoder.decode_batch(rows, skip_special_tokens=False)
        for id, text in zip(plain, texts, strict=True):
            byte = _BYTE.fullmatch(tokens[id])
            if "ByteLevel" in kinds:
                pieces[id] = token_to_bytes(tokens[id])
            elif byte and "ByteFallback" in kinds:
                pieces[id] = bytes.fromhex(byte[1])
            else:
                pieces[id] = text[length:].encode("utf-8")
        return pieces

    def _encoder(self) -> Any:  # noqa: ANN401
        if self._definition is None:
            raise ValueError(
                f"{type(self).__name__}: must have a vocabulary, got none. "
                "Pass definition, or call load_assets"
            )
        if "encoder" not in self._made:
            self._made["encoder"] = _make_encoder(self._definition)
        return self._made["encoder"]


def _decoder_kinds(decoder: object) -> set[str]:
    """The types of a decoder and of those it is made of."""
    if not isinstance(decoder, dict):
        return set()
    listed = decoder.get("decoders")
    parts = [_decoder_kinds(part) for part in listed] if isinstance(listed, list) else []
    return {str(decoder.get("type"))}.union(*parts)


@contextmanager
def _as_value_error(must: str) -> Iterator[None]:
    """Errors of the library as ours; its panics too, which are no Exception and have no class."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ValueError(f"{must}, got {error}") from error


def _make_encoder(definition: str) -> Any:  # noqa: ANN401
    try:
        import tokenizers
    except ImportError as error:
        raise ImportError(
            "tokenizers: must be installed for a tokenizer.json, got no such package. "
            "Run: pip install tokenizers"
        ) from error
    with _as_value_error("must be a file of the tokenizers library"):
        encoder = tokenizers.Tokenizer.from_str(definition)
    encoder.no_truncation()
    encoder.no_padding()
    return encoder
