# SPDX-License-Identifier: Apache-2.0
"""Recognises what a folder holds and loads it."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy, deepcopy
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from fuseq import _core
from fuseq._core import GenerationOptions, Model
from fuseq.presets import generation_config, keras_format, native_format, transformers_format
from fuseq.presets.checkpoint import read_json
from fuseq.presets.family import Family, Spec

Form = Literal["keras_hub", "transformers", "fuseq"]
_ARGUMENTS = ("dtype:", "num_threads:", "cpu_isa:")  # what the caller of load_model gave
_MAX_ID = 2**31 - 1

Rules = Literal["keras_hub", "transformers"]  # whose rules a task follows


@dataclass(frozen=True)
class Preset:
    """A folder whose form is known.

    Attributes:
        folder: Holds the files.
        form: Whose form they have.
        families: The known families by their word in `config.json`.
    """

    folder: Path
    form: Form
    families: Mapping[str, Family]

    def read_spec(self) -> Spec:
        """The spec, without what only the weights tell (a head bias, a head of its own).

        Returns:
            The caller's own copy; the files are read once.

        Raises:
            FileNotFoundError: A file is not there.
            ValueError: A file is not what it should be; the message names it, or the folder.
        """
        return deepcopy(self._spec)

    @cached_property  # it writes past the frozen class's __setattr__
    def _spec(self) -> Spec:
        with _naming(self.folder):
            return self._read_spec()

    def _read_spec(self) -> Spec:
        if self.form == "fuseq":
            found = native_format.read_spec(self.folder)
            if not found.get("family"):
                path = self.folder / native_format.SPEC_FILE
                raise ValueError(
                    f'load "{path}": family must be a word such as '
                    f"{' or '.join(self.families)}, got none. fuseq.load_model needs none"
                )
            return found
        if self.form == "keras_hub":
            return keras_format.read_spec(self.folder, self.families)
        spec = transformers_format.read_spec(self.folder, self.families)
        whole: Spec = json.loads(_core.validate_spec(json.dumps(spec)))
        return whole

    def load_model(
        self, *, dtype: str | None, num_threads: int | None, cpu_isa: str = "automatic"
    ) -> Model:
        """The model, its weights packed.

        Args:
            dtype: "float32", "bfloat16", "int8" or None: what the policy of a KerasHub preset
                says; else bfloat16 or int8 if stored so, else float32.
            num_threads: Threads, or None for those of the machine.
            cpu_isa: "automatic", "avx512", "avx2" or "portable".

        Returns:
            The model.

        Raises:
            FileNotFoundError: A file is not there.
            ValueError: A file is not what it should be; the message names it, or the folder.
            ImportError: A package that reads the form is not installed.
        """
        options: dict[str, Any] = {"dtype": dtype, "num_threads": num_threads, "cpu_isa": cpu_isa}
        with _naming(self.folder):
            if self.form == "fuseq":
                return native_format.load_model(self.folder, **options)
            if self.form == "keras_hub":
                spec = self.read_spec()
                return keras_format.load_model(self.folder, self.families, spec=spec, **options)
            return transformers_format.load_model(self.folder, self.families, **options)

    def stored_dtype(self) -> str | None:
        """The dtype that the folder asks for; None: that of the weights."""
        if self.form == "fuseq":
            return native_format.read_dtype(self.folder)
        return keras_format.read_dtype(self.folder) if self.form == "keras_hub" else None

    def rules(self) -> Rules:
        """Whose rules a task of the folder follows; our own folder remembers where it came from."""
        if self.form != "fuseq":
            return self.form
        return native_format.read_rules(self.folder)

    def read_generation_config(self) -> dict[str, Any] | None:
        """`generation_config.json` of transformers as it is; None where there is none."""
        path = self.folder / transformers_format.GENERATION_FILE
        if self.form != "transformers" or not path.is_file():
            return None
        return read_json(path)

    def read_start_ids(self) -> list[int]:
        """`decoder_start_token_id` of transformers, then `forced_bos_token_id` if there is one."""
        config = read_json(self.folder / transformers_format.CONFIG_FILE)
        settings = self.read_generation_config() or {}
        ids = []
        for name in ("decoder_start_token_id", "forced_bos_token_id"):
            value = {**config, **settings}.get(name)
            if value is None and name == "decoder_start_token_id":
                start = self.read_spec()["decoder_start_id"]
                value = start if start >= 0 else None
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_ID:
                file = transformers_format.CONFIG_FILE
                if name in settings:
                    file = transformers_format.GENERATION_FILE
                raise ValueError(
                    f'load "{self.folder / file}": {name} must be a whole number >= 0 of 32 bits, '
                    f"got {value!r}"
                )
            ids.append(value)
        return ids

    def load_generation_options(
        self, *, is_seq2seq: bool | None = None
    ) -> GenerationOptions | None:
        """The generation settings of the folder; a KerasHub preset has none."""
        if self.form == "fuseq":
            return native_format.load_generation_options(self.folder)
        if self.form == "keras_hub":
            return None
        fields = generation_config.read_generation_config(self.folder, is_seq2seq=is_seq2seq)
        return None if fields is None else GenerationOptions(**fields)


def open_preset(folder: str | PathLike[str], families: Mapping[str, Family]) -> Preset:
    """Tells whose form a folder has by its files.

    Args:
        folder: Holds `spec.json` (ours), or a `config.json` of KerasHub or of transformers.
        families: The known families by their word in `config.json`.

    Returns:
        What reads the folder.

    Raises:
        FileNotFoundError: The folder is not there or holds neither file.
        ValueError: `config.json` is not what it should be.
    """
    path = Path(folder)
    if (path / native_format.SPEC_FILE).is_file():
        return Preset(path, "fuseq", families)
    if (path / transformers_format.CONFIG_FILE).is_file():
        is_keras = keras_format.is_keras_preset(path)
        return Preset(path, "keras_hub" if is_keras else "transformers", families)
    found = "no such folder" if not path.is_dir() else "neither"
    raise FileNotFoundError(
        f'load "{path}": the folder must hold {native_format.SPEC_FILE} (ours) or '
        f"{transformers_format.CONFIG_FILE} (KerasHub or transformers), got {found}"
    )


@contextmanager
def _naming(folder: Path) -> Iterator[None]:
    """Puts the folder's name in front of errors that do not have it.

    The engine tells some specs that it cannot run by a RuntimeError or a TypeError; a file that
    holds one is a wrong file.
    """
    try:
        yield
    except (ValueError, RuntimeError, TypeError) as error:
        text = str(error)
        if str(folder) in text and isinstance(error, ValueError):
            raise
        if text.startswith(_ARGUMENTS):
            raise
        where = "" if str(folder) in text else f'load "{folder}": '
        raise ValueError(f"{where}{text}") from error


def merge_options(base: GenerationOptions | None, fields: Mapping[str, Any]) -> GenerationOptions:
    """Settings with some fields given anew.

    Args:
        base: Left as it is; None: the defaults.
        fields: New values by name; None stands for a field that is not given. A length in rows and
            one in new tokens exclude each other: the one given here wins. So it does over a least
            length of the base that is beyond it.

    Returns:
        New options.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    options = copy(base) if base is not None else GenerationOptions()
    for one, other in (("max_length", "max_new_tokens"), ("max_new_tokens", "max_length")):
        if one in given and other not in given:
            setattr(options, other, None)
    for longest, least in (("max_length", "min_length"), ("max_new_tokens", "min_new_tokens")):
        if least not in given and 0 < given.get(longest, 0) < getattr(options, least):
            setattr(options, least, given[longest])
    for name, value in given.items():
        setattr(options, name, value)
    return options
