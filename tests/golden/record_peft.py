# SPDX-License-Identifier: Apache-2.0
"""Records adapters that peft wrote for the tiny models of this folder, and logits with them.

Needs torch, transformers and peft:  python tests/golden/record_peft.py
"""

import json
import shutil
import sys
import zlib
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

HERE = Path(__file__).resolve().parent
FOLDER = HERE / "peft"

# Each kind of module, patterns of ranks and alphas, the other scale.
CASES: dict[str, dict[str, Any]] = {
    "bart": {},
    "bart_all": {
        "target_modules": ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"],
        "r": 2,
        "lora_alpha": 3,
        "lora_dropout": 0.2,
        "rank_pattern": {"encoder_attn.k_proj": 1, "^model.encoder.layers.0.fc1": 3},
        "alpha_pattern": {"fc2": 5},
    },
    "gpt2": {"r": 3, "lora_alpha": 6, "use_rslora": True},
    "gpt2_all": {"target_modules": ["c_attn", "c_proj", "c_fc"], "r": 2},
}
IDS = [[5, 17, 90, 33, 2], [64, 8, 8, 101, 77]]
DECODER_IDS = [[2, 40, 12, 99], [2, 7, 71, 3]]


def fill(model: Any) -> None:
    """Factors by their names, large enough that logits tell them apart."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
                parameter.copy_(0.15 * torch.randn(parameter.shape, generator=generator))


def logits(model: Any) -> Any:
    """Of all positions."""
    inputs = {"input_ids": torch.tensor(IDS)}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = torch.tensor(DECODER_IDS)
    with torch.no_grad():
        return model.eval()(**inputs).logits.tolist()


def main() -> None:
    """Writes the adapters and `logits.json`."""
    expected: dict[str, Any] = {"ids": IDS, "decoder_ids": DECODER_IDS, "logits": {}}
    for case, fields in CASES.items():
        family = case.split("_")[0]
        kind = AutoModelForSeq2SeqLM if family == "bart" else AutoModelForCausalLM
        task = "SEQ_2_SEQ_LM" if family == "bart" else "CAUSAL_LM"
        model = kind.from_pretrained(HERE / f"{family}_tiny_hf")
        config = LoraConfig(task_type=task, fan_in_fan_out=family == "gpt2", **fields)
        model = get_peft_model(model, config)
        fill(model)
        model.peft_config["default"].base_model_name_or_path = f"{family}_tiny_hf"
        shutil.rmtree(FOLDER / case, ignore_errors=True)
        model.save_pretrained(FOLDER / case)
        (FOLDER / case / "README.md").unlink()
        rows = logits(model)
        expected["logits"][case] = [[[round(x, 6) for x in row] for row in r] for r in rows]
    (FOLDER / "logits.json").write_text(json.dumps(expected) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
