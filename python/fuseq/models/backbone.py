# SPDX-License-Identifier: Apache-2.0
"""Backbone: the layers of a model and their weights, without a task."""

import json
import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from os import PathLike, fspath
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from fuseq import _core
from fuseq.models import saving, weight_files
from fuseq.models.adaptable import Adaptable
from fuseq.models.dtypes import engine_dtype
from fuseq.models.engine_weights import EngineWeights
from fuseq.models.families import FAMILIES
from fuseq.models.folders import check_engine_arguments, open_folder
from fuseq.models.inputs import Keys, as_ids, prompts_of
from fuseq.models.quantizing import checked_mode
from fuseq.models.registry import find_subclass
from fuseq.presets import keras_format
from fuseq.presets.family import Family, Spec
from fuseq.presets.load import Preset, Rules

B = TypeVar("B", bound="Backbone")
Arrays = Mapping[str, npt.ArrayLike]
Floats = npt.NDArray[np.float32]

_CAUSAL = Keys((), ("token_ids",), ("padding_mask",))
_SEQ2SEQ = Keys(
    (),
    ("encoder_token_ids", "decoder_token_ids"),
    ("encoder_padding_mask", "decoder_padding_mask"),
)


class Backbone(Adaptable):
    """A model's layers, its weights on the engine.

    Weights are read, or drawn, when they are first needed.

    Attributes:
        name: As Keras names layers.
        rules: Whose rules tasks follow: those of "keras_hub" or of "transformers".
    """

    family: ClassVar[str] = ""  # the word of the family

    def __init__(
        self,
        spec: Spec,
        *,
        dtype: object = None,
        num_threads: int | None = None,
        name: str | None = None,
        seed: int | None = None,
    ) -> None:
        """Makes a backbone with weights drawn at random.

        Args:
            spec: The spec, as JSON has it.
            dtype: A name or policy, as `from_preset` takes it.
            num_threads: Threads of the engine; None: those of the machine.
            name: As Keras names layers.
            seed: Of the weights, a whole number >= 0; None: others every time.

        Raises:
            ValueError: The spec is not one that the engine can run.
            TypeError: The seed is no whole number.
        """
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or seed < 0):
            raise TypeError(
                f"{type(self).__name__}: seed must be None or a whole number >= 0, got {seed!r}"
            )
        text = _core.validate_spec(json.dumps(spec))
        self._set(json.loads(text), None, "keras_hub", engine_dtype(dtype), num_threads, name)
        self.engine.seed = seed

    def _set(
        self,
        spec: Spec,
        model: _core.Model | None,
        rules: Rules,
        dtype: str | None,
        num_threads: int | None,
        name: str | None,
    ) -> None:
        self.engine = EngineWeights(spec, model, dtype, num_threads)
        self.rules: Rules = rules
        self.name = name or default_name(type(self).__name__)

    @classmethod
    def from_preset(
        cls: type[B],
        preset: str | PathLike[str],
        load_weights: bool = True,
        **kwargs: Any,  # noqa: ANN401
    ) -> B:
        """Loads a preset's backbone.

        Args:
            preset: A built-in name, a `kaggle://` or `hf://` handle, or a folder.
            load_weights: Whether to read the weights; else they are drawn at random.
            **kwargs: `dtype`, `num_threads`, `name`, `trainable`.

        Returns:
            A backbone of the preset's family.

        Raises:
            FileNotFoundError: There is no such preset.
            ValueError: The preset is of another family, or not what it should be.
            TypeError: An argument is not known.
        """
        check_engine_arguments(
            kwargs.get("dtype"), kwargs.get("num_threads"), f"{cls.__name__}.from_preset"
        )
        return cls.load(open_folder(preset), preset, load_weights=load_weights, **kwargs)

    @classmethod
    def load(
        cls: type[B],
        preset: Preset,
        asked: str | PathLike[str],
        *,
        load_weights: bool = True,
        dtype: object = None,
        num_threads: int | None = None,
        name: str | None = None,
        trainable: bool = True,
    ) -> B:
        """Loads the backbone of an opened preset; `asked` is what the user called it."""
        spec = preset.read_spec()
        kind = find_subclass(cls, str(spec.get("family")), asked)
        given = engine_dtype(dtype)
        wanted = given or preset.stored_dtype()
        backbone = kind.__new__(kind)
        if load_weights:
            model = preset.load_model(dtype=given, num_threads=num_threads)
            spec = json.loads(model.spec)
        else:
            model = None
            spec = json.loads(_core.validate_spec(json.dumps(spec)))
        backbone._set(spec, model, preset.rules(), wanted, num_threads, name)
        backbone.trainable = trainable
        if load_weights:
            backbone.engine.stored_in(preset.folder)
        return backbone

    @property
    def source(self) -> Path | None:
        """The folder that holds these weights; None where none does, or not any more."""
        return self.engine.source

    @property
    def trainable(self) -> bool:
        """Whether training changes the weights; adapters that are added later are trained."""
        return self.engine.is_trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self.engine.set_trainable(bool(value))

    @property
    def num_threads(self) -> int | None:
        """Threads of the engine; None: those of the machine."""
        return self.engine.num_threads

    # ---- what it is ----

    @property
    def spec(self) -> Spec:
        """The spec, every field given; a copy."""
        copy: Spec = json.loads(json.dumps(self.engine.spec))
        return copy

    @property
    def model(self) -> _core.Model:
        """The engine's model; made when first asked for, and again when weights have changed."""
        return self.engine.model

    def using_session(self) -> AbstractContextManager[_core.Session]:
        """A session that is kept; one thread at a time has it."""
        return self.engine.using_session()

    @property
    def dtype(self) -> str:
        """What the engine keeps the matrices in: "float32", "bfloat16" or "int8"."""
        return self.engine.dtype or "float32"

    @property
    def is_seq2seq(self) -> bool:
        """Whether there is an encoder."""
        return bool(self.engine.spec["encoder"]["layers"])

    @property
    def vocabulary_size(self) -> int:
        """Tokens that the embedding has rows for."""
        return int(self.engine.spec["vocab"])

    @property
    def num_layers(self) -> int:
        """Layers of the decoder."""
        return int(self.engine.spec["decoder"]["layers"])

    @property
    def num_heads(self) -> int:
        """Attention heads of a decoder layer."""
        return int(self.engine.spec["decoder"]["heads"])

    @property
    def hidden_dim(self) -> int:
        """Width of the model."""
        return int(self.engine.spec["decoder"]["dim"])

    @property
    def intermediate_dim(self) -> int:
        """Width inside a decoder layer's feed-forward part."""
        return int(self.engine.spec["decoder"]["ffn_dim"])

    @property
    def dropout(self) -> float:
        """Dropout of training."""
        return float(self.engine.spec["dropout"])

    @property
    def max_sequence_length(self) -> int:
        """Rows of the decoder's position table, in tokens."""
        return int(self.engine.spec["decoder"]["max_positions"])

    @property
    def max_encoder_length(self) -> int:
        """Rows of the encoder's position table, in tokens."""
        return int(self.engine.spec["encoder"]["max_positions"])

    def count_params(self) -> int:
        """The number of all weights; rows of position tables that no token uses do not count.

        Returns:
            Their number.
        """
        return sum(self.weight_counts().values())

    def weight_counts(self) -> dict[str, int]:
        """The number of numbers in every weight, by our names; counted as `count_params` does."""
        counts = {}
        for name, shape, _ in _core.weight_table(json.dumps(self.engine.spec)):
            counts[name] = math.prod(shape)
            stack, _, part = name.partition(".")
            if part == "positions":
                counts[name] -= self.engine.spec[stack]["position_offset"] * shape[1]
        return counts

    def get_config(self) -> dict[str, Any]:
        """KerasHub's arguments that make an equal backbone.

        Returns:
            Values by the arguments' names.

        Raises:
            ValueError: KerasHub's arguments cannot say all that the spec says.
        """
        base = {"name": self.name, "trainable": self.trainable, "dtype": self.dtype}
        return {**base, **self._keras().config(self.engine.spec)}

    @classmethod
    def from_config(cls: type[B], config: Mapping[str, Any]) -> B:
        """Makes a backbone, weights drawn at random, from what `get_config` returned.

        Args:
            config: Arguments of the constructor.

        Returns:
            The backbone.
        """
        return cls(**config)

    def save_to_preset(
        self, preset_dir: str | PathLike[str], max_shard_size: float | None = 10
    ) -> None:
        """Saves the backbone alone, in KerasHub's form.

        Args:
            preset_dir: The folder; it appears when all is written.
            max_shard_size: Gigabytes of the largest file of weights; None: one file.

        Raises:
            TypeError: max_shard_size is no number.
            ValueError: The form cannot hold the model; the message names the fields. Or the folder
                holds a preset of another form, is the current one or holds that.
            OSError: The system refused to write; an old preset is left as it was.
        """
        saving.check_target(Path(preset_dir), "keras_hub", max_shard_size)
        keras_format.save(
            Path(preset_dir), self.model, self.family_tables(), max_shard_size=max_shard_size
        )
        self.engine.stored_in(Path(preset_dir))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles as the folder that it came from.

        Raises:
            ValueError: No folder holds the weights.
        """
        source = self.source
        if source is None:
            raise ValueError(
                f"pickle: {type(self).__name__} must come from a preset with its weights as they "
                "were, got weights that no folder holds. Call save_to_preset first"
            )
        chosen = {
            "dtype": self.engine.quantized_from or self.dtype,
            "name": self.name,
            "num_threads": self.num_threads,
        }
        return _restore, (type(self), fspath(source), chosen, self.rules, self.dtype)

    @classmethod
    def family_tables(cls) -> Family:
        """The tables of the family."""
        return FAMILIES[cls.family]

    def _keras(self) -> Any:  # noqa: ANN401
        return self.family_tables().keras

    # ---- weights ----

    def torch_module(self) -> Any:  # noqa: ANN401
        """The model as a torch module, which shares its weights with this backbone.

        Its parameters have the names of the engine's weight table. Changing them in place, as
        optimizers do, changes what the backbone computes with and saves.

        Returns:
            A `fuseq.training.TransformerModule`, float32; the same one in each call.

        Raises:
            ImportError: torch is not installed.
        """
        from fuseq.training import module_of

        return module_of(self.engine)

    def save_weights(self, path: str | PathLike[str]) -> None:
        """Writes the weights alone.

        Args:
            path: Ends in `.weights.h5` (as KerasHub writes them) or `.safetensors` (our names).

        Raises:
            ValueError: The path ends otherwise, the weights are int8, or KerasHub's form cannot
                hold the model.
            OSError: The system refused to write; an old file is left as it was.
        """
        weight_files.save(Path(path), self.model, self.family_tables())

    def load_weights(self, path: str | PathLike[str]) -> None:
        """Reads weights alone, for the spec that is there.

        Args:
            path: As `save_weights` takes it.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is not what it should be, or weights are missing, unexpected or
                misshapen.
        """
        self.engine.replace(
            weight_files.load(
                Path(path),
                self.engine.spec,
                self.family_tables(),
                dtype=self.engine.dtype,
                num_threads=self.num_threads,
            )
        )

    def quantize(
        self, mode: str | None = None, config: object = None, filters: object = None
    ) -> None:
        """Makes the matrices int8, for good: they take a quarter of float32's memory.

        This is W8A8: symmetric weights with a scale for each output channel (in the table of
        tokens for each token), whose largest number becomes 127 or -127, and dynamic activations:
        when the model computes, what goes into a matrix is rounded to int8 with a scale for each
        token. Biases, norms and positions stay float32. The weights cannot be trained afterwards;
        a `torch_module()` that was there no longer shares them, and keeps its own as long as
        somebody holds it, as the optimizer of a `fit` does: `quantize` of the task drops that.

        Args:
            mode: "int8".
            config: Not there; Keras has it.
            filters: Not there; Keras has it.

        Raises:
            ValueError: There is no such mode, the weights are int8 already, or the `fit` of a task
                that has them is running.
            NotImplementedError: Keras has the mode or the argument, and fuseq has not.
        """
        self.engine.quantize(checked_mode(mode, config, filters, self.engine.is_quantized))

    # ---- calls ----

    def __call__(self, inputs: Arrays) -> Floats | dict[str, Floats]:
        """Computes the last hidden states, as KerasHub's backbones do.

        Args:
            inputs: `token_ids` and `padding_mask` [B, T]; with an encoder `encoder_token_ids`,
                `encoder_padding_mask` [B, S], `decoder_token_ids`, `decoder_padding_mask` [B, T].
                Masks may be left out.

        Returns:
            float32 [B, T, D], 0 at padding; with an encoder a dict of `encoder_sequence_output`
            [B, S, D] and `decoder_sequence_output` [B, T, D].

        Raises:
            ValueError: A key is missing, or ids and masks do not fit.
        """
        if not self.is_seq2seq:
            return self.forward(inputs)[1]
        ids, mask = array_of(inputs, "encoder_token_ids"), inputs.get("encoder_padding_mask")
        return {
            "encoder_sequence_output": self.encode(ids, mask),
            "decoder_sequence_output": self.forward(inputs)[1],
        }

    def encode(self, token_ids: npt.ArrayLike, padding_mask: npt.ArrayLike | None) -> Floats:
        """The encoder's states [B, S, D], float32, 0 at padding."""
        inputs = {"encoder_token_ids": token_ids, "encoder_padding_mask": padding_mask}
        prompts = prompts_of(inputs, _SEQ2SEQ)
        with self.using_session() as session:
            states = session.encode([prompt.encoder_ids for prompt in prompts]).numpy()
        return spread(states, np.shape(np.asarray(token_ids)), padding_mask)

    def forward(self, inputs: Arrays) -> tuple[Floats, Floats]:
        """Logits [B, T, V] and last hidden states [B, T, D], float32, 0 at padding."""
        start = "decoder_" if self.is_seq2seq else ""
        ids, mask = array_of(inputs, f"{start}token_ids"), inputs.get(f"{start}padding_mask")
        if self.is_seq2seq:
            array_of(inputs, "encoder_token_ids")
        prompts = prompts_of(inputs, _SEQ2SEQ if self.is_seq2seq else _CAUSAL)
        with self.using_session() as session:
            logits, hidden = session.forward(prompts, return_hidden=True)
        shape = ids.shape
        return spread(logits.numpy(), shape, mask), spread(hidden.numpy(), shape, mask)


def _restore(kind: type[B], folder: str, chosen: Mapping[str, Any], rules: Rules, dtype: str) -> B:
    """The other half of `Backbone.__reduce__`."""
    backbone = kind.from_preset(folder, **chosen)
    backbone.rules = rules
    if dtype != backbone.dtype:
        backbone.quantize(dtype)
    return backbone


def array_of(inputs: Arrays, key: str) -> npt.NDArray[Any]:
    """An input by its name, as numpy.

    Raises:
        ValueError: There is none.
    """
    if not isinstance(inputs, Mapping) or key not in inputs:
        got = ", ".join(map(str, inputs)) if isinstance(inputs, Mapping) else type(inputs).__name__
        raise ValueError(f"inputs: must be a dict with {key!r}, got {got}")
    return as_ids(inputs[key], key)


def spread(rows: Floats, shape: tuple[int, ...], mask: npt.ArrayLike | None) -> Floats:
    """Puts packed rows [N, D] at the cells of a mask, [B, T, D]; 0 elsewhere."""
    if mask is None:
        return rows.reshape(*shape, rows.shape[-1])
    cells = np.zeros(shape, np.bool_)
    given = np.asarray(mask).astype(np.bool_)
    cells[:, : given.shape[1]] = given
    result = np.zeros((*shape, rows.shape[-1]), np.float32)
    result[cells] = rows
    return result


def default_name(class_name: str) -> str:
    """A Keras layer's name from its class: `BartBackbone` becomes `bart_backbone`."""
    words = "".join(
        f"_{letter.lower()}"
        if letter.isupper()
        and index
        and (
            not class_name[index - 1].isupper()
            or (index + 1 < len(class_name) and class_name[index + 1].islower())
        )
        else letter.lower()
        for index, letter in enumerate(class_name)
    )
    return words
