# SPDX-License-Identifier: Apache-2.0
"""Models of ids in and out of folders, with the tables of the families that we know."""

from os import PathLike
from pathlib import Path

from fuseq import _core, hub
from fuseq._core import GenerationOptions, Model
from fuseq.models.counts import check_count
from fuseq.models.dtypes import engine_dtype
from fuseq.models.families import FAMILIES
from fuseq.presets import native_format, transformers_format
from fuseq.presets.load import Preset, open_preset
from fuseq.presets.preset_files import OTHER_WEIGHTS


def open_folder(preset: str | PathLike[str]) -> Preset:
    """Finds a preset and tells whose form it has.

    Args:
        preset: A folder, a built-in name, or a handle as `from_preset` takes it.

    Returns:
        What reads it.

    Raises:
        FileNotFoundError: There is no such preset.
        ValueError: It is not what it should be.
    """
    return open_preset(hub.locate(preset), FAMILIES)


def check_engine_arguments(dtype: object, num_threads: object, call: str) -> str | None:
    """Checks what decides how a model is loaded, before it is looked for.

    Args:
        dtype: As `engine_dtype` takes it.
        num_threads: None or a whole number; 0, too, means the threads of the machine.
        call: Names the call in errors.

    Returns:
        The engine's word for the dtype; None for None.

    Raises:
        ValueError: The engine does not compute in the dtype, or num_threads is no such number.
    """
    if num_threads is not None:
        check_count("num_threads", num_threads, "None or ", least=0, call=call)
    return engine_dtype(dtype)


def load_model(
    folder: str | PathLike[str],
    *,
    dtype: object = None,
    num_threads: int | None = None,
    cpu_isa: str = "automatic",
) -> Model:
    """Loads a folder of KerasHub, of transformers or of our own, told apart by their files.

    Args:
        folder: Holds `config.json` (KerasHub, transformers) or `spec.json` (ours), and the weights;
            or a name or handle as `from_preset` takes it.
        dtype: "float32", "bfloat16", "int8" or a policy of Keras; by default what the policy of a
            KerasHub preset says, else bfloat16 or int8 if stored so, else float32. A folder of
            ours is used for int8 where its file is mapped: replace such a file by a rename, as
            `save_model` does, never in place.
        num_threads: Threads for packing and for `generate` on this model; by default those of the
            machine.
        cpu_isa: "automatic", "avx512", "avx2" or "portable".

    Returns:
        The model, its weights packed.

    Raises:
        FileNotFoundError: The folder or one of its files is not there.
        ValueError: An argument or a file is not what it should be, or weights are missing,
            unexpected or misshapen (all in one message).
        ImportError: Only `pytorch_model.bin` is there, and torch is not installed.

    Example:
        >>> model = load_model("tests/golden/gpt2_tiny")
        >>> model.family
        'gpt2'
    """
    wanted = check_engine_arguments(dtype, num_threads, "load_model")
    return open_folder(folder).load_model(dtype=wanted, num_threads=num_threads, cpu_isa=cpu_isa)


def load_generation_options(
    folder: str | PathLike[str], *, is_seq2seq: bool | None = None
) -> GenerationOptions | None:
    """Reads the generation settings that a folder holds.

    Args:
        folder: A folder of ours (`generation.json`), of transformers (`generation_config.json`, or
            the settings in `config.json`; then as its `generate` takes them) or of KerasHub, which
            has none; or a name or handle as `from_preset` takes it.
        is_seq2seq: Whether the model has an encoder; None: what `config.json` says.

    Returns:
        The options, or None where the folder holds no settings.

    Raises:
        FileNotFoundError: The folder holds no model.
        ValueError: A setting is wrong, or one that we do not have is not at its default.
    """
    return open_folder(folder).load_generation_options(is_seq2seq=is_seq2seq)


def save_model(
    model: Model, folder: str | PathLike[str], options: GenerationOptions | None = None
) -> None:
    """Writes a folder of our own: `spec.json` and `model.safetensors`.

    Args:
        model: Any model.
        folder: Replaced as a whole once everything is written; other files in it are kept.
        options: Written as `generation.json`, which `load_generation_options` reads, in C++ too;
            None: one that is there is kept.

    Raises:
        TypeError: The options are of another type.
        OSError: The system refused to write; an old folder is left as it was.
    """
    if options is not None and not isinstance(options, GenerationOptions):
        raise TypeError(
            f"save_model: options must be None or a GenerationOptions, got {type(options).__name__}"
        )

    def fill(unfinished: Path) -> None:
        model.save(unfinished)
        if options is not None:
            native_format.save_generation_options(options, unfinished)

    _core.save_folder(folder, fill, OTHER_WEIGHTS)


def export_transformers(model: Model, folder: str | PathLike[str]) -> None:
    """Writes a folder that transformers' `AutoModel….from_pretrained` opens.

    Args:
        model: A model of a family that transformers has.
        folder: Replaced as a whole once everything is written; other files in it are kept.

    Raises:
        ValueError: The family's `config.json` cannot hold a field of the model's spec.
        OSError: The system refused to write; an old folder is left as it was.
    """
    transformers_format.save_model(model, folder, FAMILIES)
