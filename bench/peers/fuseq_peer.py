# SPDX-License-Identifier: Apache-2.0
"""fuseq as a peer: the engine's `generate` on ids."""

from __future__ import annotations

from pathlib import Path

import fuseq
from fuseq import _core
from fuseq.presets import load_model
from peer import Batch, serve


class FuseqPeer:
    """One model of a transformers folder."""

    def prepare(self, folder: Path, threads: int, dtype: str) -> dict[str, str]:
        """Load the folder's model and return the version that runs."""
        self._model = load_model(folder, dtype=dtype, num_threads=threads)
        return {"fuseq": fuseq.__version__}

    def run(self, batch: Batch) -> list[list[int]]:
        """Generate exactly `batch.new_tokens` ids for each prompt."""
        options = _core.GenerationOptions(
            max_new_tokens=batch.new_tokens, min_new_tokens=batch.new_tokens
        )
        rows = _core.generate(self._model, batch.ids, options)
        return [row[0].ids[-batch.new_tokens :] for row in rows]


if __name__ == "__main__":
    serve(FuseqPeer())
