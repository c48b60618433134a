# SPDX-License-Identifier: Apache-2.0
"""TrainingBatch: what one step of training reads."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class TrainingBatch:
    """Rows of ids with the ids that should follow.

    Columns that no row needs are cut off: T and S are lengths of the longest row, and sums of the
    loss are still divided by `num_positions`.

    Attributes:
        inputs: Ids (int64) and masks (bool) by the names that the backbone has: `token_ids`,
            `padding_mask` [B, T]; with an encoder `encoder_…` [B, S] and `decoder_…` [B, T].
        targets: int64 [B, T], the id that should follow each position; any where the weight is 0.
        weights: float32 [B, T], what each position counts.
        num_rows: Rows that count: B, or 0 where one row of weight 0 stands for none.
        num_positions: Positions before columns were cut off: num_rows x the configured length.
    """

    inputs: dict[str, npt.NDArray[Any]]
    targets: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32]
    num_rows: int
    num_positions: int

    @property
    def num_tokens(self) -> int:
        """Real tokens, of sources and targets: what `tokens per second` counts."""
        if self.num_rows == 0:
            return 0
        masks = [value for name, value in self.inputs.items() if name.endswith("padding_mask")]
        return sum(int(mask.sum()) for mask in masks)
