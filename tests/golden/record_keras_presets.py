# SPDX-License-Identifier: Apache-2.0
"""Records tiny presets that KerasHub wrote, and what KerasHub computes with them.

Run it once with each version; the version decides which folders are written:
    KERAS_BACKEND=torch python tests/golden/record_keras_presets.py          # keras-hub 0.32.0
    KERAS_BACKEND=tensorflow python tests/golden/record_keras_presets.py     # keras-hub 0.17.0
"""

import json
import os
import shutil
import zlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["CUDA_VISIBLE_DEVICES"] = ""

import keras
import keras_hub
import numpy as np

FOLDER = Path(__file__).resolve().parent / "keras_presets"
MODELS = keras_hub.models
VERSION = "".join(version("keras-hub").split(".")[:2])  # "032", "017"
DIM, HEADS, FFN, POSITIONS, MAX_LENGTH = 16, 2, 32, 32, 14
EVERY = 5  # logits of every fifth id are kept
MERGES = ["Ġ t", "h e", "Ġt he", "i n", "Ġ a", "o u", "e r", "Ġ f", "Ġf o", "Ġfo x", "q u"]
TEXTS = ["the quick brown fox", " jumped over the wall", "Straße, naïve!", "a"]
PROMPTS = ["the fox", "a quick inn"]
ROWS = {"encoder": [[0, 40, 77, 263, 2], [0, 99, 2]], "decoder": [[2, 0, 51, 261], [2, 0, 133]]}
SHARD = 2e-5  # in GB: a few shards


def alphabet() -> list[str]:
    """The 256 characters that stand for bytes in a byte-level vocabulary."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) for byte in plain] + [chr(256 + i) for i in range(len(others))]


def tokenizer(family: str) -> Any:
    """A byte-level tokenizer with a few merges."""
    words = [*alphabet(), *(merge.replace(" ", "") for merge in MERGES)]
    tokens = ["<s>", "<pad>", "</s>", *words] if family == "bart" else [*words, "<|endoftext|>"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    kind = MODELS.BartTokenizer if family == "bart" else MODELS.GPT2Tokenizer
    return kind(vocabulary=vocabulary, merges=MERGES)


def is_word(token: str) -> bool:
    """Whether a token reads as text; the others are drawn small, so that they are seldom best."""
    return all(letter == "Ġ" or letter in "abcdefghijklmnopqrstuvwxyz" for letter in token)


def make_task(family: str, layers: int, dtype: str | None = None, quantise: bool = False) -> Any:
    """A model whose weights depend on nothing but their names."""
    words = tokenizer(family)
    kind = MODELS.BartBackbone if family == "bart" else MODELS.GPT2Backbone
    backbone = kind(
        vocabulary_size=words.vocabulary_size(),
        num_layers=layers,
        num_heads=HEADS,
        hidden_dim=DIM,
        intermediate_dim=FFN,
        max_sequence_length=POSITIONS,
        **({"dtype": dtype} if dtype else {}),
    )
    for variable in backbone.weights:
        draw = np.random.default_rng(zlib.crc32(variable.path.encode()))
        noise = draw.standard_normal(variable.shape)
        is_gain = variable.path.endswith("gamma")
        spread = 0.5 if "embedding" in variable.path and len(variable.shape) == 2 else 0.3
        spread = 0.1 if is_gain or variable.path.endswith(("beta", "bias")) else spread
        if "token_embedding" in variable.path:
            noise[[not is_word(words.id_to_token(i)) for i in range(len(noise))]] *= 0.2
        variable.assign(float(is_gain) + spread * noise)
    if quantise:
        backbone.quantize("int8")
    if family == "bart":
        preprocessor = MODELS.BartSeq2SeqLMPreprocessor(
            words, encoder_sequence_length=MAX_LENGTH, decoder_sequence_length=MAX_LENGTH
        )
        return MODELS.BartSeq2SeqLM(backbone, preprocessor)
    preprocessor = MODELS.GPT2CausalLMPreprocessor(words, sequence_length=MAX_LENGTH)
    return MODELS.GPT2CausalLM(backbone, preprocessor)


def pad(rows: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of one length, and which of their ids count."""
    width = max(map(len, rows))
    ids = np.array([row + [1] * (width - len(row)) for row in rows], np.int32)
    mask = np.array([[1] * len(row) + [0] * (width - len(row)) for row in rows], np.int32)
    return ids, mask


def logits(task: Any, family: str) -> list[list[list[float]]]:
    """The logits of every position that counts, of every fifth id."""
    ids, mask = pad(ROWS["decoder"])
    inputs = {"token_ids": ids, "padding_mask": mask}
    if family == "bart":
        encoder_ids, encoder_mask = pad(ROWS["encoder"])
        inputs = {
            "encoder_token_ids": encoder_ids,
            "encoder_padding_mask": encoder_mask,
            "decoder_token_ids": ids,
            "decoder_padding_mask": mask,
        }
    found = keras.ops.convert_to_numpy(keras.ops.cast(task(inputs), "float32"))
    return [
        [[round(float(x), 6) for x in found[row, at, ::EVERY]] for at in range(len(ids))]
        for row, ids in enumerate(ROWS["decoder"])
    ]


def ids_of(words: Any, text: str) -> list[int]:
    """A text's ids."""
    return [int(i) for i in keras.ops.convert_to_numpy(words(text))]


def generate(task: Any, family: str) -> dict[str, Any]:
    """Greedy outputs of each prompt, alone: as text and as ids up to the first stop id."""
    task.compile(sampler="greedy")
    words = task.preprocessor.tokenizer
    plain = type(task)(task.backbone, preprocessor=None)
    plain.compile(sampler="greedy")
    texts, rows = [], []
    for prompt in PROMPTS:
        texts.append(task.generate(prompt, max_length=MAX_LENGTH))
        inputs = task.preprocessor.generate_preprocess([prompt], sequence_length=MAX_LENGTH)
        inputs = {name: keras.ops.convert_to_numpy(value) for name, value in inputs.items()}
        out = plain.generate(inputs, stop_token_ids=[words.end_token_id])
        name = "decoder_token_ids" if family == "bart" else "token_ids"
        rows.append([int(i) for i in out[name][0]])
    return {"prompts": PROMPTS, "max_length": MAX_LENGTH, "texts": texts, "ids": rows}


def record(name: str, task: Any, family: str, reload: bool = False, **options: Any) -> None:
    """Writes one preset and what KerasHub computes with it."""
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    task.save_to_preset(str(folder), **options)
    if reload:  # the stored weights, computed in float32
        task = type(task).from_preset(str(folder), dtype="float32")
        if family == "bart":
            task.preprocessor.encoder_sequence_length = MAX_LENGTH
    words = task.preprocessor.tokenizer
    names = ("keras-hub", "keras", "tensorflow" if VERSION == "017" else "torch")
    expected = {
        "versions": {name: version(name) for name in names},
        "family": family,
        "rows": ROWS if family == "bart" else {"decoder": ROWS["decoder"]},
        "every": EVERY,
        "logits": logits(task, family),
        "texts": {text: ids_of(words, text) for text in TEXTS},
        "greedy": generate(task, family),
    }
    text = json.dumps(expected, ensure_ascii=False) + "\n"
    (folder / "expected.json").write_text(text, encoding="utf-8")
    print(name, expected["greedy"]["ids"], expected["greedy"]["texts"])


def main() -> None:
    """Writes the folders of the installed version."""
    if VERSION == "017":
        record("bart_017", make_task("bart", 1), "bart")
        record("gpt2_017", make_task("gpt2", 1), "gpt2")
        return
    record("bart_032", make_task("bart", 2), "bart")
    record("bart_032_bfloat16", make_task("bart", 1, "bfloat16"), "bart", reload=True)
    task = make_task("gpt2", 1)
    record("gpt2_032", task, "gpt2")
    task.save_weights(str(FOLDER / "gpt2_032" / "whole_task.weights.h5"))
    record("gpt2_032_sharded", task, "gpt2", max_shard_size=SHARD)
    record("gpt2_032_int8", make_task("gpt2", 1, quantise=True), "gpt2")


if __name__ == "__main__":
    main()
