# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: what training needs to go on as if it had not been interrupted."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from fuseq import _core

_NAME = "step-{:08d}"
_TENSORS, _PROGRESS = "state.pt", "progress.json"


@dataclass(frozen=True)
class Checkpoint:
    """A state of training.

    Attributes:
        progress: Plain JSON values: where training is, what it has shown so far.
        tensors: Parameters, the optimizer's state, states of random generators.
    """

    progress: dict[str, Any]
    tensors: dict[str, Any]


class CheckpointFolder:
    """A folder with a folder for each checkpoint; each appears when it is whole.

    Args:
        folder: Made when the first checkpoint is written.
        keep: How many of the newest stay.
    """

    def __init__(self, folder: str | PathLike[str], keep: int = 2) -> None:
        """Keeps the arguments."""
        self.folder = Path(folder)
        self.keep = keep

    def paths(self) -> list[Path]:
        """The checkpoints, oldest first."""
        found = self.folder.glob(_NAME.format(0)[:5] + "*")
        return sorted(path for path in found if (path / _PROGRESS).is_file())

    def write(self, updates: int, checkpoint: Checkpoint) -> None:
        """Writes a checkpoint, then removes the oldest ones.

        Args:
            updates: How often parameters have been updated so far; names it.
            checkpoint: The state.

        Raises:
            OSError: The system refused to write; the checkpoints before are as they were.
        """
        path = self.folder / _NAME.format(updates)

        def fill(folder: Path) -> None:
            text = json.dumps(checkpoint.progress, indent=1)
            (folder / _PROGRESS).write_text(text, encoding="utf-8")
            with (folder / _TENSORS).open("wb") as file:
                torch.save(checkpoint.tensors, file)

        try:
            _core.save_folder(path, fill)
        except (OSError, RuntimeError) as error:  # torch tells of a full disk by the latter
            raise OSError(
                f'fit: checkpoint "{path}" must be written, got: {error}. The ones before are as '
                "they were"
            ) from error
        for old in self.paths()[: -self.keep]:
            shutil.rmtree(old, ignore_errors=True)

    def read_latest(self) -> Checkpoint | None:
        """The newest checkpoint; None where there is none.

        Raises:
            ValueError: It is damaged.
        """
        paths = self.paths()
        if not paths:
            return None
        try:
            progress = json.loads((paths[-1] / _PROGRESS).read_text(encoding="utf-8"))
            tensors = torch.load(paths[-1] / _TENSORS, map_location="cpu", weights_only=True)
        except Exception as error:
            raise ValueError(
                f'fit: checkpoint "{paths[-1]}" must be whole, got: {error}. Remove it to go on '
                "from the one before"
            ) from error
        return Checkpoint(progress, tensors)


def check_settings(now: Mapping[str, Any], then: Mapping[str, Any]) -> None:
    """Checks that training goes on with what it was begun with.

    Raises:
        ValueError: A setting is another one.
    """
    changed = [name for name in now if now[name] != then.get(name)]
    if changed:
        pairs = ", ".join(f"{name} {then.get(name)!r}, got {now[name]!r}" for name in changed)
        raise ValueError(
            f"fit: training goes on from checkpoint_dir with what it began with: must have {pairs}."
            " Choose another checkpoint_dir to begin anew"
        )
