# SPDX-License-Identifier: Apache-2.0
"""Task: a backbone and a preprocessor, loaded from presets and saved to them."""

from collections.abc import Callable, Mapping
from copy import copy
from os import PathLike, fspath
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import numpy.typing as npt

from fuseq import hub
from fuseq._core import GenerationOptions
from fuseq.models import saving, summary
from fuseq.models.backbone import Backbone, default_name
from fuseq.models.families import FAMILIES
from fuseq.models.folders import check_engine_arguments, open_folder
from fuseq.models.preprocessor import Preprocessor
from fuseq.models.registry import find_subclass, load_families, serves
from fuseq.presets.load import Preset, Rules

T = TypeVar("T", bound="Task")
Format = Literal["keras_hub", "transformers", "fuseq"]

_LENGTHS = ("sequence_length", "encoder_sequence_length", "decoder_sequence_length")
_BACKBONE_ARGUMENTS = ("dtype", "num_threads")
_ARGUMENTS = (
    "backbone",
    "compile",
    "device",
    "name",
    "preprocessor",
    "trainable",
    *_BACKBONE_ARGUMENTS,
    *_LENGTHS,
)


class _Presets:
    """The class property `presets`."""

    def __get__(self, instance: object, owner: type["Task"]) -> dict[str, Any]:
        load_families()
        families = [family for family in FAMILIES if serves(owner, family)]
        return {
            name: row for family in families for name, row in hub.keras_hub_rows(family).items()
        }


class Task:
    """Base of all tasks.

    Attributes:
        presets: Built-in presets of the class by their names, as KerasHub shows them.
        name: As Keras names layers.
    """

    family: ClassVar[str] = ""
    backbone_cls: ClassVar[type[Backbone]] = Backbone
    preprocessor_cls: ClassVar[type[Preprocessor]] = Preprocessor
    presets: ClassVar[Any] = _Presets()

    def __init__(
        self,
        backbone: Backbone,
        preprocessor: Preprocessor | None = None,
        *,
        compile: bool = True,
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        """Puts a task together.

        Args:
            backbone: Of the task's family.
            preprocessor: Turns texts into ids; None: inputs are ids.
            compile: Whether to compile with the defaults.
            name: As Keras names layers.
            trainable: Whether training changes the weights; False freezes the backbone.

        Raises:
            TypeError: The backbone or the preprocessor is of another kind.
        """
        kind = type(self)
        if not self.family:
            raise TypeError(
                f"{kind.__name__}: must be a task of one family, got the base. Use from_preset, or "
                "a class such as BartSeq2SeqLM"
            )
        if not isinstance(backbone, self.backbone_cls):
            raise TypeError(
                f"{kind.__name__}: backbone must be a {self.backbone_cls.__name__}, got "
                f"{type(backbone).__name__}"
            )
        self._backbone = backbone
        if not trainable:
            self.trainable = False
        self.preprocessor = preprocessor
        self.name = name or default_name(kind.__name__)
        # The generation settings of the preset's folder, or why they cannot be used.
        self._settings: GenerationOptions | ValueError | None = None
        self._generation_config: Mapping[str, Any] | None = None
        if compile:
            self.compile()

    def compile(self) -> None:
        """Sets how the task trains and generates."""

    @property
    def backbone(self) -> Backbone:
        """The model without its task."""
        return self._backbone

    @property
    def trainable(self) -> bool:
        """Whether training changes the weights."""
        return self._backbone.trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._backbone.trainable = value

    @property
    def preprocessor(self) -> Preprocessor | None:
        """Turns texts into ids and back; None: inputs and outputs are ids."""
        return self._preprocessor

    @preprocessor.setter
    def preprocessor(self, value: Preprocessor | None) -> None:
        if value is not None and not isinstance(value, Preprocessor):
            raise TypeError(
                f"{type(self).__name__}: preprocessor must be a Preprocessor or None, got "
                f"{type(value).__name__}"
            )
        keys: Any = getattr(self, "keys", None)
        if value is not None and keys is not None and value.text_keys != keys.texts:
            raise TypeError(
                f"{type(self).__name__}: preprocessor must take {', '.join(keys.texts)}, got "
                f"{type(value).__name__} that takes {', '.join(value.text_keys)}"
            )
        self._preprocessor = value

    # ---- presets ----

    @classmethod
    def from_preset(
        cls: type[T],
        preset: str | PathLike[str],
        load_weights: bool = True,
        **kwargs: Any,  # noqa: ANN401
    ) -> T:
        """Loads a task.

        Args:
            preset: A built-in name (`presets` lists them), a handle `kaggle://user/model/keras/name`
                or `hf://user/model`, or a folder: of KerasHub, of transformers, or of fuseq.
            load_weights: Whether to read the weights; else they are drawn at random.
            **kwargs: `dtype` ("float32", "bfloat16", "int8" or a Keras policy; None: as stored),
                `device` ("cpu"), `num_threads`; `preprocessor` (None: inputs are ids),
                `sequence_length`, `encoder_sequence_length`, `decoder_sequence_length` in tokens;
                `backbone`, `compile`, `name`, `trainable` as the constructor has them.

        Returns:
            A task of the class, or of the class below it that serves the preset's family.

        Raises:
            FileNotFoundError: There is no such preset.
            ValueError: The preset is of another family, or not what it should be.
            TypeError: An argument is not known.
        """
        _check_arguments(cls, kwargs)
        folder = open_folder(preset)
        family = str(folder.read_spec().get("family"))
        kind = find_subclass(cls, family, preset)
        backbone = kwargs.get("backbone")
        if backbone is not None and (not load_weights or set(kwargs) & set(_BACKBONE_ARGUMENTS)):
            raise ValueError(
                f"{cls.__name__}.from_preset: load_weights, {', '.join(_BACKBONE_ARGUMENTS)} must "
                "come without backbone, got both"
            )
        if backbone is None:
            chosen = {key: kwargs[key] for key in _BACKBONE_ARGUMENTS if key in kwargs}
            backbone = kind.backbone_cls.load(folder, preset, load_weights=load_weights, **chosen)
        own = {key: kwargs[key] for key in ("name", "trainable") if key in kwargs}
        task = kind(backbone, _preprocessor(kind, folder, kwargs), compile=False, **own)
        task._read_settings(folder)
        if kwargs.get("compile", True):
            task.compile()
        return task

    def _read_settings(self, folder: Preset) -> None:
        self._generation_config = folder.read_generation_config()
        try:
            self._settings = folder.load_generation_options(is_seq2seq=self.backbone.is_seq2seq)
        except ValueError as error:  # said when they are asked for: the "preset" sampler
            self._settings = error

    @property
    def generation_config(self) -> Mapping[str, Any] | None:
        """Transformers' `generation_config.json` that the preset came with, as it is."""
        return self._generation_config

    def generation_settings(self) -> GenerationOptions | None:
        """The generation settings of the preset's folder.

        Returns:
            They, or None where the folder has none; a copy of yours to change.

        Raises:
            ValueError: The folder asks for what fuseq does not have.
        """
        if isinstance(self._settings, ValueError):
            raise ValueError(str(self._settings)) from self._settings
        return None if self._settings is None else self._settings.__copy__()

    def save_to_preset(
        self,
        preset_dir: str | PathLike[str],
        max_shard_size: float | None = 10,
        *,
        format: Format | None = None,
        generation_options: GenerationOptions | None = None,
    ) -> None:
        """Saves everything to a folder that `from_preset` reads.

        Args:
            preset_dir: The folder; it appears when all is written. Files of other kinds in it are
                kept.
            max_shard_size: Gigabytes of the largest file of weights in KerasHub's form; None: one
                file.
            format: None or "keras_hub": opened by KerasHub too; "transformers": by transformers
                too; "fuseq": by programs in C++ too, int8 without a copy.
            generation_options: What the sampler "preset", the command and programs in C++ do where
                nothing else is said; not in KerasHub's form. None: the settings that the task came
                with, if any.

        Raises:
            ValueError: The form cannot hold the model, as KerasHub's and transformers' no int8; the
                message names the fields and a form that can. Or the folder holds a preset of
                another form, or the form has no place for generation_options.
            OSError: The system refused to write; an old preset is left as it was.
        """
        saving.save(
            self, Path(preset_dir), format or "keras_hub", max_shard_size, generation_options
        )
        self._backbone.engine.stored_in(Path(preset_dir))

    def export_to_transformers(self, path: str | PathLike[str]) -> None:
        """Saves a folder that transformers' `AutoModel….from_pretrained` opens.

        Args:
            path: The folder, as `save_to_preset` takes it.

        Raises:
            ValueError: As `save_to_preset`.
            OSError: As `save_to_preset`.
        """
        saving.save(self, Path(path), "transformers", 10)

    def save_weights(self, path: str | PathLike[str]) -> None:
        """Writes the weights alone, as `Backbone.save_weights` says.

        Args:
            path: Ends in `.weights.h5` or `.safetensors`.
        """
        self._backbone.save_weights(path)

    def load_weights(self, path: str | PathLike[str]) -> None:
        """Reads weights alone, as `Backbone.load_weights` says.

        Args:
            path: Ends in `.weights.h5` or `.safetensors`.
        """
        self._backbone.load_weights(path)

    def quantize(
        self, mode: str | None = None, config: object = None, filters: object = None
    ) -> None:
        """Makes the matrices int8, as `Backbone.quantize` says.

        Args:
            mode: "int8".
            config: Not there; Keras has it.
            filters: Not there; Keras has it.

        Raises:
            ValueError: There is no such mode, or the weights are int8 already.
            NotImplementedError: Keras has the mode or the argument, and fuseq has not.
        """
        self._backbone.quantize(mode, config, filters)

    # ---- what it is ----

    def count_params(self) -> int:
        """The number of all weights.

        Returns:
            Their number.
        """
        return self._backbone.count_params()

    def summary(
        self,
        line_length: int | None = None,
        positions: object = None,
        print_fn: Callable[[str], object] | None = None,
    ) -> None:
        """Prints what the task is made of.

        Args:
            line_length: Columns; None: 80.
            positions: Not used; Keras has it.
            print_fn: Called with the text in place of print.
        """
        del positions
        (print_fn or print)(summary.summary(self, line_length or 80))

    def get_config(self) -> dict[str, Any]:
        """The arguments of the parts.

        Returns:
            Those of the backbone and the preprocessor, and the name.
        """
        return {
            "backbone": self._backbone.get_config(),
            "preprocessor": None if self.preprocessor is None else self.preprocessor.get_config(),
            "name": self.name,
        }

    def __call__(self, inputs: Mapping[str, npt.ArrayLike]) -> npt.NDArray[Any]:
        """Computes logits of ids and masks, as the backbone takes them.

        Args:
            inputs: As `Backbone.__call__` says.

        Returns:
            float32 [B, T, V], 0 at padding.

        Raises:
            ValueError: A key is missing, or ids and masks do not fit.
        """
        return self._backbone.forward(inputs)[0]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles as the folder that it came from and what was chosen since.

        Raises:
            ValueError: No folder holds the weights.
        """
        source = self._backbone.source
        if source is None:
            raise ValueError(
                f"pickle: {type(self).__name__} must come from a preset with its weights as they "
                "were, got weights that no folder holds. Call save_to_preset first"
            )
        arguments = {
            "compile": False,
            "dtype": self._backbone.engine.quantized_from or self._backbone.dtype,
            "name": self.name,
            "num_threads": self._backbone.num_threads,
            "preprocessor": self.preprocessor,
        }
        chosen = (self._compiled_state(), self._backbone.rules, self._backbone.dtype)
        return _restore, (type(self), fspath(source), arguments, *chosen)

    def __copy__(self: T) -> T:
        """A task of the same parts."""
        made = type(self).__new__(type(self))
        made.__dict__.update(self.__dict__)
        made.__dict__.pop("generate_function", None)  # it is bound to the original
        return made

    def _compiled_state(self) -> dict[str, Any] | None:
        return None


def _restore(
    kind: type[Task],
    folder: str,
    arguments: Mapping[str, Any],
    compiled: Mapping[str, Any] | None,
    rules: Rules,
    dtype: str,
) -> Task:
    """The other half of `Task.__reduce__`."""
    task = kind.from_preset(folder, **arguments)
    task.backbone.rules = rules
    if dtype != task.backbone.dtype:
        task.quantize(dtype)
    if compiled is not None:
        task.compile(**compiled)
    return task


def _check_arguments(kind: type[Task], given: Mapping[str, Any]) -> None:
    unknown = sorted(set(given) - set(_ARGUMENTS))
    if unknown:
        raise TypeError(
            f"{kind.__name__}.from_preset: arguments must be of {', '.join(sorted(_ARGUMENTS))}, "
            f"got {', '.join(unknown)}"
        )
    check_engine_arguments(
        given.get("dtype"), given.get("num_threads"), f"{kind.__name__}.from_preset"
    )
    device = given.get("device")
    if device not in (None, "auto", "cpu"):
        raise ValueError(
            f'from_preset: device must be "cpu", got {device!r}. This fuseq runs on CPUs alone'
        )


def _preprocessor(
    kind: type[Task], folder: Preset, given: Mapping[str, Any]
) -> Preprocessor | None:
    lengths = {key: given[key] for key in _LENGTHS if key in given and given[key] is not None}
    if "preprocessor" in given:
        found: Preprocessor | None = given["preprocessor"]
    else:
        found = kind.preprocessor_cls.load(folder, {})
    if lengths and found is not None:
        found = copy(found)  # the caller's own keeps its lengths
    for name, value in lengths.items():
        if found is None or not hasattr(type(found), name):
            got = "no preprocessor" if found is None else type(found).__name__
            raise ValueError(
                f"from_preset: {name} must come with a preprocessor that has it, got {got}"
            )
        setattr(found, name, value)
    return found
