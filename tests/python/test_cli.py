# SPDX-License-Identifier: Apache-2.0
"""The fuseq command with token ids, and what all its parts have in common."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import fuseq
import pytest
from fuseq import cli
from fuseq._core import option_fields


def call(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


def standard_input(content: bytes) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(content))


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
    monkeypatch.setattr(sys, "stdin", standard_input(b"5 6\n7 8 9\n"))
    folder = golden / "gpt2_tiny"
    arguments = ("--preset", folder, "--ids", "-", "--max-length", 8)
    assert call("generate", *arguments, "--dtype", "bfloat16") == 0
    model = fuseq.load_model(folder, dtype="bfloat16")
    expected = fuseq.generate(model, [[5, 6], [7, 8, 9]], fuseq.GenerationOptions(max_length=8))
    assert lines(capsys) == [rows[0].ids for rows in expected]
    monkeypatch.setattr(sys, "stdin", standard_input(b""))
    assert call("generate", *arguments) == 0
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
        ["info", "X", "--cmake-dir"],
        ["presets", "X"],
        [
            "generate",
            "--preset",
            "GPT2",
            "--ids",
            "5",
            "--max-length",
            "4",
            "--max-new-tokens",
            "2",
        ],
        ["generate", "--preset", "GPT2", "--ids", "5", "--max-batch-size", "0"],
        ["generate", "--preset", "GPT2", "--ids", "5", "--num-be", "2"],
    ],
)
def test_a_wrong_command_line_ends_with_2(
    arguments: list[str], golden: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = {"GPT2": str(golden / "gpt2_tiny"), "BART": str(golden / "bart_tiny")}
    assert call(*[folders.get(word, word) for word in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"fuseq {arguments[0]}: " if len(arguments) > 1 else "fuseq")
    assert captured.err.count("\n") == 1
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
        [*command, "--ids", "-", "--max-length", "8"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.close()
    with contextlib.suppress(BrokenPipeError):  # it may have ended before it has read all
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
    assert "must hold settings, got none. Choose another, such as" in capsys.readouterr().err


def test_settings_that_fuseq_does_not_have_ask_for_another_sampler(
    golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(golden / "gpt2_tiny_hf", tmp_path / "model")
    (folder / "generation_config.json").write_text('{"max_time": 3}')
    arguments = ("--preset", folder, "--ids", "5", "--max-length", 4)
    assert call("generate", *arguments) == 1
    message = capsys.readouterr().err
    assert message.startswith("fuseq generate: --sampler preset: ")
    assert "max_time" in message
    assert message.endswith("Choose another with --sampler, such as --sampler greedy\n")
    assert call("generate", *arguments, "--sampler", "greedy") == 0
    assert len(lines(capsys)[0]) == 4


def test_ids_are_printed_as_soon_as_their_group_is_done_and_draws_go_on(
    golden: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def printed(*more: object) -> list[list[int]]:
        monkeypatch.setattr(sys, "stdin", standard_input(b"5 6\n" * 5))
        arguments = ("--preset", golden / "gpt2_tiny", "--ids", "-", "--max-length", 12)
        assert call("generate", *arguments, "--sampler", "random", "--seed", 3, *more) == 0
        return lines(capsys)

    together = printed()
    assert len(set(map(tuple, together))) > 1
    assert printed("--max-batch-size", 2) == together == printed("--max-batch-size", 1)


def test_strip_prompt_leaves_ids_of_the_prompt_out(
    golden: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--preset", golden / "gpt2_tiny", "--ids", "5 6", "--max-length", 8)
    assert call("generate", *arguments) == 0
    (whole,) = lines(capsys)
    assert call("generate", *arguments, "--strip-prompt") == 0
    assert lines(capsys) == [whole[2:]]
    assert call("generate", *arguments, "--strip-prompt", "--json") == 0
    assert json.loads(capsys.readouterr().out)["hypotheses"][0]["ids"] == whole[2:]


def test_scores_are_printed_on_demand(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = golden / "gpt2_tiny"
    arguments = ("--preset", folder, "--ids", "5 6", "--json", "--max-new-tokens", 3)
    assert call("generate", *arguments, "--return-scores") == 0
    (row,) = json.loads(capsys.readouterr().out)["hypotheses"]
    assert len(row["token_log_probs"]) == len(row["ids"]) - 2
    assert row["score"] == pytest.approx(sum(row["token_log_probs"]))
    assert call("generate", *arguments) == 0
    assert "token_log_probs" not in capsys.readouterr().out


def test_json_has_a_score_without_asking(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--preset", golden / "gpt2_tiny", "--ids", "5 6", "--json", "--max-new-tokens", 3)
    scores = []
    for more in ((), ("--return-scores",)):
        assert call("generate", *arguments, "--sampler", "greedy", *more) == 0
        scores.append(json.loads(capsys.readouterr().out)["hypotheses"][0]["score"])
    assert scores[0] == scores[1] < 0


@pytest.mark.parametrize("size", [1, 2, 32])
def test_a_bad_line_of_ids_ends_with_1_after_the_lines_before_it(
    size: int,
    golden: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments = ("--preset", golden / "gpt2_tiny", "--ids", "-", "--max-length", 4)
    for bad, message in (
        (b"7 x", "standard input, line 4: must be ids with blanks between, got '7 x'"),
        (b"\xff", "standard input, line 4: must be UTF-8, got byte 0xff at position 1"),
    ):
        monkeypatch.setattr(sys, "stdin", standard_input(b"5 6\n7\n8\n" + bad + b"\n9\n"))
        assert call("generate", *arguments, "--max-batch-size", size) == 1
        captured = capsys.readouterr()
        assert [line.split()[0] for line in captured.out.splitlines()] == ["5", "7", "8"]
        assert captured.err == f"fuseq generate: {message}\n"


def test_an_input_that_the_engine_refuses_is_named(
    golden: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("--preset", golden / "gpt2_tiny", "--max-length", 4)
    monkeypatch.setattr(sys, "stdin", standard_input(b"5\n" * 35 + b"99999\n"))
    assert call("generate", *arguments, "--ids", "-") == 1
    message = capsys.readouterr().err
    assert "standard input, line 36: " in message
    assert "prompts[" not in message
    assert call("generate", *arguments, "--ids", "5", "--ids", "99999") == 1
    assert "--ids, input 2: " in capsys.readouterr().err


def test_options_of_ids_add_up(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--preset", golden / "gpt2_tiny", "--ids", "5 6", "--max-new-tokens", 6)
    printed = []
    for more in (
        ("--logit-bias", "9=100 11=200", "--suppress-token-ids", "11 9"),
        ("--logit-bias", "9=100", "--logit-bias", "11=200", "--suppress-token-ids", 11,
         "--suppress-token-ids", 9),
        ("--logit-bias", "9=100 11=200", "--stop-token-ids", "11 3"),
        ("--logit-bias", "9=100", "--logit-bias", "11=200", "--stop-token-ids", 11,
         "--stop-token-ids", 3),
    ):  # fmt: skip
        assert call("generate", *arguments, *more) == 0
        printed += lines(capsys)
    assert printed[0] == printed[1]
    assert not {9, 11} & set(printed[1])
    assert printed[2] == printed[3] == [5, 6, 11]


@pytest.mark.parametrize("word", ["-1", "+1", "1_0", "٣", "99999999999", "2147483648"])
def test_ids_are_digits(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in (("ids", word), ("stop-token-ids", word), ("logit-bias", f"{word}=1")):
        assert call("generate", "--preset", "X", "--ids", "5", f"--{name}={value}") == 2
        captured = capsys.readouterr().err
        assert f"--{name}: must " in captured
        assert f"got {value!r}" in captured


@pytest.mark.parametrize(
    "option", ["threads", "max-batch-size", "encoder-sequence-length", "num-beams", "seed"]
)
@pytest.mark.parametrize("word", ["9" * 20, "9" * 5000, "1.5", "1_0", ""])
def test_counts_are_bounded_whole_numbers(
    option: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if (option, word) == ("seed", "9" * 20):
        word = str(2**64)
    assert call("generate", "--preset", "X", "x", f"--{option}", word) == 2
    message = capsys.readouterr().err
    assert f"argument --{option}: must be a whole number from " in message
    assert message.count("\n") == 1


def test_no_stream_goes_with_ids(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--preset", golden / "gpt2_tiny", "--ids", "1", "--max-length", 3)
    assert call("generate", *arguments, "--no-stream") == 0
    assert len(lines(capsys)[0]) == 3


class PanicException(BaseException):
    """As the tokenizers library has one."""


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyError("x"), "KeyError: 'x'"),
        (ValueError("two\nlines  here"), "two lines here"),
        (ValueError(), "ValueError"),
        (AssertionError(), "AssertionError"),
        (PanicException("no way"), "PanicException: no way"),
    ],
)
def test_every_failure_is_one_line_unless_its_traceback_is_asked_for(
    error: BaseException,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(words: object) -> int:
        raise error

    monkeypatch.delenv("FUSEQ_TRACEBACK", raising=False)
    monkeypatch.setattr("fuseq.cli.presets.run", fail)
    assert call("presets") == 1
    assert capsys.readouterr().err == f"fuseq presets: {message}\n"
    monkeypatch.setenv("FUSEQ_TRACEBACK", "1")
    assert call("presets") == 1
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback ")
    assert shown.endswith(f"\nfuseq presets: {message}\n")


def test_what_is_no_failure_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(words: object) -> int:
        raise GeneratorExit

    monkeypatch.setattr("fuseq.cli.presets.run", leave)
    with pytest.raises(GeneratorExit):
        call("presets")
