# SPDX-License-Identifier: Apache-2.0
"""Training against KerasHub's: histories, losses, gradients, weights and LoRA, as recorded."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("torch")
pytest.importorskip("h5py")

import fuseq
import h5py
import keras_presets
from fuseq import _core
from fuseq.training.lora_files import layer_numbers

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "keras_training"
NAMES = ("bart_032", "gpt2_032", "bart_017", "gpt2_017")
LATEST = ("bart_032", "gpt2_032")
RECORDS: dict[str, dict[str, Any]] = {
    name: json.loads((FOLDER / f"{name}.json").read_text("utf-8")) for name in NAMES
}
RUNS = [(name, run) for name in NAMES for run in RECORDS[name]["runs"]]
RELATIVE = 1e-5  # of losses; a few steps of Adam(1e-2) add some of their own
ADAM = {"class_name": "Adam", "config": {"learning_rate": 1e-2}}

FloatArray = npt.NDArray[np.float32]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Copies of the presets with dropout 0."""
    found = {}
    for name in NAMES:
        folder = keras_presets.copy(name, tmp_path_factory.mktemp("no_dropout"))
        for file in ("config.json", "task.json"):
            text = (folder / file).read_text("utf-8")
            (folder / file).write_text(text.replace('"dropout": 0.1', '"dropout": 0.0'), "utf-8")
        found[name] = folder
    return found


def load(folder: Path, *, reads_texts: bool = True) -> Any:
    record = RECORDS[folder.name]
    options = record["lengths"] if reads_texts else {"preprocessor": None}
    return fuseq.models.CausalLM.from_preset(folder, compile=False, **options)


def arrays(ids: dict[str, Any], rows: int | None = None) -> tuple[Any, Any, Any]:
    """Recorded ids as `fit` takes them: x, y and the mask of y."""
    x = {key: np.asarray(value, np.int32)[:rows] for key, value in ids["x"].items()}
    y, mask = (np.asarray(ids[key], np.int32)[:rows] for key in ("y", "sample_weight"))
    return x, y, mask


def as_arrays(texts: Any) -> Any:
    """Texts that may be split."""
    if isinstance(texts, dict):
        return {key: np.array(value) for key, value in texts.items()}
    return np.array(texts)


def in_keras_form(name: str, numbers: str, folder: Path) -> Any:
    """Recorded numbers as the weights of a task, by way of the preset's own file."""
    path = shutil.copy(folder / "model.weights.h5", folder / f"{numbers}.weights.h5")
    values = np.load(FOLDER / f"{name}_{numbers}.npy")
    with h5py.File(path, "r+") as file:
        datasets: dict[str, h5py.Dataset] = {}

        def visit(key: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                datasets[key] = item

        file.visititems(visit)
        assert sum(item.size for item in datasets.values()) == len(values)
        begin = 0
        for key in sorted(datasets):
            item = datasets[key]
            item[...] = values[begin : begin + item.size].reshape(item.shape)
            begin += item.size
    task = load(folder, reads_texts=False)
    task.load_weights(path)
    return task


def weights(task: Any) -> dict[str, FloatArray]:
    """All weights by our names."""
    model = task.backbone.model
    names = [name for name, _, _ in _core.weight_table(model.spec)]
    return {name: model.weight(name).numpy() for name in names}


def logits(task: Any, record: dict[str, Any]) -> list[FloatArray]:
    """Of the positions that `record_keras_presets.py` keeps, with every row padded as there."""
    expected = keras_presets.expected(f"{record['family']}_032")
    rows = expected["rows"]
    x = {}
    for side, ids in rows.items():
        width = max(map(len, ids))
        prefix = "" if record["family"] == "gpt2" else f"{side}_"
        x[f"{prefix}token_ids"] = np.array([row + [1] * (width - len(row)) for row in ids])
        x[f"{prefix}padding_mask"] = np.array(
            [[1] * len(row) + [0] * (width - len(row)) for row in ids]
        )
    found = task.predict(x, verbose=0)
    return [found[i, : len(row), :: expected["every"]] for i, row in enumerate(rows["decoder"])]


def assert_logits(found: list[FloatArray], expected: Any, tolerance: float) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)


def fit(folder: Path, run: dict[str, Any]) -> tuple[Any, Any]:
    """A recorded call of `fit`: the task and the History."""
    record = RECORDS[folder.name]
    reads_texts = "weights" not in run
    task = load(folder, reads_texts=reads_texts)
    task.compile(**run["compile"])
    options = dict(run["fit"], verbose=0)
    if reads_texts:
        x, y, weight = record["texts"], None, None
        validation: Any = (record["validation_texts"],)
        if "validation_split" in options:
            x = as_arrays(x)
    else:
        x, y, mask = arrays(record["ids"])
        given = run["sample_weight"]
        weight = {"mask": mask, "none": None}.get(run["weights"], given)
        weight = np.asarray(weight, np.float32) if given is not None else weight
        validation = arrays(record["validation_ids"])
    if run.get("validation"):
        options["validation_data"] = validation
    return task, task.fit(x, y, sample_weight=weight, **options)


@pytest.mark.parametrize(("name", "run"), RUNS)
def test_histories_are_those_of_keras(name: str, run: str, folders: dict[str, Path]) -> None:
    expected = RECORDS[name]["runs"][run]
    _, history = fit(folders[name], expected)
    assert list(history.history) == list(expected["history"])
    assert history.epoch == expected["epochs"]
    for key, values in expected["history"].items():
        np.testing.assert_allclose(history.history[key], values, rtol=RELATIVE, err_msg=key)


@pytest.mark.parametrize("name", LATEST)
def test_weights_after_adam_are_those_of_keras(name: str, folders: dict[str, Path]) -> None:
    task, _ = fit(folders[name], RECORDS[name]["runs"]["adam"])
    expected = weights(in_keras_form(name, "trained", folders[name]))
    start = weights(load(folders[name]))
    for key, ours in weights(task).items():
        if key.endswith("k.bias"):
            continue  # of gradient 0 but for rounding, which Adam makes into steps of full size
        np.testing.assert_allclose(ours, expected[key], rtol=0, atol=1e-3, err_msg=key)
    assert any(np.abs(expected[key] - start[key]).max() > 0.02 for key in start)


@pytest.mark.parametrize("name", LATEST)
def test_gradients_are_those_of_keras(name: str, folders: dict[str, Path]) -> None:
    expected = weights(in_keras_form(name, "gradients", folders[name]))
    task = load(folders[name], reads_texts=False)
    task.compile(optimizer={"class_name": "SGD", "config": {"learning_rate": 1.0}})
    start = weights(task)
    loss = task.train_on_batch(*arrays(RECORDS[name]["ids"], 4), return_dict=True)["loss"]
    np.testing.assert_allclose(loss, RECORDS[name]["gradients"]["loss"], rtol=RELATIVE)
    for key, after in weights(task).items():
        np.testing.assert_allclose(
            start[key] - after, expected[key], rtol=1e-4, atol=2e-6, err_msg=key
        )


@pytest.mark.parametrize("name", NAMES)
def test_texts_become_the_ids_that_keras_trains_on(name: str, folders: dict[str, Path]) -> None:
    record = RECORDS[name]
    preprocessor = load(folders[name]).preprocessor
    for texts, ids in (("texts", "ids"), ("validation_texts", "validation_ids")):
        x, y, mask = preprocessor(record[texts])
        theirs = arrays(record[ids])
        for key, value in theirs[0].items():
            np.testing.assert_array_equal(np.asarray(x[key]), value, err_msg=key)
        np.testing.assert_array_equal(np.asarray(y), theirs[1])
        np.testing.assert_array_equal(np.asarray(mask), theirs[2])


@pytest.mark.parametrize("name", NAMES)
def test_evaluate_returns_what_keras_does(name: str, folders: dict[str, Path]) -> None:
    record = RECORDS[name]
    calls = record["calls"]
    task = load(folders[name])
    task.compile(optimizer=ADAM)
    options = {"batch_size": 4, "verbose": 0}
    found = task.evaluate(record["texts"], **options)
    assert isinstance(found, list)
    np.testing.assert_allclose(found, calls["evaluate"], rtol=RELATIVE)
    found = task.evaluate(record["texts"], return_dict=True, **options)
    assert list(found) == list(calls["evaluate_dict"])
    assert found == pytest.approx(calls["evaluate_dict"], rel=RELATIVE)
    found = task.evaluate(record["texts"], steps=2, **options)
    np.testing.assert_allclose(found, calls["evaluate_steps"], rtol=RELATIVE)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("case", "metrics"), [("with_accuracy", ["accuracy"]), ("without_metrics", None)]
)
def test_results_have_the_order_and_the_form_of_keras(
    name: str, case: str, metrics: list[str] | None, folders: dict[str, Path]
) -> None:
    record = RECORDS[name]
    expected = record["calls"][case]
    batch = arrays(record["ids"], 4)
    everything = arrays(record["ids"])
    task = load(folders[name], reads_texts=False)
    task.compile(optimizer=ADAM, weighted_metrics=metrics)
    options = {"sample_weight": everything[2], "batch_size": 4, "verbose": 0}
    found = {
        "evaluate": task.evaluate(*everything[:2], **options),
        "evaluate_dict": task.evaluate(*everything[:2], return_dict=True, **options),
    }
    for call in ("test_on_batch", "train_on_batch"):
        task.compile(optimizer=ADAM, weighted_metrics=metrics)  # the means of 0.17 start anew
        found[call] = getattr(task, call)(*batch)
    assert list(found["evaluate_dict"]) == list(expected["evaluate_dict"])
    for call, value in found.items():
        assert np.shape(value) == np.shape(expected[call]), call
        assert value == pytest.approx(expected[call], rel=RELATIVE), call


@pytest.mark.parametrize("name", LATEST)
def test_calls_on_one_batch_return_the_numbers_of_that_batch(
    name: str, folders: dict[str, Path]
) -> None:
    batch = arrays(RECORDS[name]["ids"], 4)
    task = load(folders[name], reads_texts=False)
    task.compile(optimizer=ADAM)
    for call, options, _, expected in RECORDS[name]["calls"]["on_batch"]:
        found = getattr(task, call)(*batch, **options)
        assert isinstance(found, dict if options else list)
        assert found == pytest.approx(expected, rel=RELATIVE), call


@pytest.mark.parametrize("name", NAMES)
def test_predict_gives_the_logits_of_keras(name: str, folders: dict[str, Path]) -> None:
    record = RECORDS[name]
    expected = record["calls"]["predict"]
    found = load(folders[name]).predict(record["texts"], batch_size=4, verbose=0)
    assert list(found.shape) == expected["shape"]
    assert str(found.dtype) == expected["dtype"]
    mask = arrays(record["ids"])[0]
    mask = mask.get("decoder_padding_mask", mask.get("padding_mask"))
    for row, theirs in enumerate(expected["logits"]):  # what stands behind padding is not compared
        real = mask[row].astype(bool)
        ours = found[row, real, ::10]
        np.testing.assert_allclose(ours, np.asarray(theirs)[real], rtol=0, atol=2e-5)


# ---- LoRA ----


def lora_file(path: Path) -> dict[str, Any]:
    """The arrays of such a file by their paths."""
    found: dict[str, Any] = {}
    with h5py.File(path) as file:

        def visit(key: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                found[key] = item[()]

        file.visititems(visit)
    return found


@pytest.mark.parametrize("name", LATEST)
def test_lora_of_keras_gives_its_logits(name: str, folders: dict[str, Path]) -> None:
    record = RECORDS[name]
    task = load(folders[name], reads_texts=False)
    before = logits(task, record)
    task.backbone.load_lora_weights(FOLDER / f"{name}.lora.h5")
    found = logits(task, record)
    assert_logits(found, record["lora"]["logits"], 2e-5)
    assert all(np.abs(a - b).max() > 1e-2 for a, b in zip(before, found, strict=True))


@pytest.mark.parametrize("name", LATEST)
def test_lora_written_is_what_keras_writes(
    name: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    task = load(folders[name])
    task.backbone.load_lora_weights(FOLDER / f"{name}.lora.h5")
    task.backbone.save_lora_weights(tmp_path / "x.lora.h5")
    ours, theirs = lora_file(tmp_path / "x.lora.h5"), lora_file(FOLDER / f"{name}.lora.h5")
    assert set(ours) == set(theirs)
    for key, value in theirs.items():
        np.testing.assert_array_equal(ours[key], value, err_msg=key)
        assert ours[key].dtype == value.dtype, key


@pytest.mark.parametrize("name", LATEST)
def test_layers_are_counted_as_keras_counts_them(name: str, folders: dict[str, Path]) -> None:
    expected = RECORDS[name]["lora"]
    spec = json.loads(load(folders[name]).backbone.model.spec)
    words = {"attn": "self_attention", "cross_attn": "cross_attention", "q": "query", "v": "value"}
    for number, ours in layer_numbers(spec).items():
        stack, layer, *parts = ours.split(".")
        path = expected["layers"][number]
        assert f"layer_{layer}/" in path
        assert stack in path or name.startswith("gpt2")
        assert all(words.get(part, part) in path for part in parts if part in words)
    for depth, numbers in expected["numbers"].items():
        for stack in ("encoder", "decoder"):
            spec[stack]["layers"] = int(depth) if spec[stack]["layers"] else 0
        found = layer_numbers(spec)
        assert [i for i in sorted(found) if found[i].split(".")[-1] in "qv"] == numbers, depth


@pytest.mark.parametrize("name", LATEST)
def test_lora_trains_as_in_keras(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    record = RECORDS[name]
    expected = record["lora"]
    task = load(folders[name])
    task.backbone.load_lora_weights(FOLDER / f"{name}.lora.h5")
    task.compile(optimizer=ADAM)
    history = task.fit(record["texts"], verbose=0, **expected["fit"])
    for key, values in expected["history"].items():
        np.testing.assert_allclose(history.history[key], values, rtol=RELATIVE, err_msg=key)
    task.backbone.save_lora_weights(tmp_path / "x.lora.h5")
    trained = lora_file(tmp_path / "x.lora.h5")
    numbers = sorted({int(key.split("/")[1]) for key in trained if "lora_kernel" in key})
    ours = [trained[f"lora/{i}/vars/lora_kernel_{part}"].ravel() for i in numbers for part in "ab"]
    theirs = np.load(FOLDER / f"{name}_trained_lora.npy")
    np.testing.assert_allclose(np.concatenate(ours), theirs, rtol=0, atol=1e-3)
    task.preprocessor = None
    assert_logits(logits(task, record), expected["trained_logits"], 1e-3)
    task.save_to_preset(tmp_path / "merged")
    merged = fuseq.models.CausalLM.from_preset(tmp_path / "merged", preprocessor=None)
    assert_logits(logits(merged, record), expected["merged_logits"], 1e-3)


@pytest.mark.parametrize("name", LATEST)
def test_lora_of_queries_alone_has_the_parameters_of_keras(
    name: str, folders: dict[str, Path]
) -> None:
    task = load(folders[name])
    task.backbone.enable_lora(2, target_layer_names=["query"])
    parameters = [p for p in task.torch_module().parameters() if p.requires_grad]
    sizes = [int(np.prod(shape)) for _, shape in RECORDS[name]["lora"]["queries"]]
    assert sum(p.numel() for p in parameters) == sum(sizes)
