# SPDX-License-Identifier: Apache-2.0
"""TextMetrics, which generates texts after epochs and compares them with the wanted ones."""

from collections.abc import Callable, Sequence
from typing import Any

from fuseq.callbacks.callback import Callback, Logs


class TextMetrics(Callback):
    """Adds numbers of generated texts to the logs of an epoch.

    Callbacks after this one see the numbers, and so does `History`: put it before loggers and
    before what monitors such a number.

    Example:
        >>> x = {"encoder_text": ["a fox"], "decoder_text": ["ein Fuchs"]}
        >>> TextMetrics(x, ["bleu", "chrf"], freq=2, sampler="greedy", max_length=40).freq
        2
    """

    def __init__(
        self,
        x: object,
        metrics: str | Callable[..., Any] | Sequence[str | Callable[..., Any]] = ("exact_match",),
        freq: int = 1,
        prefix: str = "val_",
        **generate_arguments: Any,  # noqa: ANN401
    ) -> None:
        """Makes the callback.

        Args:
            x: A dict of lists of texts: sources, `encoder_text`, and the texts wanted for them,
                `decoder_text`.
            metrics: Names, "bleu", "chrf", "rouge", "exact_match", or functions of predictions and
                references, which return a float or a dict of floats.
            freq: Epochs from one comparison to the next; in the epochs between there are no
                numbers.
            prefix: Stands before the names in the logs.
            **generate_arguments: Of `generate`, such as `max_length` and `sampler`.

        Raises:
            ValueError: freq is no whole number above 0.
        """
        if isinstance(freq, bool) or not isinstance(freq, int) or freq < 1:
            raise ValueError(f"TextMetrics: freq must be a whole number >= 1, got {freq!r}")
        self.x = x
        self.metrics = metrics
        self.freq = freq
        self.prefix = prefix
        self.generate_arguments = generate_arguments

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Generates and adds the numbers.

        Raises:
            ValueError: x is no dict of texts, or the task has no encoder.
            ImportError: A package that a metric needs is not installed.
        """
        if (epoch + 1) % self.freq or logs is None:
            return
        numbers = self.model.evaluate_texts(self.x, self.metrics, **self.generate_arguments)
        logs.update({f"{self.prefix}{name}": value for name, value in numbers.items()})
