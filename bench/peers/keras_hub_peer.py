# SPDX-License-Identifier: Apache-2.0
"""KerasHub as a peer: BART, greedy, on the backend that KERAS_BACKEND names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import keras_hub
import numpy as np
import torch
from peer import Batch, serve


class KerasHubPeer:
    """One BART of a transformers folder, read by KerasHub itself."""

    def prepare(self, folder: Path, threads: int, dtype: str) -> dict[str, str]:
        """Load the folder's model and return the versions that run."""
        torch.set_num_threads(threads)
        config = json.loads((folder / "config.json").read_text())
        self._start = config["decoder_start_token_id"]
        self._pad = config["pad_token_id"]
        backbone = keras_hub.models.BartBackbone.from_preset(str(folder), dtype=dtype)
        self._model: Any = keras_hub.models.BartSeq2SeqLM(backbone=backbone, preprocessor=None)
        self._model.compile(sampler="greedy")
        backend = keras.backend.backend()
        return {"keras_hub": keras_hub.__version__, "keras": f"{keras.__version__} ({backend})"}

    def inputs(self, batch: Batch) -> dict[str, Any]:
        """What the preprocessor would give: masks, and rows padded to their full length."""
        sources = np.array(batch.ids, np.int32)
        rows = np.full((len(sources), 1 + batch.new_tokens), self._pad, np.int32)
        rows[:, 0] = self._start
        return {
            "encoder_token_ids": sources,
            "encoder_padding_mask": np.ones_like(sources),
            "decoder_token_ids": rows,
            "decoder_padding_mask": (np.arange(rows.shape[1]) == 0) * np.ones_like(rows),
        }

    def run(self, batch: Batch, inputs: dict[str, Any]) -> dict[str, Any]:
        """One call of `generate`; without stop ids all rows run to their full length."""
        output: dict[str, Any] = self._model.generate(inputs, stop_token_ids=None)
        return output

    def new_ids(self, batch: Batch, output: dict[str, Any]) -> list[list[int]]:
        """What follows the start id."""
        rows: list[list[int]] = np.asarray(output["decoder_token_ids"]).tolist()
        return [row[1:] for row in rows]


if __name__ == "__main__":
    serve(KerasHubPeer())
