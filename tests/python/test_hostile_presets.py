# SPDX-License-Identifier: Apache-2.0
"""Damaged files of presets end in a ValueError that names the file, and nothing else."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("h5py")

import h5py
import keras_presets
import numpy as np
from fuseq.models import Backbone, CausalLM
from fuseq.models.families import FAMILIES
from fuseq.presets import keras_format
from fuseq.presets.load import Preset, open_preset
from keras_presets import load, same_weights

# Loads a preset with at most 2 GiB more than it has at the start.
_LOADER = """
import resource, sys
from pathlib import Path
from fuseq.models.families import FAMILIES
from fuseq.presets.load import open_preset
import h5py, numpy
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (2 << 30), used + (2 << 30)))
try:
    open_preset(sys.argv[1], FAMILIES).load_model(dtype=None, num_threads=1)
    print("loaded")
except ValueError as error:
    print(error)
"""


def change_json(path: Path, keys: tuple[str | int, ...], value: object) -> None:
    """Puts a value into a JSON file."""
    whole = json.loads(path.read_text("utf-8"))
    place = whole
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    path.write_text(json.dumps(whole), encoding="utf-8")


def rename(folder: Path, item: str, attribute: str, value: Any) -> Path:
    """Gives an object of the weights another attribute."""
    path = folder / "model.weights.h5"
    with h5py.File(path, "r+") as file:
        file[item].attrs[attribute] = value
    return path


@pytest.fixture
def bart(tmp_path: Path) -> Path:
    return keras_presets.copy("bart_032", tmp_path)


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same BART in each form."""
    folder = tmp_path_factory.mktemp("forms")
    lm = CausalLM.from_preset(keras_presets.FOLDER / "bart_032", load_weights=True)
    lm.save_to_preset(folder / "transformers", format="transformers")
    CausalLM.from_preset(folder / "transformers").save_to_preset(folder / "fuseq", format="fuseq")
    shutil.copytree(keras_presets.FOLDER / "bart_032", folder / "keras_hub")
    return {form: folder / form for form in ("transformers", "fuseq", "keras_hub")}


# ---- HDF5 ----


@pytest.mark.skipif(sys.platform != "linux", reason="the memory's limit is that of Linux")
@pytest.mark.parametrize(
    ("name", "place", "bits", "words"),
    [
        ("bart_032", 52041, 172, 'model.weights.h5": must be a whole HDF5 file'),
        ("gpt2_032_int8", 44307, 161, "loaded"),  # a name that nobody needs
    ],
)
def test_a_damaged_attribute_neither_crashes_nor_takes_memory(
    name: str, place: int, bits: int, words: str, tmp_path: Path
) -> None:
    folder = keras_presets.copy(name, tmp_path)
    path = folder / "model.weights.h5"
    data = bytearray(path.read_bytes())
    data[place] ^= bits
    path.write_bytes(data)
    run = subprocess.run(
        [sys.executable, "-c", _LOADER, str(folder)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert words in run.stdout


@pytest.mark.parametrize(
    ("layout", "value"),
    [
        ("earliest", "x" * 2000),
        ("earliest", np.bytes_("x" * 2000)),
        ("earliest", np.arange(3)),
        ("earliest", ["a", "b"]),
        ("latest", np.bytes_("x" * 2000)),
        ("latest", np.arange(3)),
        ("latest", ["a", "b"]),
    ],
)
def test_a_layer_s_name_must_be_a_short_text(layout: str, value: Any, bart: Path) -> None:
    path = bart / "model.weights.h5"
    if layout == "latest":
        _write_latest(path)
    rename(bart, "layers/layer_normalization/vars", "name", value)
    with pytest.raises(ValueError, match='the attribute "name" must be') as error:
        load(bart)
    assert str(path) in str(error.value)


def test_names_of_fixed_length_and_newer_headers_are_read(bart: Path) -> None:
    model = load(bart)
    rename(bart, "layers/layer_normalization/vars", "name", np.bytes_("encoder_embeddings_norm"))
    assert same_weights(load(bart), model)
    _write_latest(bart / "model.weights.h5")
    assert same_weights(load(bart), model)


def _write_latest(path: Path) -> None:
    """Writes a file anew in the newest layout of HDF5."""
    old = path.with_suffix(".old")
    path.rename(old)
    with h5py.File(old) as source, h5py.File(path, "w", libver="latest") as file:
        for key in source:
            source.copy(key, file)
    old.unlink()


@pytest.mark.parametrize(
    ("width", "word", "got"),
    [(4, "bfloat16", "void32"), (2, "float32", "void16"), (2, None, "void16")],
)
def test_only_two_bytes_that_say_so_are_bfloat16(
    width: int, word: str | None, got: str, tmp_path: Path
) -> None:
    folder = keras_presets.copy("gpt2_032", tmp_path)
    path, key = folder / "model.weights.h5", "layers/layer_normalization/vars/0"
    with h5py.File(path, "r+") as file:
        count = file[key].size
        del file[key]
        file.create_dataset(key, data=np.zeros(count, f"V{width}"))
        if word is not None:
            file[key].attrs["dtype"] = word
    with pytest.raises(ValueError, match=rf'dtype: "{key}" must be .*, got {got}') as error:
        load(folder)
    assert str(path) in str(error.value)


# ---- JSON ----


@pytest.mark.parametrize("value", [5, "x", [1], True])
def test_a_policy_of_the_wrong_type_is_named(value: object, tmp_path: Path) -> None:
    folder = keras_presets.copy("gpt2_032_int8", tmp_path)
    path = folder / "config.json"
    whole = path.read_bytes()
    policy = json.loads(whole)["config"]["dtype"]
    assert policy["class_name"] == "DTypePolicyMap"
    places: list[tuple[str, ...]] = [("config",), ("config", "policy_map")]
    places.append(("config", "policy_map", next(iter(policy["config"]["policy_map"])), "config"))
    for keys in places:
        path.write_bytes(whole)
        change_json(path, ("config", "dtype", *keys), value)
        with pytest.raises(ValueError, match=f"dtype: {keys[-1]}.* must be an object") as error:
            Backbone.from_preset(folder)
        assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("file", "keys", "value", "words"),
    [
        ("tokenizer.json", ("config",), 5, "config must be a dict of settings, got 5"),
        ("tokenizer.json", ("config", "dtype", "config"), 5, "policy must be an object, got 5"),
        ("tokenizer.json", ("config", "dtype"), "i4,(", "must be a type of whole numbers"),
        ("tokenizer.json", ("fuseq",), [1], "fuseq must be a dict of settings"),
        ("preprocessor.json", ("config", "encoder_sequence_length"), 0, "must be a positive"),
        ("preprocessor.json", ("config", "decoder_start_ids"), 5, "whole numbers >= 0, got 5"),
        ("preprocessor.json", ("config", "decoder_start_ids"), ["x"], "whole numbers"),
        ("preprocessor.json", ("config", "decoder_start_ids"), [True], "whole numbers"),
        ("preprocessor.json", ("config", "decoder_start_ids"), [-1], "whole numbers"),
        ("preprocessor.json", ("config", "decoder_start_ids"), [2**31], "whole numbers"),
        ("preprocessor.json", ("config", "decoder_start_ids"), {}, "whole numbers"),
    ],
)
def test_a_wrong_field_is_named_with_its_file(
    file: str, keys: tuple[str, ...], value: object, words: str, bart: Path
) -> None:
    change_json(bart / file, keys, value)
    with pytest.raises(ValueError, match=words) as error:
        CausalLM.from_preset(bart)
    assert str(bart / file) in str(error.value)


def test_an_argument_s_error_does_not_blame_the_file(bart: Path) -> None:
    from fuseq.models import Preprocessor

    change_json(bart / "preprocessor.json", ("config", "encoder_sequence_length"), 9)
    with pytest.raises(ValueError, match=r"^BartSeq2SeqLMPreprocessor: encoder_sequence_length"):
        Preprocessor.from_preset(bart, encoder_sequence_length=0)


def test_a_tokenizer_that_cannot_be_used_is_told(bart: Path) -> None:
    path = bart / "tokenizer.json"
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="must have a registered_name") as error:
        CausalLM.from_preset(bart)
    assert str(path) in str(error.value)
    path.unlink()
    with pytest.raises(ValueError, match="a tokenizer that fuseq can read must lie") as error:
        CausalLM.from_preset(bart)
    assert str(bart / "preprocessor.json") in str(error.value)


@pytest.mark.parametrize("name", ["decoder_start_token_id", "forced_bos_token_id"])
@pytest.mark.parametrize("value", [True, "x", -1, 10**30])
def test_start_ids_of_transformers_are_ids(
    name: str, value: object, forms: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(forms["transformers"], tmp_path / "copy")
    (folder / "generation_config.json").write_text("{}", encoding="utf-8")
    for file in ("config.json", "generation_config.json"):
        change_json(folder / file, (name,), value)
        with pytest.raises(ValueError, match=f"{name} must be a whole number >= 0") as error:
            open_preset(folder, FAMILIES).read_start_ids()
        assert str(folder / file) in str(error.value)


@pytest.mark.parametrize(
    ("form", "file", "key", "value"),
    [
        ("transformers", "config.json", "activation_dropout", 1.5),
        ("transformers", "config.json", "encoder_ffn_dim", 0),
        ("transformers", "config.json", "encoder_layers", 5),
        ("fuseq", "spec.json", "vocab", 5),
        ("fuseq", "spec.json", "norm", "x"),
    ],
)
def test_errors_of_the_engine_name_the_folder(
    form: str, file: str, key: str, value: object, forms: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(forms[form], tmp_path / "copy")
    change_json(folder / file, (key,), value)
    with pytest.raises(ValueError, match=r"^load \"") as error:
        Backbone.from_preset(folder)
    assert str(folder) in str(error.value)


@pytest.mark.parametrize("family", ["", None])
def test_a_spec_without_a_family_is_told(
    family: str | None, forms: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(forms["fuseq"], tmp_path / "copy")
    path = folder / "spec.json"
    spec = json.loads(path.read_text("utf-8"))
    spec.pop("family")
    path.write_text(json.dumps({**spec, **({} if family is None else {"family": family})}), "utf-8")
    with pytest.raises(ValueError, match=r"spec\.json"):
        CausalLM.from_preset(folder)


@pytest.mark.parametrize("kind", [RuntimeError, TypeError])
def test_what_the_engine_does_not_run_is_a_wrong_file(
    kind: type[Exception], bart: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise kind("spec: not supported")

    monkeypatch.setattr(keras_format, "load_model", fail)
    with pytest.raises(ValueError, match=r"^load .*bart_032.*: spec: not supported"):
        open_preset(bart, FAMILIES).load_model(dtype=None, num_threads=1)


def test_an_argument_of_load_model_is_named_alone(bart: Path) -> None:
    with pytest.raises(ValueError, match=r"^dtype:"):
        open_preset(bart, FAMILIES).load_model(dtype="int7", num_threads=1)


@pytest.mark.parametrize("form", ["transformers", "fuseq", "keras_hub"])
def test_a_spec_is_read_once_and_each_caller_has_its_own(
    form: str, forms: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 0
    read = Preset._read_spec

    def counted(preset: Preset) -> Any:
        nonlocal count
        count += 1
        return read(preset)

    monkeypatch.setattr(Preset, "_read_spec", counted)
    preset = open_preset(forms[form], FAMILIES)
    first = preset.read_spec()
    first["decoder"]["layers"] = 99
    assert preset.read_spec()["decoder"]["layers"] == 2
    preset.load_model(dtype=None, num_threads=1)
    assert count == 1
