# SPDX-License-Identifier: Apache-2.0
"""The fuseq command, as users call it."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import fuseq
import pytest
from fuseq import cli
from fuseq._core import option_fields


def call(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


def lines(capsys: pytest.CaptureFixture[str]) -> list[list[int]]:
    return [[int(word) for word in line.split()] for line in capsys.readouterr().out.splitlines()]


def test_ids_in_ids_out(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = golden / "bart_tiny"
    assert call("generate", "--preset", folder, "--ids", "5 6 7", "--ids", "9,10") == 0
    expected = fuseq.generate(fuseq.load_model(folder), [[5, 6, 7], [9, 10]])
    assert lines(capsys) == [rows[0].ids for rows in expected]


def test_options_and_prompt_ids_reach_the_engine(
    golden: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = golden / "bart_tiny_hf"
    code = call(
        "generate", "--preset", folder, "--ids", "5 6 7", "--prompt-ids", "2 9", "--json",
        "--num-beams", 3, "--num-return-sequences", 2, "--max-new-tokens", 9,
        "--early-stopping", "never", "--length-penalty", 0.5, "--stop-token-ids", "4 5",
        "--no-use-default-stop-ids", "--logit-bias", "7=2.5 8=-1", "--threads", 2,
    )  # fmt: skip
    assert code == 0
    options = fuseq.GenerationOptions(
        num_beams=3, num_return_sequences=2, max_new_tokens=9, early_stopping="never",
        length_penalty=0.5, stop_token_ids=[4, 5], use_default_stop_ids=False,
        logit_bias={7: 2.5, 8: -1},
    )  # fmt: skip
    prompt = fuseq.Prompt([5, 6, 7], [2, 9])
    (expected,) = fuseq.generate(fuseq.load_model(folder), [prompt], options)
    printed = json.loads(capsys.readouterr().out)["hypotheses"]
    assert [row["ids"] for row in printed] == [row.ids for row in expected]
    assert [row["score"] for row in printed] == [row.score for row in expected]
    assert {row["stop_reason"] for row in printed} <= {"stop_id", "max_length"}


def test_lines_of_standard_input_are_inputs(
    golden: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("5 6\n7 8 9\n"))
    folder = golden / "gpt2_tiny"
    assert call("generate", "--preset", folder, "--max-length", 8, "--dtype", "bfloat16") == 0
    model = fuseq.load_model(folder, dtype="bfloat16")
    expected = fuseq.generate(model, [[5, 6], [7, 8, 9]], fuseq.GenerationOptions(max_length=8))
    assert lines(capsys) == [rows[0].ids for rows in expected]
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert call("generate", "--preset", folder) == 0
    assert capsys.readouterr().out == ""


def test_every_generation_option_has_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("generate", "--help") == 0
    text = capsys.readouterr().out
    for name, _, _, _ in option_fields():
        assert f"--{name.replace('_', '-')}" in text


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["unheard"],
        ["generate"],
        ["generate", "--preset", "X", "--ids", "5 x"],
        ["generate", "--preset", "X", "--num-beams", "two"],
        ["generate", "--preset", "X", "--early-stopping", "maybe"],
        ["generate", "--preset", "X", "--logit-bias", "5"],
        ["generate", "--preset", "X", "--unheard"],
        ["generate", "--preset", "GPT2", "--ids", "5", "--prompt-ids", "6"],
        ["generate", "--preset", "BART", "--ids", "5", "--prompt-ids", "6", "--prompt-ids", "7"],
        ["convert", "X"],
        ["convert", "X", "Y", "--format", "unheard"],
        ["info", "X", "Y"],
    ],
)
def test_a_wrong_command_line_ends_with_2(
    arguments: list[str], golden: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = {"GPT2": str(golden / "gpt2_tiny"), "BART": str(golden / "bart_tiny")}
    assert call(*[folders.get(word, word) for word in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err
    assert not captured.out


def test_a_failure_ends_with_1_and_one_line(
    golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (
        ["generate", "--preset", tmp_path, "--ids", "5"],
        ["generate", "--preset", golden / "bart_tiny", "--ids", "5 999"],
        ["generate", "--preset", golden / "bart_tiny", "--ids", "5", "--num-beams", "0"],
        ["info", tmp_path / "nothing"],
        ["convert", tmp_path, tmp_path / "out"],
    ):
        assert call(*arguments) == 1
        captured = capsys.readouterr()
        assert captured.err.startswith(f"fuseq {arguments[0]}: ")
        assert captured.err.count("\n") == 1


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


def test_bench_starts_the_native_program(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "fuseq-bench"
    program.write_text('#!/bin/sh\necho "bench got $@"\nexit 7\n')
    program.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-m", "fuseq.cli", "bench", "--models", "x", "--json"],
        env={**os.environ, "FUSEQ_BENCH_BINARY": str(program)},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (7, b"bench got --models x --json\n")
    monkeypatch.setenv("FUSEQ_BENCH_BINARY", str(tmp_path / "nothing"))
    assert call("bench") == 1
    assert "-DFUSEQ_BENCH=ON" in capsys.readouterr().err


def test_a_closed_pipe_is_quiet(golden: Path) -> None:
    command = [sys.executable, "-m", "fuseq.cli", "generate", "--preset", golden / "gpt2_tiny"]
    process = subprocess.Popen(
        [*command, "--max-length", "8"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.close()
    process.stdin.write(b"5 6\n" * 20_000)
    process.stdin.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    assert process.wait() == 1


def test_a_folders_own_settings_hold_unless_the_command_line_says_otherwise(
    golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = fuseq.load_model(golden / "gpt2_tiny")
    own = fuseq.GenerationOptions(
        max_length=15, do_sample=True, top_k=9, seed=4, temperature=2.0, stop_token_ids=[7]
    )
    fuseq.save_model(model, tmp_path / "own", own)

    def printed(*more: object) -> list[int]:
        assert call("generate", "--preset", tmp_path / "own", "--ids", "5 6", *more) == 0
        return lines(capsys)[0]

    def expected(**fields: object) -> list[int]:
        options = fuseq.presets.load.merge_options(own, fields)
        return fuseq.generate(model, [[5, 6]], options)[0][0].ids

    assert printed() == expected() == fuseq.generate(model, [[5, 6]], own)[0][0].ids
    assert printed("--seed", 5) == expected(seed=5) != expected()
    assert len(printed("--max-new-tokens", 4, "--min-new-tokens", 4)) == 6
    greedy = fuseq.generate(model, [[5, 6]], fuseq.GenerationOptions(max_length=12))[0][0].ids
    assert printed("--sampler", "greedy", "--max-length", 12) == greedy
    beam = fuseq.GenerationOptions(max_length=12, num_beams=5)
    assert (
        printed("--sampler", "beam", "--max-length", 12)
        == fuseq.generate(model, [[5, 6]], beam)[0][0].ids
    )


def test_a_preset_sampler_needs_settings(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--preset", golden / "gpt2_tiny", "--ids", "5", "--sampler", "preset")
    assert call("generate", *arguments) == 1
    assert "must hold settings, got none" in capsys.readouterr().err


def test_scores_are_printed_on_demand(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = golden / "gpt2_tiny"
    arguments = ("--preset", folder, "--ids", "5 6", "--json", "--max-new-tokens", 3)
    assert call("generate", *arguments, "--return-scores") == 0
    (row,) = json.loads(capsys.readouterr().out)["hypotheses"]
    assert len(row["token_log_probs"]) == len(row["ids"]) - 2
    assert row["score"] == pytest.approx(sum(row["token_log_probs"]))
    assert call("generate", *arguments) == 0
    assert "token_log_probs" not in capsys.readouterr().out


def test_convert_carries_settings_over(golden: Path, tmp_path: Path) -> None:
    assert call("convert", golden / "bart_tiny_hf", tmp_path / "ours") == 0
    theirs = fuseq.load_generation_options(golden / "bart_tiny_hf")
    ours = fuseq.load_generation_options(tmp_path / "ours")
    assert repr(ours) == repr(theirs) != "GenerationOptions()"
    fuseq.save_model(fuseq.load_model(tmp_path / "ours"), tmp_path / "ours")
    assert repr(fuseq.load_generation_options(tmp_path / "ours")) == repr(theirs)
