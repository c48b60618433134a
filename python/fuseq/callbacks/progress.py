# SPDX-License-Identifier: Apache-2.0
"""ProgressBar: what `fit`, `evaluate` and `predict` show while they run."""

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

_SECONDS_BETWEEN_LOOKS = 0.1  # numbers of a GPU have to be waited for: not at every step
_WITH_TOTAL = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
_WITHOUT_TOTAL = "{desc}: {n_fmt} steps [{elapsed}{postfix}]"


class ProgressBar:
    """A bar, or a line, for each epoch on standard error.

    Tokens per second count the time until the latest step, so without validation.

    Example:
        >>> with ProgressBar(0, epochs=1, steps=2) as progress:
        ...     progress.epoch_begin(0)
        ...     progress.update({"loss": 0.5}, 100)
        ...     progress.epoch_end({"loss": 0.5})
    """

    def __init__(
        self, verbose: str | int, *, epochs: int, steps: int | None, what: str = "Epoch"
    ) -> None:
        """Makes it; nothing is shown yet.

        Args:
            verbose: 0 shows nothing, 1 a bar, 2 a line when an epoch has ended; "auto" is 1 on a
                terminal, else 2.
            epochs: The number of epochs.
            steps: Steps of an epoch, None where not known; the first epoch then tells the others.
            what: What a bar is called; "Epoch" is followed by its number.

        Raises:
            ValueError: verbose is something else.
        """
        if verbose not in ("auto", 0, 1, 2):
            raise ValueError(f'verbose: must be "auto", 0, 1 or 2, got {verbose!r}')
        if verbose == "auto":
            verbose = 1 if sys.stderr.isatty() else 2
        self.verbose = int(verbose)
        self._epochs = epochs
        self._steps = steps
        self._what = what
        self._title = what
        self._bar: Any = None
        self._restart()

    def _restart(self) -> None:
        self._num_steps = 0
        self._num_tokens = 0
        self._began = self._latest_step = time.monotonic()
        self._latest_look = 0.0

    def epoch_begin(self, epoch: int) -> None:
        """Begins a bar.

        Args:
            epoch: Counted from 0.
        """
        self.close()
        self._restart()
        self._title = f"Epoch {epoch + 1}/{self._epochs}" if self._what == "Epoch" else self._what
        if self.verbose == 1:
            from tqdm.auto import tqdm

            self._bar = tqdm(
                total=self._steps,
                desc=self._title,
                file=sys.stderr,
                dynamic_ncols=True,
                bar_format=_WITHOUT_TOTAL if self._steps is None else _WITH_TOTAL,
            )

    def update(self, logs: Mapping[str, Any], num_tokens: int) -> None:
        """Counts a step.

        Args:
            logs: Means so far, by name; read only a few times a second.
            num_tokens: Tokens of the step.
        """
        self._num_steps += 1
        self._num_tokens += num_tokens
        self._latest_step = time.monotonic()
        if self._bar is None:
            return
        if self._latest_step - self._latest_look >= _SECONDS_BETWEEN_LOOKS:
            self._latest_look = self._latest_step
            self._bar.set_postfix_str(self._numbers(logs), refresh=False)
        self._bar.update()

    def epoch_end(self, logs: Mapping[str, Any]) -> None:
        """Ends a bar, or writes the line.

        Args:
            logs: All numbers of the epoch, by name.
        """
        self._steps = self._steps or self._num_steps or None
        if self._bar is not None:
            self._bar.set_postfix_str(self._numbers(logs), refresh=False)
            self._bar.refresh()
        if self.verbose == 2:
            seconds = time.monotonic() - self._began
            line = f"{self._title}: {self._num_steps} steps, {seconds:.1f} s"
            numbers = self._numbers(logs)
            print(f"{line}, {numbers}" if numbers else line, file=sys.stderr, flush=True)
        self.close()

    def close(self) -> None:
        """Leaves the bar as it is; call it also after an error."""
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.close()

    def __enter__(self) -> "ProgressBar":
        """Returns itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the bar."""
        self.close()

    def _numbers(self, logs: Mapping[str, Any]) -> str:
        parts = [f"{name}={float(value):.4g}" for name, value in logs.items()]
        seconds = self._latest_step - self._began
        if self._num_tokens and seconds > 0:
            parts.append(f"{_short(self._num_tokens / seconds)} tokens/s")
        return ", ".join(parts)


def _short(number: float) -> str:
    """Two to four digits: 812, 5.1k, 51k, 1.2M."""
    for unit in ("", "k", "M"):
        if number < 999.5:
            return f"{number:.1f}{unit}" if unit and number < 9.95 else f"{number:.0f}{unit}"
        number /= 1000
    return f"{number:.1f}G"
