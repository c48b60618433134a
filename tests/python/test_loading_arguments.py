# SPDX-License-Identifier: Apache-2.0
"""What decides how a model is loaded, and where it is saved, is checked first, at each door."""

import json
from pathlib import Path
from typing import Any

import fuseq
import numpy as np
import pytest

pytest.importorskip("h5py")

import keras_presets
from fuseq import cli
from fuseq.models import Backbone, CausalLM
from tiny_tasks import BART, GPT2, bart, gpt2

DOORS = [CausalLM.from_preset, Backbone.from_preset, fuseq.load_model]
DOOR_NAMES = ["task", "backbone", "model"]


def with_policy(policy: str, tmp_path: Path) -> Path:
    """A KerasHub preset of float32 weights whose config names a policy."""
    folder = keras_presets.copy("gpt2_032", tmp_path)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["config"]["dtype"] = policy
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    return folder


@pytest.mark.parametrize("door", DOORS, ids=DOOR_NAMES)
@pytest.mark.parametrize(
    ("dtype", "words"),
    [
        ("int4", r"dtype: must be one of float32, bfloat16, mixed_bfloat16, int8, got 'int4'"),
        ("float16", 'Use "bfloat16"'),
        (np.float16, 'Use "bfloat16"'),
    ],
)
def test_a_wrong_dtype_is_told_before_the_preset_is_looked_for(
    door: Any, dtype: object, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        door("no/such/folder", dtype=dtype)


@pytest.mark.parametrize("door", DOORS, ids=DOOR_NAMES)
@pytest.mark.parametrize("threads", ["2", 2.0, -1, True])
def test_wrong_threads_are_told_before_the_preset_is_looked_for(door: Any, threads: object) -> None:
    with pytest.raises(ValueError, match="num_threads must be None or a whole number >= 0, got"):
        door("no/such/folder", num_threads=threads)


@pytest.mark.parametrize("dtype", [np.float32, "int8_from_float32", "mixed_bfloat16", None])
def test_a_model_of_ids_takes_the_dtypes_of_a_task(dtype: object) -> None:
    wanted = CausalLM.from_preset(GPT2, dtype=dtype).backbone.dtype
    assert fuseq.load_model(GPT2, dtype=dtype, num_threads=np.int64(1)).dtype == wanted


@pytest.mark.parametrize(
    ("policy", "dtype"), [("mixed_bfloat16", "bfloat16"), ("float32", "float32")]
)
def test_the_policy_of_a_keras_hub_preset_holds_at_every_door(
    policy: str, dtype: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = with_policy(policy, tmp_path)
    assert CausalLM.from_preset(folder).backbone.model.dtype == dtype
    assert Backbone.from_preset(folder).model.dtype == dtype
    assert fuseq.load_model(folder).dtype == dtype
    assert fuseq.load_model(folder, dtype="float32").dtype == "float32"
    assert cli.main(["info", str(folder)]) == 0
    assert f"dtype: {dtype}\n" in capsys.readouterr().out
    assert cli.main(["convert", str(folder), str(tmp_path / "converted")]) == 0
    assert fuseq.load_model(tmp_path / "converted").dtype == dtype


def test_the_argument_of_a_session_has_its_own_name() -> None:
    with pytest.raises(ValueError, match=r'^cache_dtype: must be one of .*, got "int4"'):
        fuseq.Session(fuseq.load_model(GPT2), cache_dtype="int4")


# ---- saving ----


def test_a_backbone_is_not_saved_over_a_preset_of_another_form(tmp_path: Path) -> None:
    task = bart()
    task.save_to_preset(tmp_path / "saved", format="fuseq")
    before = sorted(path.name for path in (tmp_path / "saved").iterdir())
    with pytest.raises(ValueError, match=r'preset_dir must be new or hold .* "keras_hub", got'):
        task.backbone.save_to_preset(tmp_path / "saved")
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == before
    with pytest.raises(ValueError, match="preset_dir must not be the current folder"):
        task.backbone.save_to_preset(".")


@pytest.mark.parametrize("of", [lambda task: task, lambda task: task.backbone], ids=["task", "own"])
@pytest.mark.parametrize(
    ("size", "error", "words"),
    [
        ("10GB", TypeError, "None or a number of gigabytes, got '10GB'"),
        (True, TypeError, "None or a number of gigabytes, got True"),
        (0, ValueError, "above 0, got 0"),
        (-1, ValueError, "above 0, got -1"),
        (float("nan"), ValueError, "above 0, got nan"),
    ],
)
def test_the_size_of_shards_is_checked(
    of: Any, size: object, error: type[Exception], words: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=f"^save_to_preset: max_shard_size must be {words}$"):
        of(gpt2()).save_to_preset(tmp_path / "saved", max_shard_size=size)
    assert list(tmp_path.iterdir()) == []


def test_without_a_size_there_is_one_file(tmp_path: Path) -> None:
    for name, one in (("task", gpt2()), ("own", gpt2().backbone)):
        one.save_to_preset(tmp_path / name, max_shard_size=None)
        assert (tmp_path / name / "model.weights.h5").is_file()


def test_a_model_and_its_settings_are_saved_together_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old, new = fuseq.load_model(BART), fuseq.load_model(GPT2)
    folder = tmp_path / "saved"
    fuseq.save_model(old, folder, fuseq.GenerationOptions(num_beams=2))
    (folder / "notes.txt").write_text("mine", "utf-8")

    with pytest.raises(TypeError, match="save_model: options must be None or a GenerationOptions"):
        fuseq.save_model(new, folder, {"num_beams": 4})  # type: ignore[arg-type]
    assert fuseq.load_model(folder).family == "bart"

    def full(*_: object) -> None:
        raise OSError("no space left")

    from fuseq.models import folders

    with monkeypatch.context() as patch:
        patch.setattr(folders.native_format, "save_generation_options", full)
        with pytest.raises(OSError, match="no space left"):
            fuseq.save_model(new, folder, fuseq.GenerationOptions(num_beams=4))
    assert fuseq.load_model(folder).family == "bart"
    options = fuseq.load_generation_options(folder)
    assert options is not None
    assert options.num_beams == 2

    fuseq.save_model(new, folder)
    assert fuseq.load_model(folder).family == "gpt2"
    options = fuseq.load_generation_options(folder)
    assert options is not None  # what is not given is kept
    assert options.num_beams == 2
    assert (folder / "notes.txt").read_text("utf-8") == "mine"


# ---- weights alone ----


def test_a_file_of_int8_is_told_from_a_wrong_one(tmp_path: Path) -> None:
    task = CausalLM.from_preset(GPT2)
    CausalLM.from_preset(GPT2, dtype="int8").save_to_preset(tmp_path / "int8", format="fuseq")
    file = tmp_path / "int8" / "model.safetensors"
    with pytest.raises(ValueError, match=rf'load_weights "{file}": .* floats, got int8'):
        task.load_weights(file)


def test_weights_of_another_model_name_the_file(tmp_path: Path) -> None:
    bart().save_weights(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r'load_weights ".*other\.safetensors": weights: all must'):
        gpt2().load_weights(tmp_path / "other.safetensors")
