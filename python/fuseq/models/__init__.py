# SPDX-License-Identifier: Apache-2.0
"""Models in and out of folders, with the tables of the families that we know."""

from os import PathLike
from pathlib import Path

from fuseq._core import GenerationOptions, Model
from fuseq.models.families import FAMILIES
from fuseq.presets import load, native_format, transformers_format
from fuseq.presets.load import load_generation_options

__all__ = ["export_transformers", "load_generation_options", "load_model", "save_model"]


def load_model(
    folder: str | PathLike[str],
    *,
    dtype: str | None = None,
    num_threads: int | None = None,
    cpu_isa: str = "automatic",
) -> Model:
    """Loads a transformers folder or one of our own, told apart by their files.

    Args:
        folder: Holds `config.json` (transformers) or `spec.json` (ours), and the weights.
        dtype: "float32" or "bfloat16"; by default bfloat16 if stored so, else float32.
        num_threads: Threads for packing and for `generate` on this model; by default those of the
            machine.
        cpu_isa: "automatic", "avx512", "avx2" or "portable".

    Returns:
        The model, its weights packed.

    Raises:
        FileNotFoundError: The folder or one of its files is not there.
        ValueError: A file is not what it should be, or weights are missing, unexpected or misshapen
            (all in one message).
        ImportError: Only `pytorch_model.bin` is there, and torch is not installed.

    Example:
        >>> model = load_model("tests/golden/gpt2_tiny")
        >>> model.family
        'gpt2'
    """
    return load.load_model(folder, FAMILIES, dtype=dtype, num_threads=num_threads, cpu_isa=cpu_isa)


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
        OSError: The system refused to write; an old folder is left as it was.
    """
    model.save(folder)
    if options is not None:
        native_format.save_generation_options(options, Path(folder))


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
