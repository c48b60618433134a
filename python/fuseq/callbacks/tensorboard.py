# SPDX-License-Identifier: Apache-2.0
"""TensorBoard, which writes the logs for the program of that name."""

import time
from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from fuseq.callbacks.callback import Callback, Logs


class TensorBoard(Callback):
    """Writes event files: `train` and `validation` below a folder, with the tags of Keras.

    `epoch_loss` and the like by epoch, with `epoch_learning_rate`; `evaluation_loss_vs_iterations`
    by the optimizer's steps; with a number for `update_freq` also `batch_loss` by batch. Needs
    `pip install tensorboard`, and neither torch nor TensorFlow. View them with
    `tensorboard --logdir logs`.

    Example:
        >>> TensorBoard("logs/first", update_freq=100).log_dir
        'logs/first'
    """

    def __init__(
        self,
        log_dir: str | PathLike[str] = "logs",
        histogram_freq: int = 0,
        write_graph: bool = True,
        write_images: bool = False,
        write_steps_per_second: bool = False,
        update_freq: str | int = "epoch",
        profile_batch: int | str | tuple[int, int] = 0,
        embeddings_freq: int = 0,
        embeddings_metadata: Any = None,  # noqa: ANN401
    ) -> None:
        """Makes the callback; files appear when there is something to write.

        Args:
            log_dir: The folder.
            histogram_freq: Only 0: histograms of weights are not written.
            write_graph: Without effect: there is no graph.
            write_images: Only False.
            write_steps_per_second: Whether to write how fast training is.
            update_freq: "epoch", "batch", or a number of batches between `batch_` numbers.
            profile_batch: Only 0: profiles are not written.
            embeddings_freq: Only 0.
            embeddings_metadata: Only None.

        Raises:
            ValueError: What is asked for is not written, or update_freq is of another kind.
        """
        for name, value in {
            "histogram_freq": histogram_freq,
            "write_images": write_images,
            "profile_batch": profile_batch,
            "embeddings_freq": embeddings_freq,
            "embeddings_metadata": embeddings_metadata,
        }.items():
            if value:
                raise ValueError(
                    f"TensorBoard({name}): must be left out, as only numbers of the logs are "
                    f"written, got {value!r}"
                )
        every = (
            {"epoch": 0, "batch": 1}.get(update_freq, -1)
            if isinstance(update_freq, str)
            else (update_freq or -1)
        )
        if every < 0:
            raise ValueError(
                'TensorBoard(update_freq): must be "epoch", "batch" or a positive number of '
                f"batches, got {update_freq!r}"
            )
        self.log_dir = fspath(log_dir)
        self.write_graph = write_graph
        self.write_steps_per_second = write_steps_per_second
        self.update_freq = update_freq
        self._every = every
        self._writers: dict[str, Any] = {}
        self._batch = 0
        self._is_training = False
        self._batch_began = self._epoch_began = time.monotonic()
        self._iterations_before = 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Counts batches anew.

        Raises:
            ImportError: tensorboard is not installed.
        """
        self._batch = 0
        self._is_training = True
        if self.writes_files:
            _writer_class()

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Notes the time."""
        if self.write_steps_per_second:
            self._iterations_before = int(self.model.optimizer.iterations)
            self._epoch_began = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """What a training checkpoint keeps: plain JSON values."""
        return {"batch": self._batch, "iterations": self._iterations() or 0}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state_dict` returned; call it after `on_train_begin`, which resets."""
        self._batch = state["batch"]
        self._iterations_before = state["iterations"]
        self._epoch_began = time.monotonic()

    def _iterations(self) -> int | None:
        """Updates so far; None without an optimizer, as where there is nothing to train."""
        try:
            iterations = getattr(getattr(self.model, "optimizer", None), "iterations", None)
        except ValueError:
            return None
        return None if iterations is None else int(iterations)

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Counts the batch."""
        self._batch += 1
        self._batch_began = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Writes the `batch_` numbers."""
        if not self._every or self._batch % self._every:
            return
        numbers = {f"batch_{name}": value for name, value in (logs or {}).items()}
        if self.write_steps_per_second:
            numbers["batch_steps_per_second"] = 1 / _seconds_since(self._batch_began)
        self._write("train", numbers, self._batch)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Writes the `epoch_` numbers."""
        if not logs:
            return
        optimizer = self.model.optimizer
        train = {name: value for name, value in logs.items() if not name.startswith("val_")}
        if hasattr(optimizer, "learning_rate"):
            train["learning_rate"] = float(optimizer.learning_rate)
        if self.write_steps_per_second:
            steps = int(optimizer.iterations) - self._iterations_before
            train["steps_per_second"] = steps / _seconds_since(self._epoch_began)
        validation = {
            name.removeprefix("val_"): value for name, value in logs.items() if name not in train
        }
        for folder, numbers in (("train", train), ("validation", validation)):
            named = {f"epoch_{name}": value for name, value in numbers.items()}
            self._write(folder, named, epoch)

    def on_test_end(self, logs: Logs | None = None) -> None:
        """Writes the `evaluation_` numbers."""
        iterations = self._iterations()
        if iterations is not None:
            numbers = {
                f"evaluation_{name}_vs_iterations": value for name, value in (logs or {}).items()
            }
            self._write("validation", numbers, iterations)
        if not self._is_training:
            self._close()

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Closes the files."""
        self._is_training = False
        self._close()

    def _close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers = {}

    def _write(self, folder: str, numbers: Logs, step: int) -> None:
        """Writes and flushes numbers of a step."""
        if not numbers or not self.writes_files:
            return
        if folder not in self._writers:
            self._writers[folder] = _writer_class()(str(Path(self.log_dir, folder)))
        writer = self._writers[folder]
        for name, value in numbers.items():
            writer.add_scalar(name, value, step)
        writer.flush()


def _seconds_since(began: float) -> float:
    return max(time.monotonic() - began, 1e-9)


def _writer_class() -> Any:  # noqa: ANN401
    try:
        from tensorboard.summary import Writer
    except ImportError as error:
        raise ImportError(
            "TensorBoard: the package tensorboard must be installed, got none. Run "
            "pip install tensorboard"
        ) from error
    return Writer
