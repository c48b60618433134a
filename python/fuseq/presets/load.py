# SPDX-License-Identifier: Apache-2.0
"""Recognises what a folder holds and loads it."""

import json
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from fuseq import _core
from fuseq._core import GenerationOptions, Model
from fuseq.presets import generation_config, keras_format, native_format, transformers_format
from fuseq.presets.checkpoint import read_json
from fuseq.presets.family import Family, Spec

Form = Literal["keras_hub", "transformers", "fuseq"]
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
        """The spec, without what only the weights tell (a head bias, a head of its own)."""
        if self.form == "fuseq":
            return native_format.read_spec(self.folder)
        if self.form == "keras_hub":
            return keras_format.read_spec(self.folder, self.families)
        spec = transformers_format.read_spec(self.folder, self.families)
        whole: Spec = json.loads(_core.validate_spec(json.dumps(spec)))
        return whole

    def load_model(
        self, *, dtype: str | None, num_threads: int | None, cpu_isa: str = "automatic"
    ) -> Model:
        """The model, its weights packed."""
        if self.form == "fuseq":
            return native_format.load_model(
                self.folder, dtype=dtype, num_threads=num_threads, cpu_isa=cpu_isa
            )
        load = (
            keras_format.load_model if self.form == "keras_hub" else transformers_format.load_model
        )
        return load(
            self.folder, self.families, dtype=dtype, num_threads=num_threads, cpu_isa=cpu_isa
        )

    def stored_dtype(self) -> str | None:
        """The dtype that the folder asks for; None: that of the weights."""
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
        fields = {**config, **(self.read_generation_config() or {})}
        start = fields.get("decoder_start_token_id")
        if start is None:
            start = self.read_spec()["decoder_start_id"]
        ids = [start, fields.get("forced_bos_token_id")]
        return [id for id in ids if isinstance(id, int) and id >= 0]

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


def merge_options(base: GenerationOptions | None, fields: Mapping[str, Any]) -> GenerationOptions:
    """Settings with some fields given anew.

    Args:
        base: Left as it is; None: the defaults.
        fields: New values by name; None stands for a field that is not given. A length in rows and
            one in new tokens exclude each other: the one given here wins.

    Returns:
        New options.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    options = copy(base) if base is not None else GenerationOptions()
    for one, other in (("max_length", "max_new_tokens"), ("max_new_tokens", "max_length")):
        if one in given and other not in given:
            setattr(options, other, None)
    for name, value in given.items():
        setattr(options, name, value)
    return options
