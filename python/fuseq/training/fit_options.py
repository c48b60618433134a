# SPDX-License-Identifier: Apache-2.0
"""FitOptions: how `fit` trains, beside Keras' arguments."""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal


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

    def __post_init__(self) -> None:
        """Checks all fields.

        Raises:
            ValueError: A field is not one of its values.
        """
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(
                f'fit: precision must be "float32" or "bfloat16", got {self.precision!r}'
            )
        if self.seed is not None:
            check_count("seed", self.seed, "None or ", least=0)
        if self.gradient_accumulation_steps is not None:
            check_count("gradient_accumulation_steps", self.gradient_accumulation_steps)
        if self.checkpoint_freq != "epoch":
            check_count("checkpoint_freq", self.checkpoint_freq, '"epoch" or ')
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"fit: clip_norm must be above 0, got {self.clip_norm!r}")
        if self.checkpoint_dir is not None and Path(self.checkpoint_dir).is_file():
            raise ValueError(f'fit: checkpoint_dir must be a folder, got "{self.checkpoint_dir}"')


def check_count(
    name: str,
    value: Any,  # noqa: ANN401
    others: str = "",
    least: int = 1,
    call: str = "fit",
) -> None:
    """Checks a whole number.

    Raises:
        ValueError: It is not one, or less than `least`.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{call}: {name} must be {others}a whole number >= {least}, got {value!r}")
