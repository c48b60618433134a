# SPDX-License-Identifier: Apache-2.0
"""What callbacks that watch one number of the logs have in common."""

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from fuseq.callbacks.callback import Callback

MODES = ("auto", "min", "max")
_BETTER_BELOW = ("loss", "perplexity")
_BETTER_ABOVE = ("acc", "accuracy", "auc", "bleu", "chrf", "exact_match", "f1", "rouge")


class MonitorCallback(Callback):
    """Knows whether a number of the logs is better than the best so far.

    Attributes:
        monitor: The name of the number.
        best: The best so far, or None.
    """

    state_names: ClassVar[tuple[str, ...]] = ("best",)

    def __init__(
        self, monitor: str, mode: str, best: float | None = None, min_delta: float = 0.0
    ) -> None:
        """Stores what to watch.

        Args:
            monitor: The name of the number.
            mode: "min" or "max": what is better; "auto" tells it from the name.
            best: What must be beaten, or None.
            min_delta: By how much at least.
        """
        owner = type(self).__name__
        if mode not in MODES:
            warnings.warn(
                f"{owner}(mode): must be one of {', '.join(MODES)}, got {mode!r}. Taken as auto",
                stacklevel=3,
            )
            mode = "auto"
        self.monitor = monitor
        self.mode = mode
        self.best = best
        self.min_delta = abs(min_delta)

    def state_dict(self) -> dict[str, Any]:
        """What a training checkpoint keeps: plain JSON values."""
        return {name: getattr(self, name) for name in self.state_names}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state_dict` returned; call it after `on_train_begin`, which resets."""
        for name in self.state_names:
            setattr(self, name, state[name])

    def is_improvement(self, value: float, best: float | None) -> bool:
        """Whether a value beats another by min_delta, compared in float32 as Keras does.

        Raises:
            ValueError: The mode is "auto" and the name does not tell the direction.
        """
        below = self.is_better_below()
        if best is None:
            return True
        moved = np.float32(value + self.min_delta if below else value - self.min_delta)
        return bool(moved < np.float32(best) if below else moved > np.float32(best))

    def is_better_below(self) -> bool:
        """Whether less is better.

        Raises:
            ValueError: The mode is "auto" and the name does not tell.
        """
        if self.mode != "auto":
            return self.mode == "min"
        name = self.monitor.removeprefix("val_").lower()
        if name.endswith(_BETTER_BELOW):
            return True
        if name.endswith(_BETTER_ABOVE) or name.startswith("rouge"):
            return False
        raise ValueError(
            f'{type(self).__name__}(mode): must be "min" or "max" where monitor is neither the '
            f'loss nor a known metric, got "auto" with monitor {self.monitor!r}. Pass mode="max" '
            "if more is better"
        )

    def warn_absent(self, consequence: str, logs: Mapping[str, Any]) -> None:
        """Warns that the logs lack the number."""
        names = ", ".join(logs) or "none"
        warnings.warn(
            f"{type(self).__name__}(monitor): must be in the logs, got {self.monitor!r}; available "
            f"are {names}. {consequence}",
            stacklevel=3,
        )
