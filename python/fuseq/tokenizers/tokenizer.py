# SPDX-License-Identifier: Apache-2.0
"""What all tokenizers share, and the class to derive your own from."""

import re
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from fuseq._core import TokenBytes
from fuseq.tokenizers.inputs import to_id, to_id_rows, to_texts
from fuseq.tokenizers.settings import check_config_file, check_sequence_length

CONFIG_FILE = "tokenizer.json"
ASSET_FOLDER = "assets"

T = TypeVar("T", bound="Tokenizer")


class Tokenizer:
    """Turns text into ids and back.

    A class of your own overrides three methods: `tokenize_text`, `detokenize_ids` and
    `get_vocabulary`. It may name special tokens in `start_token`, `end_token`, `pad_token` and
    `additional_special_tokens`; keep its settings with `get_config`, its files with `save_assets`
    and `load_assets`; and, to be faster, override `tokenize_texts`, `has_id`, `token_to_id`,
    `id_to_token`, `vocabulary_size` and `token_bytes`.

    Args:
        sequence_length: All rows are cut or padded to this length; None: rows keep their own.
        dtype: That of the ids, "string" for tokens instead of ids.
        name: Kept for KerasHub.
        trainable: Kept for KerasHub.
        config_file: The name of the file that `save_to_preset` writes the settings to.

    Raises:
        ValueError: `sequence_length`, `dtype` or `config_file` is not as said above.

    Example:
        >>> class Letters(Tokenizer):
        ...     end_token = "$"
        ...
        ...     def tokenize_text(self, text):
        ...         return [self.token_to_id(letter) for letter in text]
        ...
        ...     def detokenize_ids(self, ids):
        ...         return "".join(self.id_to_token(id) for id in ids)
        ...
        ...     def get_vocabulary(self):
        ...         return ["$", "a", "b"]
        >>> letters = Letters()
        >>> letters("abba").tolist()
        [1, 2, 2, 1]
        >>> letters(["ab", "b"])
        [[1, 2], [2]]
        >>> letters.detokenize([1, 2, 2, 1])
        'abba'
        >>> letters.end_token_id
        0
    """

    start_token: str | None = None
    end_token: str | None = None
    pad_token: str | None = None
    additional_special_tokens: tuple[str, ...] = ()

    def __init__(
        self,
        *,
        sequence_length: int | None = None,
        dtype: object = "int32",
        name: str | None = None,
        trainable: bool = True,
        config_file: str = CONFIG_FILE,
    ) -> None:
        """Keeps the settings."""
        self.sequence_length = check_sequence_length(sequence_length)
        self.dtype = _read_dtype(dtype)
        self.name = _snake_case(type(self).__name__) if name is None else name
        self.trainable = trainable
        self.config_file = check_config_file(config_file)
        self._made: dict[str, Any] = {}  # made from the rest when first needed; not pickled

    def tokenize_text(self, text: str) -> list[int]:
        """Turns one text into ids; override it.

        Args:
            text: May be empty.

        Returns:
            The ids.
        """
        raise NotImplementedError(f"{type(self).__name__}: must override tokenize_text")

    def detokenize_ids(self, ids: list[int]) -> str:
        """Turns one row of ids into text; override it.

        Args:
            ids: All of them ids of the vocabulary.

        Returns:
            The text.
        """
        raise NotImplementedError(f"{type(self).__name__}: must override detokenize_ids")

    def get_vocabulary(self) -> list[str]:
        """The tokens in the order of their ids; override it.

        Returns:
            The tokens. Where ids have holes, as they may in a `BytePairTokenizer`, a token's place
            is not its id.
        """
        raise NotImplementedError(f"{type(self).__name__}: must override get_vocabulary")

    def tokenize_texts(self, texts: list[str]) -> list[list[int]]:
        """Turns many texts into ids.

        Args:
            texts: May be empty.

        Returns:
            The ids of each.
        """
        return [list(self.tokenize_text(text)) for text in texts]

    @overload
    def tokenize(self, inputs: str | bytes) -> NDArray[Any]: ...
    @overload
    def tokenize(
        self, inputs: Sequence[str] | Sequence[bytes] | NDArray[Any]
    ) -> list[list[Any]] | NDArray[Any]: ...
    def tokenize(self, inputs: object) -> list[list[Any]] | NDArray[Any]:
        """Turns texts into ids; no special token is added. Calling the tokenizer does the same.

        Args:
            inputs: A text, as str or as bytes in UTF-8, or a list, tuple or array of texts.

        Returns:
            For one text an array of rank 1. For many, a list of lists, or with `sequence_length` an
            array [B, sequence_length], cut or padded on the right. With dtype "string" tokens
            instead of ids.

        Raises:
            TypeError: The inputs are of another type.
            ValueError: Bytes are not UTF-8; or an id is too large for the dtype; or there is no
                vocabulary yet.
        """
        texts, is_batch = to_texts(inputs)
        rows: list[list[Any]] = [list(row) for row in self.tokenize_texts(texts)]
        padding: int | str = self.pad_token_id or 0
        dtype: Any = self.dtype
        if dtype == "string":
            rows = [[self.id_to_token(id) for id in row] for row in rows]
            padding = ""
            dtype = np.object_
        else:
            _check_range(rows, dtype)
        length = self.sequence_length
        if length is not None:
            rows = [row[:length] + [padding] * (length - len(row)) for row in rows]
            if is_batch:
                return np.array(rows, dtype=dtype).reshape(len(rows), length)
        return rows if is_batch else np.array(rows[0], dtype=dtype)

    @overload
    def __call__(self, inputs: str | bytes) -> NDArray[Any]: ...
    @overload
    def __call__(
        self, inputs: Sequence[str] | Sequence[bytes] | NDArray[Any]
    ) -> list[list[Any]] | NDArray[Any]: ...
    def __call__(self, inputs: Any) -> list[list[Any]] | NDArray[Any]:
        """The same as `tokenize`."""
        rows: list[list[Any]] | NDArray[Any] = self.tokenize(inputs)
        return rows

    def detokenize(self, ids: object, *, skip_unknown: bool = False) -> str | list[str]:
        """Turns ids into text, special tokens into their names.

        Args:
            ids: One row of ids, or many; lists or arrays of any kind. One id is a row of one.
            skip_unknown: Leave out ids that are none of the vocabulary.

        Returns:
            A str for one row, a list for many. Bytes that are not UTF-8 become U+FFFD.

        Raises:
            TypeError: The ids are not whole numbers.
            ValueError: An id is none of the vocabulary; or there is no vocabulary yet.
        """
        rows, is_batch = to_id_rows(ids)
        texts = []
        for row in rows:
            known = [id for id in row if self.has_id(id)]
            if len(known) < len(row) and not skip_unknown:
                raise self._unknown_id(next(id for id in row if not self.has_id(id)), "ids")
            texts.append(self.detokenize_ids(known))
        return texts if is_batch else texts[0]

    def vocabulary_size(self) -> int:
        """How many tokens there are.

        Returns:
            Their number.
        """
        return len(self.get_vocabulary())

    def has_id(self, id: int) -> bool:
        """Whether a token has this id.

        Args:
            id: Any whole number, of any type; anything else is no id.

        Returns:
            True if it has.
        """
        try:
            return 0 <= to_id(id) < self.vocabulary_size()
        except TypeError:
            return False

    def id_to_token(self, id: int) -> str:
        """Finds the token of an id.

        Args:
            id: The id, a whole number of any type.

        Returns:
            The token.

        Raises:
            TypeError: It is not a whole number.
            ValueError: No token has this id.
        """
        number = to_id(id)
        if not self.has_id(number):
            raise self._unknown_id(number, "id")
        return self.get_vocabulary()[number]

    def token_to_id(self, token: str) -> int:
        """Finds the id of a token.

        Args:
            token: The token.

        Returns:
            The id.

        Raises:
            ValueError: There is no such token.
        """
        try:
            return self.get_vocabulary().index(token)
        except ValueError:
            raise self._unknown_token(token) from None

    @property
    def start_token_id(self) -> int | None:
        """The id of `start_token`, None where there is none."""
        return None if self.start_token is None else self.token_to_id(self.start_token)

    @property
    def end_token_id(self) -> int | None:
        """The id of `end_token`, None where there is none."""
        return None if self.end_token is None else self.token_to_id(self.end_token)

    @property
    def pad_token_id(self) -> int | None:
        """The id that fills rows, None where there is none."""
        return None if self.pad_token is None else self.token_to_id(self.pad_token)

    @property
    def special_tokens(self) -> list[str]:
        """The tokens that are no text: start, end, pad, then the additional ones."""
        named = (self.start_token, self.end_token, self.pad_token, *self.additional_special_tokens)
        return list(dict.fromkeys(token for token in named if token is not None))

    @property
    def special_token_ids(self) -> list[int]:
        """The ids of `special_tokens`."""
        return [self.token_to_id(token) for token in self.special_tokens]

    def token_bytes(self) -> TokenBytes:
        """What every id stands for, for streamed text and stop strings; made once.

        Returns:
            Bytes for every id up to the largest; none for special tokens.
        """
        if "token_bytes" not in self._made:
            self._made["token_bytes"] = TokenBytes(self._bytes_of_ids())
        made: TokenBytes = self._made["token_bytes"]
        return made

    def _bytes_of_ids(self) -> list[bytes]:
        special = set(self.special_token_ids)
        return [
            b"" if id in special else str(self.detokenize([id])).encode("utf-8")
            for id in range(self.vocabulary_size())
        ]

    def get_own_config(self) -> dict[str, Any]:
        """The settings that KerasHub does not have; they are written beside its own.

        Returns:
            Values by the constructor's arguments.
        """
        return {}

    def get_config(self) -> dict[str, Any]:
        """The settings, with KerasHub's names; not those of `get_own_config`.

        Returns:
            A dict for `from_config`; `serialize` keeps all settings.
        """
        policy = {
            "module": "keras",
            "class_name": "DTypePolicy",
            "config": {"name": self.dtype},
            "registered_name": None,
        }
        return {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": policy,
            "config_file": self.config_file,
            "sequence_length": self.sequence_length,
        }

    @classmethod
    def from_config(cls: type[T], config: Mapping[str, Any]) -> T:
        """Makes a tokenizer from what `get_config` gave, here or in KerasHub or KerasNLP.

        Args:
            config: The settings; those that are not there keep their defaults.

        Returns:
            The tokenizer, without vocabulary where that is a file.

        Raises:
            TypeError: There is a setting that this class does not have.
        """
        return cls(**config)

    def save_assets(self, dir_path: str | PathLike[str]) -> None:
        """Writes the vocabulary's files; nothing where there are none.

        Args:
            dir_path: The folder.
        """

    def load_assets(self, dir_path: str | PathLike[str]) -> None:
        """Reads the vocabulary's files; nothing where there are none.

        Args:
            dir_path: The folder.
        """

    def save_to_preset(self, preset_dir: str | PathLike[str]) -> None:
        """Writes settings and vocabulary as KerasHub does.

        Args:
            preset_dir: The folder; made if need be.
        """
        from fuseq.tokenizers.folder import save

        save(self, Path(preset_dir))

    @classmethod
    def from_preset(
        cls: type[T],
        preset: str | PathLike[str],
        *,
        config_file: str = CONFIG_FILE,
        **settings: Any,  # noqa: ANN401
    ) -> T:
        """Loads a tokenizer: the one of this class, or of a class below it.

        Args:
            preset: A folder of ours, of KerasHub or of transformers, or the name of one that
                `fuseq.hub` finds.
            config_file: The file of the settings.
            **settings: Settings that take the place of the folder's.

        Returns:
            The tokenizer.

        Raises:
            FileNotFoundError: There is no such folder, or it holds no tokenizer.
            TypeError: The class has no such setting.
            ValueError: The folder's tokenizer is of another class, or a file or a setting is wrong.
        """
        from fuseq.hub import locate
        from fuseq.tokenizers.folder import load_as

        return load_as(cls, locate(preset), config_file=config_file, settings=settings)

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: all but what can be made again."""
        return {**self.__dict__, "_made": {}}

    def __repr__(self) -> str:
        """The class and the setting that callers see."""
        return f"{type(self).__name__}(sequence_length={self.sequence_length})"

    def _check_special_tokens(self) -> None:
        """Raises if the vocabulary lacks one."""
        for token in self.special_tokens:
            try:
                found = self.has_id(self.token_to_id(token))
            except ValueError:
                found = False
            if not found:
                raise ValueError(
                    f"vocabulary: must hold {token!r}, a special token of {type(self).__name__}, "
                    f"got {self.vocabulary_size()} tokens without it"
                )

    def _unknown_id(self, id: int, name: str) -> ValueError:
        return ValueError(
            f"{name}: must be ids of the vocabulary, which has {self.vocabulary_size()} tokens, "
            f"got {id}"
        )

    def _unknown_token(self, token: object) -> ValueError:
        return ValueError(f"token: must be one of the vocabulary, got {token!r}")


def _read_dtype(dtype: object) -> str:
    """The name of a dtype that is given by name, as numpy's, or as Keras writes it."""
    if isinstance(dtype, Mapping):
        config = dtype.get("config") or {}
        if not isinstance(config, Mapping):
            raise ValueError(f"dtype: the config of a policy must be an object, got {config!r}")
        dtype = config.get("name")
    if dtype is None:
        return "int32"
    if dtype == "string":
        return "string"
    try:
        found = np.dtype(dtype)  # type: ignore[call-overload]
    except Exception:  # numpy reads some texts as code
        found = None
    if found is None or found.kind not in "iu":
        raise ValueError(f'dtype: must be a type of whole numbers or "string", got {dtype!r}')
    return str(found)


def _check_range(rows: list[list[Any]], dtype: str) -> None:
    largest = int(np.iinfo(dtype).max)
    if largest < np.iinfo(np.int32).max:
        found = max((id for row in rows for id in row), default=0)
        if found > largest:
            raise ValueError(f"dtype: must hold the ids, up to {largest} in {dtype}, got {found}")


def _snake_case(name: str) -> str:
    """The name that Keras gives: BartTokenizer is bart_tokenizer."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=.)(?=[A-Z][a-z])", "_", name).lower()
