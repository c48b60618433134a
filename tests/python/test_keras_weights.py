# SPDX-License-Identifier: Apache-2.0
"""The HDF5 files of KerasHub: their layouts through the years, dtypes, shards, and faults."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("h5py")

import h5py
import keras_presets
from fuseq import _core
from fuseq.presets import keras_format
from keras_presets import FOLDER, family_of, load

EMBEDDING = "layers/reversible_embedding/vars/0"


Change = Callable[[str, Any], tuple[str, Any] | None]


def rewrite(path: Path, change: Change, layout: dict[str, Any] | None = None) -> None:
    """Writes a file anew, each dataset as `change` makes it (None: left out), without names."""
    found = {}
    with h5py.File(path, "r") as file:

        def visit(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                found[name] = item[()]

        file.visititems(visit)
    with h5py.File(path, "w") as file:
        for name, value in found.items():
            changed = change(name, value)
            if changed is not None:
                file.create_dataset(changed[0], data=changed[1], **(layout or {}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A preset that may be spoilt."""
    return keras_presets.copy("gpt2_032", tmp_path)


@pytest.fixture(scope="module")
def model() -> _core.Model:
    """What that preset holds."""
    return load(FOLDER / "gpt2_032")


def test_a_whole_task_s_file_gives_the_backbone(model: _core.Model) -> None:
    spec = json.loads(model.spec)
    path = FOLDER / "gpt2_032" / "whole_task.weights.h5"  # with the optimizer's variables
    weights = keras_format.load_weights_h5(path, spec, family_of(model))
    built = _core.Model.build(model.spec, weights, num_threads=1)
    assert keras_presets.same_weights(built, model)


def test_bare_weights_written_are_read_again(model: _core.Model, tmp_path: Path) -> None:
    path = tmp_path / "x.weights.h5"
    keras_format.save_weights_h5(path, model, family_of(model))
    assert [file.name for file in tmp_path.iterdir()] == ["x.weights.h5"]
    weights = keras_format.load_weights_h5(path, json.loads(model.spec), family_of(model))
    built = _core.Model.build(model.spec, weights, num_threads=1)
    assert keras_presets.same_weights(built, model)


def test_weights_lie_on_the_mapped_file(model: _core.Model, tmp_path: Path) -> None:
    path = shutil.copy(FOLDER / "gpt2_032" / "model.weights.h5", tmp_path / "x.weights.h5")
    spec = json.loads(model.spec)
    table = keras_format.load_weights_h5(path, spec, family_of(model))["embed.tokens"]
    with h5py.File(path, "r+") as file:
        file[EMBEDDING][3, 4] = 77.0
    assert table.numpy()[3, 4] == 77.0


def test_files_of_the_years_before_are_read(folder: Path, model: _core.Model) -> None:
    def rename(name: str, value: Any) -> tuple[str, Any]:
        name = name.replace("layers/", "_layer_checkpoint_dependencies/")
        return name.replace("query_dense", "_query_dense"), value

    rewrite(folder / "model.weights.h5", rename)
    assert keras_presets.same_weights(load(folder), model)


def test_a_layer_is_found_by_its_name_before_its_number(tmp_path: Path) -> None:
    folder = keras_presets.copy("bart_032", tmp_path)
    with h5py.File(folder / "model.weights.h5", "r+") as file:
        layers = file["layers"]
        layers.move("position_embedding", "x")
        layers.move("position_embedding_1", "position_embedding")
        layers.move("x", "position_embedding_1")
    assert keras_presets.same_weights(load(folder), load(FOLDER / "bart_032"))


@pytest.mark.parametrize(
    "layout", [{}, {"compression": "gzip"}, {"chunks": True}, {"shuffle": True}]
)
def test_layouts_that_cannot_be_mapped_are_read(
    layout: dict[str, Any], folder: Path, model: _core.Model
) -> None:
    rewrite(folder / "model.weights.h5", lambda name, value: (name, value), layout)
    assert keras_presets.same_weights(load(folder), model)


@pytest.mark.parametrize("dtype", ["<f8", ">f4", "<f2"])
def test_other_floats_become_float32(dtype: str, folder: Path, model: _core.Model) -> None:
    rewrite(folder / "model.weights.h5", lambda name, value: (name, value.astype(dtype)))
    found = load(folder)
    assert found.dtype == "float32"
    for name, _, _ in _core.weight_table(model.spec):
        wanted = model.weight(name).numpy().astype(dtype).astype(np.float32)
        assert np.array_equal(found.weight(name).numpy(), wanted)


def test_a_group_may_span_shards(tmp_path: Path) -> None:
    folder = keras_presets.copy("gpt2_032_sharded", tmp_path)
    index = json.loads((folder / "model.weights.json").read_text("utf-8"))
    group = "layers/layer_normalization/vars"
    with h5py.File(folder / "model_00001.weights.h5", "r+") as file:
        moved = file[f"{group}/1"][()]
        del file[f"{group}/1"]
    with h5py.File(folder / "model_00002.weights.h5", "w") as file:
        file.create_dataset(f"{group}/1", data=moved)
    index["weight_map"][f"/{group}"] = ["model_00001.weights.h5", "model_00002.weights.h5"]
    (folder / "model.weights.json").write_text(json.dumps(index), "utf-8")
    assert keras_presets.same_weights(load(folder), load(FOLDER / "gpt2_032_sharded"))

    with h5py.File(folder / "model_00002.weights.h5", "a") as file:
        file.create_dataset(f"{group}/0", data=moved)
    with pytest.raises(ValueError, match=rf'"{group}/0" must be there once, got it twice'):
        load(folder)


@pytest.mark.parametrize("shard", ["../x.h5", "/etc/passwd", "", 3, "a\\b"])
def test_a_shard_outside_the_folder_is_refused(shard: object, tmp_path: Path) -> None:
    folder = keras_presets.copy("gpt2_032_sharded", tmp_path)
    text = json.dumps({"weight_map": {"/layers/a/vars": [shard]}})
    (folder / "model.weights.json").write_text(text, "utf-8")
    with pytest.raises(ValueError, match=r'"/layers/a/vars" must be a file name in the folder'):
        load(folder)


def test_missing_files_are_named(folder: Path, tmp_path: Path) -> None:
    (folder / "model.weights.h5").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.weights\.h5 or model\.weights\.json, got"):
        load(folder)
    sharded = keras_presets.copy("gpt2_032_sharded", tmp_path)
    (sharded / "model_00001.weights.h5").unlink()
    with pytest.raises(FileNotFoundError, match=r'the shard "model_00001\.weights\.h5" must exist'):
        load(sharded)
    (sharded / "model.weights.json").write_text('{"weight_map": []}', "utf-8")
    with pytest.raises(ValueError, match=r'weights\.json": weight_map must be an object'):
        load(sharded)
    model = load(FOLDER / "gpt2_032")
    with pytest.raises(FileNotFoundError, match=r'no\.weights\.h5": the file must exist, got none'):
        keras_format.load_weights_h5(
            tmp_path / "no.weights.h5", json.loads(model.spec), family_of(model)
        )


@pytest.mark.parametrize("keep", [0, 7, 600, 20000, 80000])
def test_a_cut_file_is_told(keep: int, folder: Path) -> None:
    path = folder / "model.weights.h5"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r'model\.weights\.h5": must be a whole HDF5 file, got'):
        load(folder)


def test_damaged_bytes_never_pass_for_anything_but_values(folder: Path) -> None:
    path = folder / "model.weights.h5"
    whole = path.read_bytes()
    refused = 0
    for start in range(0, len(whole), 997):
        path.write_bytes(whole[:start] + b"\xff" * 64 + whole[start + 64 :])
        try:
            load(folder)
        except ValueError as error:
            refused += 1
            assert "model.weights.h5" in str(error)
    assert refused > 0


def test_everything_that_does_not_fit_is_in_one_message(folder: Path) -> None:
    def change(name: str, value: Any) -> tuple[str, Any] | None:
        if name == "layers/layer_normalization/vars/1":
            return None
        if name == "layers/position_embedding/vars/0":
            return name, value[1:]
        if name == "layers/layer_normalization/vars/0":
            return name, value.astype(np.int32)
        return name, value

    path = folder / "model.weights.h5"
    rewrite(path, change)
    with h5py.File(path, "a") as file:
        file.create_dataset("layers/dense/vars/0", data=np.ones((2, 3)))
        file.create_dataset("layers/dropout/seed_generator/vars/0", data=np.ones(2, np.uint32))
        file.create_dataset("optimizer/vars/1", data=1.0)
    with pytest.raises(ValueError, match="weights: all must be there") as caught:
        load(folder)
    assert str(caught.value).split("\n  ")[1:] == [
        'misshapen: "layers/position_embedding/vars/0" must be [32, 16], got [31, 16]',
        'dtype: "layers/layer_normalization/vars/0" must be float16, float32, float64, bfloat16, '
        "got int32",
        'missing: "layers/layer_normalization/vars/1" [16]',
        'unexpected: "layers/dense/vars/0" [2, 3]',
    ]


def test_a_kernel_of_other_heads_is_misshapen_though_its_size_fits(folder: Path) -> None:
    def change(name: str, value: Any) -> tuple[str, Any]:
        is_query = "query_dense/vars/0" in name
        return name, value.reshape(16, 4, 4) if is_query else value

    rewrite(folder / "model.weights.h5", change)
    with pytest.raises(ValueError, match=r"query_dense/vars/0\" must be \[16, 2, 8\], got \[16, 4"):
        load(folder)


def test_int8_without_its_scale_and_int4_are_told(tmp_path: Path) -> None:
    folder = keras_presets.copy("gpt2_032_int8", tmp_path)
    path = folder / "model.weights.h5"
    saved = path.read_bytes()
    rewrite(path, lambda name, value: None if "embedding/vars/1" in name else (name, value))
    with pytest.raises(ValueError, match=r'missing: "layers/rev.*/vars/1", the scale of an int8'):
        load(folder)
    path.write_bytes(saved)
    rewrite(path, lambda name, value: (name, value[:, :8] if name == EMBEDDING else value))
    with pytest.raises(ValueError, match=r"must be \[268, 16\], got \[268, 8\](.|\n)*Is it int4"):
        load(folder)
    path.write_bytes(saved)
    rewrite(path, lambda name, value: (name, value[:9] if "embedding/vars/1" in name else value))
    with pytest.raises(ValueError, match=r"must be 268 scales .* got \[9\] of float32"):
        load(folder)


def test_data_in_other_files_is_not_read(folder: Path, tmp_path: Path) -> None:
    path = folder / "model.weights.h5"
    other = tmp_path / "other.bin"
    other.write_bytes(bytes(268 * 16 * 4))
    with h5py.File(path, "r+") as file:
        del file[EMBEDDING]
        file.create_dataset(
            EMBEDDING, (268, 16), "f4", external=[(str(other), 0, h5py.h5f.UNLIMITED)]
        )
    with pytest.raises(ValueError, match=r"must lie in the file itself, got a reference"):
        load(folder)
    with h5py.File(path, "r+") as file:
        del file[EMBEDDING]
        file[EMBEDDING] = h5py.ExternalLink(str(other), "x")
    with pytest.raises(ValueError, match=f'missing: "{EMBEDDING}"'):
        load(folder)
