# SPDX-License-Identifier: Apache-2.0
"""Which files of a folder belong to a preset, and files that appear when they are whole."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

# Weights that transformers, or we, would read where `model.safetensors` is not alone.
OTHER_WEIGHTS = (
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
    "pytorch_model.bin*",
    "pytorch_model-*-of-*.bin",
)
# What the save of a whole task replaces, in every form: those that it does not write would change
# what the folder loads as. Patterns are the shell's; all other files are the user's.
PRESET_FILES = (
    *OTHER_WEIGHTS,
    "model.safetensors",
    "model.weights.h5",
    "model.weights.json",
    "model_[0-9][0-9][0-9][0-9][0-9].weights.h5",
    "task.weights.h5",
    "config.json",
    "metadata.json",
    "spec.json",
    "task.json",
    "generation.json",
    "generation_config.json",
    "preprocessor.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "assets",
)
_LONGEST_NAME = 200  # of 255 bytes, so that the additions fit


@contextmanager
def whole_file(path: Path, call: str) -> Iterator[Path]:
    """Gives a name beside a file to write to; the file takes its place, synced, at the end.

    Args:
        path: The file; an old one stays as it was if the block fails.
        call: Starts the message of an error.

    Yields:
        A hidden name in the same folder that nobody else uses.

    Raises:
        FileNotFoundError: There is no such folder.
        OSError: The system refused to write.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f'{call} "{path}": the folder must exist, got no folder "{path.parent}"'
        )
    start = os.fsdecode(os.fsencode(path.name)[:_LONGEST_NAME])
    unfinished = path.with_name(f".{start}.tmp-{os.getpid()}-{token_hex(8)}")
    try:
        yield unfinished
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
