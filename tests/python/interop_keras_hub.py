# SPDX-License-Identifier: Apache-2.0
"""Presets that we write, opened by KerasHub, and what KerasHub makes of them, read by us again.

Run by hand with the Python of fuseq; each argument is the Python of an environment with KerasHub:
    python tests/python/interop_keras_hub.py /envs/keras-hub-0.32/bin/python /envs/0.17/bin/python
"""

import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

RESULT = Path(__file__).with_suffix(".json")
GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "keras_presets"
TOLERANCE = 1e-4
LENGTHS = {
    "bart": {"encoder_sequence_length": 20, "decoder_sequence_length": 12},
    "gpt2": {"sequence_length": 18, "add_start_token": True, "add_end_token": False},
}
TEXTS = ["the quick brown fox", " jumped over the wall", "Straße, naïve!", "</s> a <|endoftext|>"]
ENCODER = [[0, 40, 77, 263, 99, 2], [0, 99, 2]]
DECODER = [[2, 0, 51, 261, 7], [2, 0, 133]]
CASES = {  # form of the file: dtype, size of a shard in GB
    "float32": ("float32", 10.0),
    "bfloat16": ("bfloat16", 10.0),
    "sharded": ("float32", 1e-4),
}


# --- in the Python of fuseq -----------------------------------------------------------------------


def make_model(family: str, dtype: str) -> Any:
    """A random model; more than ten layers, so that their order by name and number differ."""
    from fuseq import _core
    from fuseq.models.families import FAMILIES

    config = {
        "vocabulary_size": 270 if family == "bart" else 268,
        "num_layers": 3 if family == "bart" else 12,
        "num_heads": 3,
        "hidden_dim": 24,
        "intermediate_dim": 40,
        "max_sequence_length": 40,
    }
    tables = FAMILIES[family].keras
    assert tables is not None
    spec = json.dumps(tables.spec(config))
    draw = np.random.default_rng(7)
    weights = {}
    for name, shape, is_matrix in _core.weight_table(spec):
        noise = 0.3 * draw.standard_normal(shape)
        is_gain = not is_matrix and "norm" in name and name.endswith("weight")
        weights[name] = (noise + is_gain).astype(np.float32)
        if name.endswith("positions"):
            weights[name][: len(weights[name]) - 40] = 0  # no token has these rows
    return _core.Model.build(spec, weights, dtype=dtype, num_threads=1)


def our_logits(model: Any) -> list[Any]:
    """Of every row alone."""
    from fuseq import _core

    session = _core.Session(model, num_threads=1)
    encoder = ENCODER if model.is_seq2seq else [[], []]
    return [
        session.forward([_core.Prompt(source, target)]).numpy().reshape(len(target), -1).tolist()
        for source, target in zip(encoder, DECODER, strict=True)
    ]


def write(folder: Path) -> dict[str, Any]:
    """Writes every case and what KerasHub must find in it; returns the models."""
    from fuseq import tokenizers
    from fuseq.models.families import FAMILIES
    from fuseq.presets import keras_format

    models = {}
    for family in ("bart", "gpt2"):
        tables = FAMILIES[family].keras
        assert tables is not None
        words = tokenizers.load(GOLDEN / f"{family}_032")
        for case, (dtype, size) in CASES.items():
            model = make_model(family, dtype)
            preset = folder / f"{family}_{case}"
            keras_format.save(
                preset,
                model,
                FAMILIES[family],
                tokenizer=words,
                preprocessor=(tables.preprocessor.name, LENGTHS[family]),
                task=(tables.task.name, tables.task.object_name),
                max_shard_size=size,
            )
            keras_format.save_weights_h5(
                folder / f"{preset.name}.weights.h5", model, FAMILIES[family]
            )
            plain = keras_format.load_model(
                preset, FAMILIES, dtype="float32", num_threads=1, cpu_isa="automatic"
            )
            models[preset.name] = plain
            expected = {
                "logits": our_logits(plain),
                "texts": {text: [int(i) for i in words(text)] for text in TEXTS},
            }
            text = json.dumps(expected)
            (folder / f"{preset.name}.expected.json").write_text(text, encoding="utf-8")
    return models


def read(folder: Path, models: dict[str, Any]) -> dict[str, Any]:
    """Compares what KerasHub wrote with what it had read from us."""
    from fuseq import _core
    from fuseq.models.families import FAMILIES
    from fuseq.presets import keras_format

    def load(path: Path) -> Any:
        return keras_format.load_model(
            path, FAMILIES, dtype="float32", num_threads=1, cpu_isa="automatic"
        )

    found = {}
    for name, model in models.items():
        back = folder / f"{name}.back"
        if not back.is_dir():
            continue
        same = {"preset": load(back / "preset")}
        for kind in ("backbone", "task"):
            weights = keras_format.load_weights_h5(
                back / f"{kind}.weights.h5", json.loads(model.spec), FAMILIES[model.family]
            )
            same[kind] = _core.Model.build(model.spec, weights, num_threads=1)
        rounded = load(back / "int8")
        steps = 0.0
        for weight, _, is_matrix in _core.weight_table(model.spec):
            wanted = model.weight(weight).numpy()
            for kind, other in same.items():
                assert np.array_equal(other.weight(weight).numpy(), wanted), (name, kind, weight)
            difference = np.abs(rounded.weight(weight).numpy() - wanted)
            if is_matrix or weight == "embed.tokens":
                largest = np.abs(wanted).max(axis=-1, keepdims=True) / 127
                steps = max(steps, float((difference / largest).max()))
            else:
                assert not difference.any(), (name, weight)
        assert 0.4 < steps < 0.5001, (name, steps)
        found[name] = {"equal_weights": sorted(same), "largest_int8_step": round(steps, 4)}
    return found


def main() -> None:
    """Writes, lets each environment read and write, reads, and records the result."""
    results = []
    for python in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            models = write(folder)
            command = [python, __file__, "--child", temporary]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            result = json.loads(done.stdout.splitlines()[-1])
            result["read_again"] = read(folder, models)
            results.append(result)
    text = json.dumps({"tolerance": TOLERANCE, "environments": results}, indent=2)
    RESULT.write_text(text + "\n", encoding="utf-8")
    print(text)


# --- in the Python of KerasHub --------------------------------------------------------------------


def pad(rows: list[list[int]]) -> tuple[Any, Any]:
    """Rows of one length, and which of their ids count."""
    width = max(map(len, rows))
    ids = np.array([row + [1] * (width - len(row)) for row in rows], np.int32)
    mask = np.array([[1] * len(row) + [0] * (width - len(row)) for row in rows], np.int32)
    return ids, mask


def largest_difference(task: Any, family: str, expected: list[Any]) -> float:
    """Of KerasHub's logits and ours."""
    import keras

    ids, mask = pad(DECODER)
    inputs = {"token_ids": ids, "padding_mask": mask}
    if family == "bart":
        encoder_ids, encoder_mask = pad(ENCODER)
        inputs = {
            "encoder_token_ids": encoder_ids,
            "encoder_padding_mask": encoder_mask,
            "decoder_token_ids": ids,
            "decoder_padding_mask": mask,
        }
    found = keras.ops.convert_to_numpy(task(inputs))
    return max(
        float(np.abs(found[row, : len(ours)] - np.asarray(ours)).max())
        for row, ours in enumerate(expected)
    )


def make_backbone(model: Any) -> Any:
    """Another backbone like this one, computing in float32, with random weights."""
    return type(model)(**{**model.get_config(), "dtype": "float32"})


def open_case(folder: Path, name: str) -> dict[str, Any]:
    """Opens one preset in every way, checks it, and writes it again."""
    import keras
    import keras_hub

    family = name.split("_")[0]
    expected = json.loads((folder / f"{name}.expected.json").read_text("utf-8"))
    base = keras_hub.models.Seq2SeqLM if family == "bart" else keras_hub.models.CausalLM
    task = base.from_preset(str(folder / name), dtype="float32")
    assert type(task).__name__ == {"bart": "BartSeq2SeqLM", "gpt2": "GPT2CausalLM"}[family]
    if task.backbone.token_embedding.compute_dtype != "float32":  # 0.17 passes over our dtype
        task = type(task)(make_backbone(task.backbone), preprocessor=task.preprocessor)
        task.backbone.load_weights(str(folder / name / "model.weights.h5"))
    for field, value in LENGTHS[family].items():
        assert getattr(task.preprocessor, field) == value, field
    difference = largest_difference(task, family, expected["logits"])
    assert difference < TOLERANCE, (name, difference)
    for text, ids in expected["texts"].items():
        theirs = [int(i) for i in keras.ops.convert_to_numpy(task.preprocessor.tokenizer(text))]
        assert theirs == ids, (name, text, theirs, ids)

    alone = type(task)(make_backbone(task.backbone), preprocessor=None)
    alone.backbone.load_weights(str(folder / f"{name}.weights.h5"))
    bare = largest_difference(alone, family, expected["logits"])
    assert bare < TOLERANCE, (name, bare)

    back = folder / f"{name}.back"
    task.save_to_preset(str(back / "preset"))
    task.save_weights(str(back / "task.weights.h5"))
    task.backbone.save_weights(str(back / "backbone.weights.h5"))
    text = task.generate("the fox", max_length=8)
    assert isinstance(text, str)
    task.backbone.quantize("int8")
    task.save_to_preset(str(back / "int8"))
    return {"largest_difference_of_logits": difference, "equal_texts": len(expected["texts"])}


def child(folder: Path) -> None:
    """Opens every case; the last line printed is the result."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    is_old = version("keras-hub").startswith("0.17")
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow" if is_old else "torch")
    cases = {}
    for path in sorted(folder.glob("*.expected.json")):
        name = path.name.removesuffix(".expected.json")
        if is_old and name.endswith("sharded"):
            cases[name] = "not tried: this version of KerasHub has no shards"
        else:
            cases[name] = open_case(folder, name)
    names = ("keras-hub", "keras", backend)
    print(json.dumps({"versions": {name: version(name) for name in names}, "opened": cases}))


if __name__ == "__main__":
    if "--child" in sys.argv:
        child(Path(sys.argv[2]))
    else:
        main()
