# SPDX-License-Identifier: Apache-2.0
"""Columns of data sets of the `datasets` package; the package itself is not needed."""

from collections.abc import Iterator
from typing import Any

from fuseq.models.trainable_task import TrainableTask
from fuseq.training.rows import quoted

_LABELS = ("y", "sample_weight")


class HuggingFaceBatches:
    """Batches of a data set that is read as it goes; it can be iterated again."""

    def __init__(self, task: TrainableTask, dataset: Any, batch_size: int, call: str) -> None:  # noqa: ANN401
        """Keeps the data set.

        Args:
            task: Whose names its columns have.
            dataset: Has `iter(batch_size=)`.
            batch_size: Rows of a batch.
            call: The call, for errors.
        """
        self._task, self._dataset, self._batch_size, self._call = task, dataset, batch_size, call

    @property
    def is_sharded(self) -> bool:
        """Whether `split_dataset_by_node` has given this process its part already."""
        return getattr(self._dataset, "_distributed", None) is not None

    def set_epoch(self, number: int) -> None:
        """Tells the data set, whose order may depend on it."""
        if hasattr(self._dataset, "set_epoch"):
            self._dataset.set_epoch(number)

    def __iter__(self) -> Iterator[tuple[dict[str, Any], Any, Any]]:
        """Reads x, y and sample_weight of each batch."""
        for batch in self._dataset.iter(batch_size=self._batch_size):
            names = _choose(self._task, list(batch), self._call)
            x = {name: batch[name] for name in names}
            yield x, *(batch.get(name) for name in _LABELS)


def read_columns(task: TrainableTask, dataset: Any, call: str) -> tuple[dict[str, Any], Any, Any]:  # noqa: ANN401
    """Reads a data set that is all there.

    Args:
        task: Whose names its columns have; other columns are passed over.
        dataset: Has `column_names`, and columns by their names.
        call: The call, for errors.

    Returns:
        x, y and sample_weight.

    Raises:
        ValueError: A column is missing.
    """
    there = list(dataset.column_names)
    x = {name: dataset[name][:] for name in _choose(task, there, call)}
    y, sample_weight = (dataset[name][:] if name in there else None for name in _LABELS)
    return x, y, sample_weight


def _choose(task: TrainableTask, there: list[str], call: str) -> list[str]:
    """The columns of x: ids where their labels are there too, else texts."""
    keys = task.keys
    if "y" in there and all(name in there for name in keys.ids):
        return [name for name in (*keys.ids, *keys.masks) if name in there]
    missing = [name for name in keys.texts if name not in there]
    if missing:
        raise ValueError(
            f"{call}: the data set must have columns {quoted(keys.texts)}, or {quoted(keys.ids)} "
            f"and 'y', got {quoted(there)}. Rename its columns"
        )
    return list(keys.texts)
