# SPDX-License-Identifier: Apache-2.0
"""Folders in and out: our own, transformers', in one file, in shards, and torch's."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fuseq
import numpy as np
import pytest
from fuseq import Tensor
from fuseq._core import SafeTensorsFile, save_safetensors, weight_table

FOLDERS = ["bart_tiny", "gpt2_tiny"]
Arrays = dict[str, np.ndarray]


def read(path: Path) -> Arrays:
    return {name: np.array(t.numpy()) for name, t in SafeTensorsFile(path).tensors().items()}


def write(path: Path, arrays: Arrays) -> None:
    save_safetensors(
        path,
        [(n, str(a.dtype), a.shape, lambda a=a: Tensor(a)) for n, a in arrays.items()],
    )


def weights(model: fuseq.Model) -> Arrays:
    names = [name for name, _, _ in weight_table(model.spec)]
    return {name: model.weight(name).float().numpy() for name in names}


def assert_same_model(a: fuseq.Model, b: fuseq.Model) -> None:
    assert a.spec == b.spec
    assert (a.dtype, a.num_parameters) == (b.dtype, b.num_parameters)
    ours, theirs = weights(a), weights(b)
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def changed(source: Path, target: Path, change: Callable[[Arrays], None], **config: Any) -> Path:
    """A copy of a transformers folder with other tensors or fields."""
    shutil.copytree(source, target)
    arrays = read(target / "model.safetensors")
    change(arrays)
    write(target / "model.safetensors", arrays)
    path = target / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    return target


@pytest.mark.parametrize("name", FOLDERS)
def test_both_formats_hold_the_same_model(golden: Path, name: str) -> None:
    assert_same_model(
        fuseq.presets.load_model(golden / name), fuseq.load_model(golden / f"{name}_hf")
    )


@pytest.mark.parametrize("name", FOLDERS)
def test_saving_a_loaded_folder_gives_the_same_bytes(
    golden: Path, name: str, tmp_path: Path
) -> None:
    fuseq.save_model(fuseq.load_model(golden / name), tmp_path / "saved")
    for file in ("spec.json", "model.safetensors"):
        assert (tmp_path / "saved" / file).read_bytes() == (golden / name / file).read_bytes()


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_transformers_opens_what_we_export(
    golden: Path, name: str, dtype: str, tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = fuseq.load_model(golden / f"{name}_hf", dtype=dtype)
    fuseq.export_transformers(model, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    auto = "AutoModelForSeq2SeqLM" if model.is_seq2seq else "AutoModelForCausalLM"
    load = getattr(transformers, auto).from_pretrained
    exported, info = load(tmp_path / "out", output_loading_info=True)
    assert exported.dtype == getattr(torch, dtype)
    assert not info["unexpected_keys"]
    assert not info["missing_keys"]
    original = load(golden / f"{name}_hf").to(getattr(torch, dtype))
    ids = torch.tensor([[5, 9, 77, 30]])
    inputs = {"decoder_input_ids": ids} if model.is_seq2seq else {}
    with torch.no_grad():
        logits = [each(input_ids=ids, **inputs).logits for each in (exported, original)]
    assert torch.equal(*logits)
    again = fuseq.load_model(tmp_path / "out")
    assert again.spec == model.spec
    if dtype == "float32":  # else biases and norms are rounded too, as transformers keeps them
        assert_same_model(again, model)


@pytest.mark.parametrize("name", FOLDERS)
def test_untied_models_survive_both_formats(golden: Path, name: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")

    def untie(arrays: Arrays) -> None:
        table = arrays.get("model.shared.weight", arrays.get("transformer.wte.weight"))
        assert table is not None
        arrays["lm_head.weight"] = table[::-1].copy()

    folder = changed(golden / f"{name}_hf", tmp_path / "in", untie, tie_word_embeddings=False)
    model = fuseq.load_model(folder)
    assert json.loads(model.spec)["head"]["tied"] is False
    model.save(tmp_path / "own")
    assert_same_model(fuseq.load_model(tmp_path / "own"), model)
    fuseq.export_transformers(model, tmp_path / "out")
    assert_same_model(fuseq.load_model(tmp_path / "out"), model)

    auto = "AutoModelForSeq2SeqLM" if model.is_seq2seq else "AutoModelForCausalLM"
    exported = getattr(transformers, auto).from_pretrained(tmp_path / "out")
    ids = torch.tensor([[5, 9, 77, 30]])
    inputs = {"decoder_input_ids": ids} if model.is_seq2seq else {}
    with torch.no_grad():
        theirs = exported(input_ids=ids, **inputs).logits[0].numpy()
    source = [5, 9, 77, 30] if model.is_seq2seq else []
    ours = fuseq.Session(model).forward([fuseq.Prompt(source, [5, 9, 77, 30])]).numpy()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-4 * float(abs(theirs).max()))


def test_a_head_that_differs_is_not_tied_whatever_the_config_says(
    golden: Path, tmp_path: Path
) -> None:
    def add_head(arrays: Arrays) -> None:
        arrays["lm_head.weight"] = arrays["transformer.wte.weight"] + 1

    model = fuseq.load_model(changed(golden / "gpt2_tiny_hf", tmp_path / "in", add_head))
    assert json.loads(model.spec)["head"]["tied"] is False


def test_harmless_tensors_are_passed_over(golden: Path, tmp_path: Path) -> None:
    def add(arrays: Arrays) -> None:
        arrays["lm_head.weight"] = arrays["transformer.wte.weight"]
        arrays["transformer.h.0.attn.bias"] = np.ones((1, 1, 32, 32), np.uint8)
        arrays["transformer.h.1.attn.masked_bias"] = np.array(-1e4, np.float32)

    folder = changed(golden / "gpt2_tiny_hf", tmp_path / "gpt2", add)
    assert_same_model(fuseq.load_model(folder), fuseq.load_model(golden / "gpt2_tiny"))

    def add_copies(arrays: Arrays) -> None:
        for name in ("lm_head", "model.encoder.embed_tokens", "model.decoder.embed_tokens"):
            arrays[f"{name}.weight"] = arrays["model.shared.weight"]

    folder = changed(golden / "bart_tiny_hf", tmp_path / "bart", add_copies)
    assert_same_model(fuseq.load_model(folder), fuseq.load_model(golden / "bart_tiny"))


@pytest.mark.parametrize("name", FOLDERS)
def test_the_names_of_a_bare_backbone_are_read(golden: Path, name: str, tmp_path: Path) -> None:
    def strip(arrays: Arrays) -> None:
        for key in list(arrays):
            arrays[key.removeprefix("model.").removeprefix("transformer.")] = arrays.pop(key)

    folder = changed(golden / f"{name}_hf", tmp_path / "in", strip)
    assert_same_model(fuseq.load_model(folder), fuseq.load_model(golden / name))


def test_a_table_stored_under_another_tied_name_is_found(golden: Path, tmp_path: Path) -> None:
    def rename(arrays: Arrays) -> None:
        arrays["lm_head.weight"] = arrays.pop("model.shared.weight")

    folder = changed(golden / "bart_tiny_hf", tmp_path / "in", rename)
    assert_same_model(fuseq.load_model(folder), fuseq.load_model(golden / "bart_tiny"))


def test_different_tables_of_encoder_and_decoder_are_an_error(golden: Path, tmp_path: Path) -> None:
    def differ(arrays: Arrays) -> None:
        arrays["model.decoder.embed_tokens.weight"] = arrays["model.shared.weight"] + 1

    folder = changed(golden / "bart_tiny_hf", tmp_path / "in", differ)
    with pytest.raises(ValueError, match=r"model\.decoder\.embed_tokens"):
        fuseq.load_model(folder)


def test_a_logits_bias_of_zeros_is_left_out(golden: Path, tmp_path: Path) -> None:
    def clear(arrays: Arrays) -> None:
        arrays["final_logits_bias"][:] = 0

    model = fuseq.load_model(changed(golden / "bart_tiny_hf", tmp_path / "in", clear))
    assert json.loads(model.spec)["head"]["bias"] is False
    assert json.loads(fuseq.load_model(golden / "bart_tiny").spec)["head"]["bias"] is True


def test_missing_unexpected_and_misshapen_weights_are_one_error(
    golden: Path, tmp_path: Path
) -> None:
    def spoil(arrays: Arrays) -> None:
        del arrays["transformer.h.0.ln_1.weight"]
        arrays["transformer.h.1.attn.c_attn.weight"] = np.zeros((24, 71), np.float32)
        arrays["transformer.h.9.surprise"] = np.zeros(3, np.float32)

    folder = changed(golden / "gpt2_tiny_hf", tmp_path / "in", spoil)
    with pytest.raises(ValueError, match="weights") as caught:
        fuseq.load_model(folder)
    message = str(caught.value)
    assert "decoder.0.attn_norm.weight" in message
    assert "decoder.1.attn.q.weight" in message
    assert "[23, 24]" in message
    assert "transformer.h.9.surprise" in message


def test_the_generation_config_names_the_stop_ids(golden: Path, tmp_path: Path) -> None:
    shutil.copytree(golden / "bart_tiny_hf", tmp_path / "in")
    path = tmp_path / "in" / "generation_config.json"
    for value, expected in (([2, 9], [2, 9]), (7, [7]), (None, [2])):
        path.write_text(json.dumps({"eos_token_id": value, "num_beams": 4}))
        assert json.loads(fuseq.load_model(tmp_path / "in").spec)["eos_ids"] == expected
    path.write_text(json.dumps({"eos_token_id": "2"}))
    with pytest.raises(ValueError, match="eos_token_id"):
        fuseq.load_model(tmp_path / "in")
    path.unlink()
    assert json.loads(fuseq.load_model(tmp_path / "in").spec)["eos_ids"] == [2]


def shard(golden: Path, folder: Path) -> dict[str, str]:
    """Makes a folder with two shards; returns its weight_map."""
    folder.mkdir()
    shutil.copy(golden / "gpt2_tiny_hf" / "config.json", folder)
    arrays = read(golden / "gpt2_tiny_hf" / "model.safetensors")
    files = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    weight_map = {name: files[i % 2] for i, name in enumerate(arrays)}
    for file in files:
        part = {name: arrays[name] for name in arrays if weight_map[name] == file}
        write(folder / file, part)
    return weight_map


def index(folder: Path, weight_map: object) -> None:
    text = json.dumps({"metadata": {}, "weight_map": weight_map})
    (folder / "model.safetensors.index.json").write_text(text)


def test_shards_are_read_as_one(golden: Path, tmp_path: Path) -> None:
    index(tmp_path / "in", shard(golden, tmp_path / "in"))
    assert_same_model(fuseq.load_model(tmp_path / "in"), fuseq.load_model(golden / "gpt2_tiny"))


def test_a_wrong_index_is_an_error_that_names_the_tensor(golden: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    weight_map = shard(golden, folder)
    name = next(iter(weight_map))
    outside = tmp_path / "outside.safetensors"
    shutil.copy(golden / "gpt2_tiny_hf" / "model.safetensors", outside)
    for bad in ("../outside.safetensors", str(outside), "..", "", 5, None, "a/b", "a\\b"):
        index(folder, {**weight_map, name: bad})
        with pytest.raises(ValueError, match=name):
            fuseq.load_model(folder)
    index(folder, {**weight_map, name: "gone.safetensors"})
    with pytest.raises(FileNotFoundError, match=r"gone\.safetensors"):
        fuseq.load_model(folder)
    other = next(file for file in weight_map.values() if file != weight_map[name])
    for wrong in ({**weight_map, name: other}, {**weight_map, "not.there": other}):
        index(folder, wrong)
        with pytest.raises(ValueError, match=r"must be in"):
            fuseq.load_model(folder)
    for nothing in ([], {}, None, "x"):
        index(folder, nothing)
        with pytest.raises(ValueError, match="weight_map"):
            fuseq.load_model(folder)


def test_torch_files_are_read_with_weights_alone(golden: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    shutil.copy(golden / "gpt2_tiny_hf" / "config.json", tmp_path)
    arrays = read(golden / "gpt2_tiny_hf" / "model.safetensors")
    path = tmp_path / "pytorch_model.bin"
    torch.save({name: torch.tensor(array) for name, array in arrays.items()}, path)
    assert_same_model(fuseq.load_model(tmp_path), fuseq.load_model(golden / "gpt2_tiny"))

    class Harm:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "harm"),)

    torch.save({"x": Harm()}, path)
    with pytest.raises(ValueError, match="weights alone"):
        fuseq.load_model(tmp_path)
    assert not (tmp_path / "harm").exists()


def test_torch_files_without_torch_say_what_to_install(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(golden / "gpt2_tiny_hf" / "config.json", tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(ImportError, match="pip install torch"):
        fuseq.load_model(tmp_path)


def test_a_folder_without_what_it_needs_is_not_found(golden: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="must be a folder that exists"):
        fuseq.load_model(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match=r"spec\.json.*config\.json"):
        fuseq.load_model(tmp_path)
    shutil.copy(golden / "gpt2_tiny_hf" / "config.json", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        fuseq.load_model(tmp_path)
    (tmp_path / "spec.json").write_text(fuseq.load_model(golden / "gpt2_tiny").spec)
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        fuseq.load_model(tmp_path)


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b'"x"', b'{"model_type": "t5"}', b"{}", b"\xff\xfe{", b"[" * 100_000]
)
def test_a_corrupt_config_is_a_value_error(golden: Path, tmp_path: Path, text: bytes) -> None:
    shutil.copytree(golden / "gpt2_tiny_hf", tmp_path / "in")
    (tmp_path / "in" / "config.json").write_bytes(text)
    with pytest.raises(ValueError, match=r"config\.json"):
        fuseq.load_model(tmp_path / "in")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"vocab": "x"}', '{"unknown": 1}'])
def test_a_corrupt_spec_is_a_value_error(golden: Path, tmp_path: Path, text: str) -> None:
    shutil.copytree(golden / "gpt2_tiny", tmp_path / "in")
    (tmp_path / "in" / "spec.json").write_text(text)
    with pytest.raises(ValueError, match="spec"):
        fuseq.load_model(tmp_path / "in")


@pytest.mark.parametrize("name", ["gpt2_tiny", "gpt2_tiny_hf"])
def test_a_cut_checkpoint_is_a_value_error_naming_the_file(
    golden: Path, tmp_path: Path, name: str
) -> None:
    shutil.copytree(golden / name, tmp_path / "in")
    path = tmp_path / "in" / "model.safetensors"
    whole = path.read_bytes()
    for length in (0, 5, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"model\.safetensors"):
            fuseq.load_model(tmp_path / "in")


def test_a_spec_that_the_format_cannot_hold_is_named(golden: Path, tmp_path: Path) -> None:
    model = fuseq.load_model(golden / "gpt2_tiny")
    spec = json.loads(model.spec)
    spec["decoder"]["score_cap"] = 30.0
    other = fuseq.Model.build(json.dumps(spec), weights(model))
    with pytest.raises(ValueError, match=r"decoder\.score_cap.*save_model"):
        fuseq.export_transformers(other, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    spec["family"] = "unheard"
    other = fuseq.Model.build(json.dumps(spec), weights(model))
    with pytest.raises(ValueError, match="unheard"):
        fuseq.export_transformers(other, tmp_path / "out")


@pytest.mark.parametrize("dtype", ["float16", "int16", "float64", "x"])
def test_other_dtypes_are_an_error(golden: Path, dtype: str) -> None:
    with pytest.raises(ValueError, match=dtype):
        fuseq.load_model(golden / "gpt2_tiny", dtype=dtype)


@pytest.mark.parametrize("write_folder", [fuseq.save_model, fuseq.export_transformers])
def test_a_failure_while_saving_leaves_the_old_folder(
    golden: Path,
    tmp_path: Path,
    write_folder: Any,
) -> None:
    resource = pytest.importorskip("resource")
    model = fuseq.load_model(golden / "bart_tiny")
    target = tmp_path / "saved"
    target.mkdir()
    (target / "spec.json").write_text("old")
    pid = os.fork()
    if pid == 0:  # a limit on the size of files stands for a full disk
        code = 1
        try:
            import signal

            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
            write_folder(model, target)
        except OSError:
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]
    assert (target / "spec.json").read_text() == "old"
    write_folder(model, target)
    assert_same_model(
        fuseq.load_model(target) if write_folder is fuseq.save_model else model, model
    )
