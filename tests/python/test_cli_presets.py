# SPDX-License-Identifier: Apache-2.0
"""The fuseq command around presets: info, presets and convert."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import fuseq
import pytest
from fuseq import cli, hub
from fuseq.models import CausalLM


def call(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


def test_convert_goes_both_ways(
    golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("convert", golden / "bart_tiny", tmp_path / "hf", "--format", "transformers") == 0
    assert call("convert", tmp_path / "hf", tmp_path / "own") == 0
    for file in ("spec.json", "model.safetensors"):
        assert (tmp_path / "own" / file).read_bytes() == (golden / "bart_tiny" / file).read_bytes()
    assert capsys.readouterr().out == ""


def test_info_tells_what_is_there(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("info") == 0
    assert f"version: {fuseq.__version__}" in capsys.readouterr().out
    assert call("info", golden / "bart_tiny") == 0
    text = capsys.readouterr().out
    assert "family: bart" in text
    assert "layers: 2 + 3" in text
    code = call("info", "--cmake-dir")
    captured = capsys.readouterr()
    if code == 0:  # an installed package has it, a bare build of the module has not
        assert (Path(captured.out.strip()) / "fuseqConfig.cmake").is_file()
    else:
        assert "cmake" in captured.err


def test_convert_carries_settings_over(golden: Path, tmp_path: Path) -> None:
    assert call("convert", golden / "bart_tiny_hf", tmp_path / "ours") == 0
    theirs = fuseq.load_generation_options(golden / "bart_tiny_hf")
    ours = fuseq.load_generation_options(tmp_path / "ours")
    assert repr(ours) == repr(theirs) != "GenerationOptions()"
    fuseq.save_model(fuseq.load_model(tmp_path / "ours"), tmp_path / "ours")
    assert repr(fuseq.load_generation_options(tmp_path / "ours")) == repr(theirs)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("bart_032", "fuseq"),
        ("bart_032", "transformers"),
        ("bart_017", "keras_hub"),
        ("gpt2_032", "fuseq"),
        ("gpt2_032", "keras_hub"),
    ],
)
def test_a_converted_preset_generates_the_same_texts(
    name: str, form: str, golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = golden / "keras_presets" / name
    assert call("convert", source, tmp_path / "other", "--format", form) == 0
    task = CausalLM.from_preset(tmp_path / "other")
    assert task.preprocessor is not None
    assert fuseq.presets.load.open_preset(tmp_path / "other", {}).form == form
    printed = []
    for folder in (source, tmp_path / "other"):
        arguments = ("--preset", folder, "--sampler", "greedy", "--max-length", 16)
        assert call("generate", *arguments, "the quick brown fox", "", "fox") == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]


def test_a_gpt2_starts_as_transformers_says_once_it_is_in_that_form(
    golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = golden / "keras_presets/gpt2_032"
    assert call("convert", source, tmp_path / "theirs", "--format", "transformers") == 0
    rows = []
    for folder in (source, tmp_path / "theirs"):
        arguments = ("--preset", folder, "--sampler", "greedy", "--max-new-tokens", 1, "--json")
        assert call("generate", *arguments, "the fox") == 0
        rows.append(json.loads(capsys.readouterr().out)["token_ids"][:-1])
    assert rows[0] == [CausalLM.from_preset(source).preprocessor.start_id, *rows[1]]


def test_convert_carries_a_tokenizer_and_settings_from_transformers_to_fuseq_and_back(
    golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "theirs"
    assert call("convert", golden / "keras_presets/bart_032", source, "--format=transformers") == 0
    config = {"max_new_tokens": 7, "num_beams": 2, "no_repeat_ngram_size": 2}
    written = json.loads((source / "generation_config.json").read_text())
    (source / "generation_config.json").write_text(json.dumps({**written, **config}))
    assert call("convert", source, tmp_path / "ours") == 0
    assert call("convert", source, tmp_path / "again", "--format", "transformers") == 0
    printed = []
    for folder in (source, tmp_path / "ours", tmp_path / "again"):
        assert call("generate", "--preset", folder, "the quick brown") == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] == printed[2]
    options = fuseq.load_generation_options(tmp_path / "ours")
    assert (options.max_new_tokens, options.num_beams, options.no_repeat_ngram_size) == (7, 2, 2)


def test_convert_says_which_form_can_hold_a_model(
    golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("convert", golden / "bart_tiny_hf", tmp_path / "x", "--format", "keras_hub") == 1
    message = capsys.readouterr().err
    assert message.startswith("fuseq convert: save_to_preset: KerasHub's form must hold every")
    assert 'Use format="transformers" or format="fuseq"' in message
    assert not (tmp_path / "x").exists()


def test_convert_leaves_a_folder_of_another_form_alone(
    golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(golden / "gpt2_tiny_hf", tmp_path / "theirs")
    before = sorted(path.name for path in folder.iterdir())
    assert call("convert", golden / "gpt2_tiny", folder) == 1
    assert 'must be new or hold a preset of the form "fuseq"' in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == before


def test_convert_cuts_weights_into_shards(golden: Path, tmp_path: Path) -> None:
    arguments = ("--format", "keras_hub", "--max-shard-size", 2e-5)
    assert call("convert", golden / "keras_presets/gpt2_032", tmp_path / "cut", *arguments) == 0
    assert len(list((tmp_path / "cut").glob("model_0*.weights.h5"))) > 1


def test_info_tells_a_presets_form_tokenizer_lengths_and_settings(
    golden: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("info", golden / "keras_presets/bart_032") == 0
    text = capsys.readouterr().out
    for line in (
        "form: keras_hub", "task: BartSeq2SeqLM", "tokenizer: BartTokenizer",
        "tokenizer vocabulary: 270", "encoder sequence length: 1024",
        "decoder sequence length: 1024", "generation settings: none",
    ):  # fmt: skip
        assert line in text.splitlines()
    assert call("info", golden / "gpt2_tiny_hf", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["form"] == "transformers"
    assert facts["tokenizer"] is None
    assert facts["generation_settings"]["stop_token_ids"] == [2]
    assert facts["parameters"] == fuseq.load_model(golden / "gpt2_tiny_hf").num_parameters
    assert call("info", golden / "gpt2_tiny", "--dtype", "bfloat16") == 0
    text = capsys.readouterr().out
    assert "form: fuseq\n" in text
    assert "dtype: bfloat16\n" in text
    assert "tokenizer: none\n" in text


def test_info_of_the_installation_can_be_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("info", "--json", "--threads", 2) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["version"] == fuseq.__version__
    assert facts["threads"] == 2


def test_info_says_why_settings_cannot_be_used(
    golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(golden / "gpt2_tiny_hf", tmp_path / "model")
    (folder / "generation_config.json").write_text('{"max_time": 3}')
    assert call("info", folder) == 0
    text = capsys.readouterr().out
    assert "generation settings: not usable: " in text
    assert "max_time" in text


def test_presets_lists_built_in_names_and_those_of_folders(
    golden: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("FUSEQ_PRESETS", raising=False)
    assert call("presets") == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    for name, row in hub.presets().items():
        assert (row.kaggle_handle or "in the package") in rows[name]
        assert row.description in rows[name]
    assert rows["bart_base_en"].split()[1] == "139M"

    handle = tmp_path / "keras/bart/keras/bart_large_en/3"
    for path in (tmp_path / "mine", tmp_path / "gpt2_base_en", handle):
        shutil.copytree(golden / "gpt2_tiny", path)
    monkeypatch.setenv("FUSEQ_PRESETS", str(tmp_path))
    assert call("presets", "--json") == 0
    found = {row["name"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert set(hub.presets()) < set(found)
    assert found["mine"] == {
        "name": "mine", "parameters": None, "source": "FUSEQ_PRESETS",
        "location": str(tmp_path / "mine"), "description": "",
    }  # fmt: skip
    assert found["gpt2_base_en"]["location"] == str(tmp_path / "gpt2_base_en")
    assert found["gpt2_base_en"]["parameters"] == 124_439_808
    assert found["bart_large_en"]["location"] == str(handle)
    assert found["bart_base_en"]["source"] == "kaggle"
    assert found["g2p_en"]["source"] == "shipped"
    assert found["g2p_en"]["location"] == str(hub.locate("g2p_en"))
    assert call("presets") == 0
    assert f"mine                            -  {tmp_path / 'mine'}" in capsys.readouterr().out


def test_names_of_folders_and_handles_reach_every_command(
    golden: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(golden / "keras_presets/gpt2_032", tmp_path / "someone/tiny")
    shutil.copytree(golden / "keras_presets/gpt2_032", tmp_path / "tiny")
    monkeypatch.setenv("FUSEQ_PRESETS", str(tmp_path))
    for preset in ("tiny", "hf://someone/tiny", "kaggle://someone/gpt2/keras/tiny"):
        assert call("generate", "--preset", preset, "fox", "--max-new-tokens", 2) == 0
        assert capsys.readouterr().out.startswith("fox")
        assert call("info", preset) == 0
        assert "tokenizer: GPT2Tokenizer" in capsys.readouterr().out
        assert call("convert", preset, tmp_path / "copy") == 0
    assert call("info", "tinny") == 1
    assert "Did you mean tiny?" in capsys.readouterr().err


def test_help_and_presets_load_nothing_heavy() -> None:
    script = (
        "import sys; from fuseq import cli; code = cli.main(sys.argv[1:]); heavy = "
        "{'numpy', 'tokenizers', 'sentencepiece', 'h5py', 'kagglehub', 'huggingface_hub', "
        "'torch', 'fuseq._core', 'fuseq.models'} & set(sys.modules); "
        "print('heavy', sorted(heavy)); sys.exit(code)"
    )
    for words in (["--help"], ["presets"], ["info", "--help"]):
        done = subprocess.run(
            [sys.executable, "-c", script, *words], capture_output=True, text=True, env=os.environ
        )
        assert done.returncode == 0
        assert done.stdout.endswith("heavy []\n")


def test_names_are_printed_in_utf8_whatever_the_environment_says(
    golden: Path, tmp_path: Path
) -> None:
    shutil.copytree(golden / "gpt2_tiny", tmp_path / "füchse")
    shutil.copytree(golden / "gpt2_tiny", tmp_path / os.fsdecode(b"f\xff"))
    environment = {
        **os.environ, "PYTHONIOENCODING": "ascii", "FUSEQ_PRESETS": str(tmp_path),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }  # fmt: skip
    for words in (["presets"], ["presets", "--json"], ["info", tmp_path / "füchse"]):
        done = subprocess.run(
            [sys.executable, "-m", "fuseq.cli", *words], capture_output=True, env=environment
        )
        assert done.returncode == 0, done.stderr
        assert "füchse" in done.stdout.decode("utf-8")
