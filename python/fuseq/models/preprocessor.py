# SPDX-License-Identifier: Apache-2.0
"""Preprocessor: what turns texts into ids and ids into texts, for one kind of task."""

import glob
import json
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from fuseq import _core
from fuseq.models.backbone import default_name
from fuseq.models.families import FAMILIES
from fuseq.models.folders import open_folder
from fuseq.models.registry import find_subclass
from fuseq.presets import keras_format, keras_objects
from fuseq.presets.family import KerasClass
from fuseq.presets.keras_objects import PREPROCESSOR_FILE
from fuseq.presets.load import Preset
from fuseq.tokenizers import Tokenizer
from fuseq.tokenizers.folder import asset_path

P = TypeVar("P", bound="Preprocessor")
Texts = Mapping[str, Sequence[str]]

MAX_LENGTH = 1024  # tokens of a row, where nobody says otherwise
_MAX_ID = 2**31 - 1


class Preprocessor:
    """Base of all preprocessors.

    Attributes:
        tokenizer: Does the words; None where the preset has none.
        name: As Keras names layers.
    """

    family: ClassVar[str] = ""
    text_keys: ClassVar[tuple[str, ...]] = ("text",)  # of inputs; the first one must be there

    # Constructor arguments that are written, beside the tokenizer.
    _arguments: ClassVar[tuple[str, ...]] = ()

    def __init__(self, tokenizer: Tokenizer, *, name: str | None = None) -> None:
        """Keeps the arguments."""
        if not isinstance(tokenizer, Tokenizer):
            raise TypeError(
                f"{type(self).__name__}: tokenizer must be a fuseq.tokenizers.Tokenizer, got "
                f"{type(tokenizer).__name__}"
            )
        self.tokenizer = tokenizer
        self.name = name or default_name(type(self).__name__)

    @property
    def start_id(self) -> int:
        """The tokenizer's start token.

        Raises:
            ValueError: It has none.
        """
        return self._special_id("start")

    @property
    def end_id(self) -> int:
        """The tokenizer's end token.

        Raises:
            ValueError: It has none.
        """
        return self._special_id("end")

    @property
    def pad_id(self) -> int:
        """The tokenizer's pad token.

        Raises:
            ValueError: It has none.
        """
        return self._special_id("pad")

    def _special_id(self, which: str) -> int:
        id = getattr(self.tokenizer, f"{which}_token_id")
        if id is None:
            raise ValueError(
                f"{type(self).__name__}: the tokenizer must have a {which} token, got none"
            )
        return int(id)

    def rows_of(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of texts, of any length, without special ones in front or behind."""
        return self.tokenizer.tokenize_texts(list(texts))

    @property
    def sequence_length(self) -> int:
        """The longest row that is generated or trained on, in tokens."""
        raise NotImplementedError(f"{type(self).__name__}: must have a sequence_length")

    def prompts(self, texts: Texts, **lengths: int | None) -> list[_core.Prompt]:
        """What the engine starts from.

        Args:
            texts: Lists of texts of one length by their keys.
            **lengths: Of this call alone, in tokens.

        Returns:
            One prompt for each text.
        """
        raise NotImplementedError(f"{type(self).__name__}: must override prompts")

    def text_of(self, ids: Iterable[int]) -> str:
        """The text of a row, without start, end and pad tokens."""
        special = set(self.tokenizer.special_token_ids)
        kept = [id for id in ids if id not in special]
        # A model may have rows beyond the vocabulary, whose ids stand for nothing.
        return str(self.tokenizer.detokenize(kept, skip_unknown=True))

    def texts_of(self, ids: npt.ArrayLike, mask: npt.ArrayLike) -> str | list[str]:
        """The texts of rows [B, T], or of one row [T], where a mask is True."""
        rows, given = np.asarray(ids), np.asarray(mask).astype(np.bool_)
        if rows.shape != given.shape or rows.ndim not in (1, 2):
            raise ValueError(
                f"generate_postprocess: ids and mask must have one shape [B, T], got "
                f"{list(rows.shape)} and {list(given.shape)}"
            )
        if rows.ndim == 1:
            return self.text_of(rows[given].tolist())
        return [self.text_of(row[cells].tolist()) for row, cells in zip(rows, given, strict=True)]

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor that make an equal preprocessor of the same tokenizer.

        Returns:
            Values by the arguments' names; the tokenizer is not among them.
        """
        return {"name": self.name, **{name: getattr(self, name) for name in self._arguments}}

    @classmethod
    def from_config(cls: type[P], config: Mapping[str, Any], tokenizer: Tokenizer) -> P:
        """Makes a preprocessor from what `get_config` returned, or KerasHub wrote.

        Args:
            config: Arguments; what only Keras needs is passed over.
            tokenizer: Does the words.

        Returns:
            The preprocessor.
        """
        known = ("name", *cls._arguments)
        return cls(tokenizer, **{key: config[key] for key in known if key in config})

    @classmethod
    def from_preset(
        cls: type[P],
        preset: str | PathLike[str],
        **kwargs: Any,  # noqa: ANN401
    ) -> P:
        """Loads a preset's preprocessor.

        Args:
            preset: A built-in name, a `kaggle://` or `hf://` handle, or a folder.
            **kwargs: Arguments of the constructor, in place of those of the preset.

        Returns:
            A preprocessor of the preset's family.

        Raises:
            FileNotFoundError: There is no such preset, or it has no tokenizer.
            ValueError: The preset is of another family, or not what it should be.
            TypeError: An argument is not known.
        """
        folder = open_folder(preset)
        kind = find_subclass(cls, str(folder.read_spec().get("family")), preset)
        found = kind.load(folder, kwargs)
        if found is None:
            raise FileNotFoundError(
                f"from_preset: preset '{preset}' must hold a tokenizer, got none"
            )
        return found

    @classmethod
    def load(cls: type[P], preset: Preset, changes: Mapping[str, Any]) -> P | None:
        """Reads the preprocessor of a folder; None where it has no tokenizer."""
        from fuseq import tokenizers

        tokenizer = tokenizers.load(preset.folder)
        path = preset.folder / PREPROCESSOR_FILE
        if tokenizer is None and preset.form != "transformers" and path.is_file():
            raise ValueError(
                f'load "{path}": a tokenizer that fuseq can read must lie beside it, got none'
            )
        if tokenizer is None:
            return None
        written: Mapping[str, Any] = {}
        if preset.form != "transformers":
            config = keras_format.read_object(preset.folder, PREPROCESSOR_FILE) or {}
            written = config.get("config") or {}
        else:
            written = cls._transformers_config(preset)
        kept = {key: value for key, value in written.items() if key in ("name", *cls._arguments)}
        try:
            return cls(tokenizer, **{**kept, **changes})
        except ValueError as error:
            is_written = any(f": {name} must" in str(error) for name in kept.keys() - changes)
            if not is_written or preset.form == "transformers":
                raise
            raise ValueError(f'load "{path}": {error}') from error

    @classmethod
    def _transformers_config(cls, preset: Preset) -> Mapping[str, Any]:
        """Arguments that make the preprocessor follow transformers."""
        del preset
        return {}

    def save_to_preset(self, preset_dir: str | PathLike[str]) -> None:
        """Writes the preprocessor and its tokenizer into a folder.

        Args:
            preset_dir: The folder; other files in it are kept, but for those of an old tokenizer in
                the folder of its assets.

        Raises:
            OSError: The system refused to write; an old folder is left as it was.
            ValueError: The class is a base, which serves no family.
        """
        assets = asset_path(self.tokenizer.config_file)
        _core.save_folder(preset_dir, self.write_files, (glob.escape(str(assets)),))

    def write_files(self, folder: Path) -> None:
        """Writes `preprocessor.json`, `tokenizer.json` and the vocabulary."""
        family = FAMILIES.get(self.family)
        if family is None or family.keras is None:
            raise ValueError(
                "save_to_preset: the preprocessor must be of a family's class, such as "
                f"GPT2CausalLMPreprocessor, got {type(self).__name__}"
            )
        tables = family.keras
        known = KerasClass(type(self).__name__, tables.preprocessor.module, self.name)
        config = {"tokenizer": None, "config_file": PREPROCESSOR_FILE, **self.get_config()}
        text = json.dumps(keras_objects.make_object(known, config, dtype="float32"), indent=4)
        (folder / PREPROCESSOR_FILE).write_text(text + "\n", encoding="utf-8")
        self.tokenizer.save_to_preset(folder)


def checked_length(owner: object, name: str, value: object) -> int:
    """A length in tokens.

    Raises:
        ValueError: It is not a positive whole number.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(
            f"{type(owner).__name__}: {name} must be a positive whole number of tokens, got "
            f"{value!r}"
        )
    return int(value)


def length_of_call(owner: object, default: int, **given: object) -> int:
    """The first length that a call gives, in tokens; None stands for one that is not given.

    Raises:
        ValueError: One of them is not a positive whole number.
    """
    lengths = [
        checked_length(owner, name, value) for name, value in given.items() if value is not None
    ]
    return lengths[0] if lengths else default


def checked_ids(owner: object, name: str, value: object) -> list[int] | None:
    """Ids of tokens; None stays None.

    Raises:
        ValueError: They are not whole numbers >= 0 of 32 bits.
    """
    if value is None:
        return None
    ids: list[Any] = [None]
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping):
        ids = list(value)
    for id in ids:
        is_whole = isinstance(id, int | np.integer) and not isinstance(id, bool)
        if not is_whole or not 0 <= id <= _MAX_ID:
            raise ValueError(
                f"{type(owner).__name__}: {name} must be a list of whole numbers >= 0, got "
                f"{value!r}"
            )
    return [int(id) for id in ids]
