# SPDX-License-Identifier: Apache-2.0
"""FitOptions: how `fit` trains, beside Keras' arguments."""

from dataclasses import dataclass
from numbers import Real
from os import PathLike
from pathlib import Path
from typing import Literal

from fuseq.models.counts import check_count

_SEEDS = 2**63  # torch's generators take no more, with the number of a process added


@dataclass(frozen=True)
class FitOptions:
    """Checked options.

    Attributes:
        precision: "float32" or "bfloat16": of the matrix products; parameters are float32.
        gradient_accumulation_steps: Batches whose gradients are added before an update; None: as
            the optimizer says, else 1.
        clip_norm: The largest norm of all gradients together; None: no limit but the optimizer's.
        activation_checkpointing: Whether activations are computed twice to save memory.
        seed: Of the order of rows and of dropout; None: drawn from torch's generator.
        device: "cpu", "cuda", "cuda:N"; None: a GPU where there is one.
        length_buckets: Whether shuffled batches have rows of like length.
        checkpoint_dir: Where training goes on from after it was killed; None: it does not.
        checkpoint_freq: "epoch", or a number of updates.
        sharded: Whether parameters, gradients and the optimizer's state are cut over processes.
        call: Names the call in errors.
    """

    precision: Literal["float32", "bfloat16"] = "float32"
    gradient_accumulation_steps: int | None = None
    clip_norm: float | None = None
    activation_checkpointing: bool = False
    seed: int | None = None
    device: str | None = None
    length_buckets: bool = True
    checkpoint_dir: str | PathLike[str] | None = None
    checkpoint_freq: int | Literal["epoch"] = "epoch"
    sharded: bool = False
    call: str = "fit"

    def __post_init__(self) -> None:
        """Checks all fields.

        Raises:
            ValueError: A field is not one of its values.
        """
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(
                f'{self.call}: precision must be "float32" or "bfloat16", got {self.precision!r}'
            )
        if self.seed is not None:
            check_count("seed", self.seed, "None or ", least=0, call=self.call)
            if self.seed >= _SEEDS:
                raise ValueError(f"{self.call}: seed must be below 2**63, got {self.seed!r}")
        steps = self.gradient_accumulation_steps
        if steps is not None:
            check_count("gradient_accumulation_steps", steps, call=self.call)
        if self.checkpoint_freq != "epoch":
            check_count("checkpoint_freq", self.checkpoint_freq, '"epoch" or ', call=self.call)
        if self.clip_norm is not None and not _is_above_zero(self.clip_norm):
            raise ValueError(f"{self.call}: clip_norm must be above 0, got {self.clip_norm!r}")
        if self.checkpoint_dir is not None and Path(self.checkpoint_dir).is_file():
            raise ValueError(
                f'{self.call}: checkpoint_dir must be a folder, got "{self.checkpoint_dir}"'
            )


def _is_above_zero(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and float(value) > 0
