# SPDX-License-Identifier: Apache-2.0
"""fuseq as a peer: the engine's `generate` on ids."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fuseq
from fuseq import _core
from fuseq.models.families import bart
from fuseq.presets import load_model, transformers_format
from peer import Batch, serve


def marian_spec(config: Mapping[str, Any]) -> dict[str, Any]:
    """A `config.json` of Marian: BART without a norm after the embedding, positions from 0."""
    stacks = {}
    for stack in ("encoder", "decoder"):
        heads = config[f"{stack}_attention_heads"]
        stacks[stack] = {
            "layers": config[f"{stack}_layers"],
            "dim": config["d_model"],
            "heads": heads,
            "kv_heads": heads,
            "head_dim": config["d_model"] // heads,
            "ffn_dim": config[f"{stack}_ffn_dim"],
            "place": "post",
            "embed_norm": False,
            "final_norm": False,
            "act": {"swish": "silu"}[config["activation_function"]],
            "positions": "table",
            "max_positions": config["max_position_embeddings"],
        }
    return {
        "family": "marian",
        "vocab": config["vocab_size"],
        "embed_scale": math.sqrt(config["d_model"]) if config["scale_embedding"] else 1.0,
        **stacks,
        "head": {"bias": True},
        "pad_id": config["pad_token_id"],
        "decoder_start_id": config["decoder_start_token_id"],
        "eos_ids": [config["eos_token_id"]],
    }


# The weights of the checkpoint have BART's names.
MARIAN = dataclasses.replace(
    bart.FAMILY, model_type="marian", architecture="MarianMTModel", spec=marian_spec
)


class FuseqPeer:
    """One model of a transformers folder. A group is a number of slots."""

    def prepare(self, folder: Path, threads: int, dtype: str) -> dict[str, str]:
        """Load the folder's model and return the version that runs."""
        config = json.loads((folder / "config.json").read_text())
        if config["model_type"] == "marian":
            self._model = transformers_format.load_model(
                folder, {"marian": MARIAN}, dtype=dtype, num_threads=threads, cpu_isa="automatic"
            )
        else:
            self._model = load_model(folder, dtype=dtype, num_threads=threads)
        return {"fuseq": fuseq.__version__}

    def inputs(self, batch: Batch) -> list[list[int]]:
        """Lists of ids."""
        return batch.ids

    def run(self, batch: Batch, inputs: list[list[int]]) -> list[list[_core.Hypothesis]]:
        """One call over the whole list."""
        options = _core.GenerationOptions(
            max_new_tokens=batch.new_tokens,
            min_new_tokens=batch.min_new_tokens,
            num_beams=batch.beams,
        )
        return _core.generate(self._model, inputs, options, max_batch_size=batch.group)

    def new_ids(self, batch: Batch, output: list[list[_core.Hypothesis]]) -> list[list[int]]:
        """What follows each prompt."""
        return [list(best.ids[best.prompt_length :]) for best, *_ in output]


if __name__ == "__main__":
    serve(FuseqPeer())
