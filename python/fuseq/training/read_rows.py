# SPDX-License-Identifier: Apache-2.0
"""Tells texts from ids."""

from collections.abc import Mapping

from fuseq.models.trainable_task import TrainableTask
from fuseq.training.array_rows import read_array_rows
from fuseq.training.rows import Rows
from fuseq.training.text_rows import read_text_rows


def read_rows(
    task: TrainableTask,
    x: object,
    y: object,
    sample_weight: object,
    where: str,
    keep_columns: bool = False,
    ignored_id: int | None = None,
) -> Rows:
    """Reads and checks rows that came together.

    Args:
        task: Whose names, preprocessor, vocabulary and positions hold.
        x: A dict of ids and masks [N, T]; or texts, as a dict of lists or as a list.
        y: Labels [N, T] of ids; not used with texts, whose labels the preprocessor makes.
        sample_weight: Weights [N, T] or [N] of ids; as y.
        where: The call, and the batch if there are many, for errors.
        keep_columns: Whether batches keep the columns that no row needs.
        ignored_id: Labels of this id have weight 0, and are no positions of the batch.

    Returns:
        The rows.

    Raises:
        ValueError: Something is missing, or does not fit.
        TypeError: Something is of another type.
    """
    keys = task.keys
    if isinstance(x, Mapping) and any(key in x for key in (*keys.ids, *keys.masks)):
        return read_array_rows(task, x, y, sample_weight, where, keep_columns, ignored_id)
    return read_text_rows(task, x, where, keep_columns, ignored_id)
