# SPDX-License-Identifier: Apache-2.0
"""SentencePiece, the tokenizer of T5, Mistral and Gemma."""

import base64
import binascii
from os import PathLike
from pathlib import Path
from typing import Any

from fuseq.tokenizers.files import read_bytes, write_file
from fuseq.tokenizers.inputs import to_id
from fuseq.tokenizers.tokenizer import Tokenizer

PROTO_FILE = "vocabulary.spm"
_SHORTEST_BASE64 = 2048  # a shorter str is a path


class SentencePieceTokenizer(Tokenizer):
    """SentencePiece's own encoder over a model file.

    A class of your own names its special tokens in `start_token`, `end_token` and `pad_token`.

    Args:
        proto: The model: a file, its bytes, or these as base64. None: it is set later.
        sequence_length: All rows are cut or padded to this length; None: rows keep their own.
        dtype: That of the ids, "string" for tokens instead of ids.
        add_bos: Begin every row with the model's token for it.
        add_eos: End every row with the model's token for it.
        name: Kept for KerasHub.
        trainable: Kept for KerasHub.
        config_file: The file that `save_to_preset` writes the settings to.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The model is not one of SentencePiece, or lacks a special token.

    Example:
        >>> SentencePieceTokenizer(sequence_length=8)
        SentencePieceTokenizer(sequence_length=8)
    """

    def __init__(
        self,
        proto: str | bytes | PathLike[str] | None = None,
        sequence_length: int | None = None,
        dtype: object = "int32",
        add_bos: bool = False,
        add_eos: bool = False,
        *,
        name: str | None = None,
        trainable: bool = True,
        config_file: str = "tokenizer.json",
    ) -> None:
        """Keeps the settings and reads the model."""
        super().__init__(
            sequence_length=sequence_length,
            dtype=dtype,
            name=name,
            trainable=trainable,
            config_file=config_file,
        )
        self.add_bos = bool(add_bos)
        self.add_eos = bool(add_eos)
        self.proto: bytes | None = None
        self.set_proto(proto)

    def set_proto(self, proto: str | bytes | PathLike[str] | None) -> None:
        """Sets the model.

        Args:
            proto: As in the constructor.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: As in the constructor.
        """
        self._made = {}
        self.proto = None
        if proto is None:
            return
        self.proto = _read_proto(proto)
        try:
            self._processor()
            self._check_special_tokens()
        except Exception:
            self.proto = None
            raise

    def tokenize_text(self, text: str) -> list[int]:
        """Turns one text into ids.

        Args:
            text: May be empty.

        Returns:
            The ids.
        """
        return self.tokenize_texts([text])[0]

    def tokenize_texts(self, texts: list[str]) -> list[list[int]]:
        """Turns many texts into ids.

        Args:
            texts: May be empty.

        Returns:
            The ids of each.
        """
        rows: list[list[int]] = self._processor().encode(
            texts, out_type=int, add_bos=self.add_bos, add_eos=self.add_eos
        )
        return rows

    def detokenize_ids(self, ids: list[int]) -> str:
        """Turns ids into text.

        Args:
            ids: Ids of the vocabulary.

        Returns:
            The text.
        """
        text: str = self._processor().decode(ids) if ids else ""
        return text

    def get_vocabulary(self) -> list[str]:
        """The pieces in the order of their ids."""
        return list(self._token_ids())

    def vocabulary_size(self) -> int:
        """How many pieces there are."""
        return int(self._processor().get_piece_size())

    def id_to_token(self, id: int) -> str:
        """Finds the piece of an id; ValueError where there is none."""
        number = to_id(id)
        if not self.has_id(number):
            raise self._unknown_id(number, "id")
        return str(self._processor().id_to_piece(number))

    def token_to_id(self, token: str) -> int:
        """Finds the id of a piece; that of the unknown piece where there is none."""
        return self._token_ids().get(token, int(self._processor().unk_id()))

    def get_config(self) -> dict[str, Any]:
        """The settings, with KerasHub's names; the model is an asset."""
        return {
            **super().get_config(),
            "proto": None,
            "add_bos": self.add_bos,
            "add_eos": self.add_eos,
        }

    def save_assets(self, dir_path: str | PathLike[str]) -> None:
        """Writes `vocabulary.spm`.

        Args:
            dir_path: The folder.

        Raises:
            ValueError: There is no model yet.
        """
        self._processor()
        write_file(Path(dir_path) / PROTO_FILE, self.proto or b"")

    def load_assets(self, dir_path: str | PathLike[str]) -> None:
        """Reads `vocabulary.spm`.

        Args:
            dir_path: The folder.

        Raises:
            FileNotFoundError: The file is missing.
            ValueError: The file is not a model.
        """
        self.set_proto(Path(dir_path) / PROTO_FILE)

    def _check_special_tokens(self) -> None:
        for token in self.special_tokens:
            if token not in self._token_ids():
                raise ValueError(
                    f"proto: must hold {token!r}, a special token of {type(self).__name__}, "
                    f"got {self.vocabulary_size()} pieces without it"
                )

    def _token_ids(self) -> dict[str, int]:
        processor = self._processor()
        if "ids" not in self._made:
            pieces = [processor.id_to_piece(id) for id in range(processor.get_piece_size())]
            self._made["ids"] = {piece: id for id, piece in enumerate(pieces)}
        ids: dict[str, int] = self._made["ids"]
        return ids

    def _bytes_of_ids(self) -> list[bytes]:
        special = set(self.special_token_ids)
        processor = self._processor()
        return [
            b"" if id in special else _piece_to_bytes(processor, id)
            for id in range(self.vocabulary_size())
        ]

    def _processor(self) -> Any:  # noqa: ANN401
        if self.proto is None:
            raise ValueError(
                f"{type(self).__name__}: must have a vocabulary, got none. "
                "Pass proto, or call load_assets"
            )
        if "processor" not in self._made:
            self._made["processor"] = _make_processor(self.proto)
        return self._made["processor"]


def _make_processor(proto: bytes) -> Any:  # noqa: ANN401
    try:
        import sentencepiece
    except ImportError as error:
        raise ImportError(
            "sentencepiece: must be installed for SentencePiece models, got no such package. "
            "Run: pip install sentencepiece"
        ) from error
    try:
        return sentencepiece.SentencePieceProcessor(model_proto=proto)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"proto: must be a model of SentencePiece, got {error}") from error


def _read_proto(proto: object) -> bytes:
    if isinstance(proto, bytes):
        found = proto
    elif isinstance(proto, str) and len(proto) > _SHORTEST_BASE64:
        try:
            found = base64.b64decode(proto, validate=True)
        except binascii.Error as error:
            raise ValueError(f"proto: must be a file, bytes or base64, got {error}") from error
    elif isinstance(proto, str | PathLike):
        found = read_bytes(Path(proto))
    else:
        raise ValueError(f"proto: must be a file, bytes or base64, got {type(proto).__name__}")
    if not found:  # SentencePiece takes it for no model at all
        raise ValueError("proto: must be a model of SentencePiece, got no bytes")
    return found


def _piece_to_bytes(processor: Any, id: int) -> bytes:  # noqa: ANN401
    if processor.is_control(id) or processor.is_unused(id):
        return b""
    if processor.is_unknown(id):
        return str(processor.decode([id])).encode("utf-8")
    piece = str(processor.id_to_piece(id))
    if processor.is_byte(id):
        return bytes([int(piece[3:5], 16)])
    return piece.replace("▁", " ").encode("utf-8")
