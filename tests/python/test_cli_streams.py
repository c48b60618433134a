# SPDX-License-Identifier: Apache-2.0
"""`fuseq generate` on terminals and pipes."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fuseq import cli
from fuseq.models import CausalLM

COMMAND = [sys.executable, "-m", "fuseq.cli", "generate", "--threads", "1"]


@pytest.fixture
def gpt2(golden: Path) -> Path:
    return golden / "keras_presets/gpt2_032"


@pytest.fixture
def bart(golden: Path) -> Path:
    return golden / "keras_presets/bart_032"


def call(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


class Writes:
    """Stands for standard output, and keeps the pieces that were flushed."""

    def __init__(self, *, is_terminal: bool) -> None:
        self.pieces: list[str] = []
        self._open = ""
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal

    def write(self, text: str) -> None:
        self._open += text

    def flush(self) -> None:
        if self._open:
            self.pieces.append(self._open)
        self._open = ""


@pytest.mark.parametrize("strip_prompt", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_a_streamed_text_is_the_text(
    seed: int, strip_prompt: bool, gpt2: Path, bart: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Random ids are broken characters as well.
    words = ["--sampler", "random", "--seed", seed, "--max-length", 25]
    if strip_prompt:
        words.append("--strip-prompt")
    for more in (["--preset", gpt2], ["--preset", bart, "--prompt", "the fo"]):
        streamed, whole = Writes(is_terminal=True), Writes(is_terminal=False)
        for output in (streamed, whole):
            monkeypatch.setattr(sys, "stdout", output)
            assert call("generate", *more, "the füx", *words) == 0
        monkeypatch.undo()
        assert "".join(streamed.pieces) == "".join(whole.pieces)
        assert len(whole.pieces) == 1
        assert len(streamed.pieces) > 4


def test_only_one_text_on_a_terminal_streams_unless_the_command_line_says_so(
    gpt2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pieces(*more: object, is_terminal: bool = True) -> int:
        output = Writes(is_terminal=is_terminal)
        monkeypatch.setattr(sys, "stdout", output)
        assert call("generate", "--preset", gpt2, "the quick", "--max-length", 20, *more) == 0
        monkeypatch.undo()
        return len(output.pieces)

    assert pieces() > 4
    for more in (["fox"], ["--json"], ["--num-beams", 2], ["--no-stream"]):
        assert pieces(*more) == 1
    assert pieces(is_terminal=False) == 1
    assert pieces("--stream", is_terminal=False) > 4
    assert pieces("fox", "--stream", is_terminal=False) > 8


def test_streams_of_several_texts_stay_lines(
    gpt2: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--preset", gpt2, "a\nb", "c\\d", "--max-new-tokens", 3)
    assert call("generate", *words, "--no-stream") == 0
    whole = capsys.readouterr().out
    assert call("generate", *words, "--stream") == 0
    assert capsys.readouterr().out == whole
    assert whole.count("\n") == 2


def run_on_terminal(words: Sequence[object], typed: bytes = b"") -> tuple[str, int]:
    """Runs the command with standard input and output on a terminal of its own."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *map(str, words)], stdin=theirs, stdout=theirs, stderr=subprocess.PIPE
    )
    os.close(theirs)
    if typed:
        os.write(ours, typed)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 1000)
        except OSError:  # Linux: the other end has gone
            piece = b""
        if not piece:
            break
        shown += piece
    os.close(ours)
    assert process.stderr is not None
    with process.stderr as stream:
        assert stream.read() == b""
    return shown.decode().replace("\r\n", "\n"), process.wait()


def test_a_terminal_shows_the_text(gpt2: Path) -> None:
    task = CausalLM.from_preset(gpt2)
    expected = task.generate("the quick", max_length=20, sampler="greedy")
    shown, code = run_on_terminal(["--preset", gpt2, "the quick", "--max-length", "20"])
    assert (shown, code) == (f"{expected}\n", 0)


def test_each_line_typed_on_a_terminal_is_answered(gpt2: Path) -> None:
    task = CausalLM.from_preset(gpt2)
    expected = task.generate(["the quick", "fox"], max_length=20, sampler="greedy")
    typed = b"the quick\nfox\n\x04"
    shown, code = run_on_terminal(["--preset", gpt2, "--max-length", "20"], typed)
    assert code == 0
    assert [line for line in shown.splitlines() if line in expected] == expected


def start(*words: object, **more: Any) -> "subprocess.Popen[bytes]":
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*COMMAND, *map(str, words)], **{**pipes, **more})


def test_a_line_is_answered_before_the_next_is_there(gpt2: Path) -> None:
    process = start("--preset", gpt2, "--max-batch-size", 1, "--max-new-tokens", 2)
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        for text in (b"fox", b"", b"dog"):
            process.stdin.write(text + b"\n")
            process.stdin.flush()
            assert process.stdout.readline().startswith(text)
        process.stdin.close()
        assert process.wait() == 0


def test_a_closed_pipe_is_quiet(gpt2: Path) -> None:
    with start("--preset", gpt2, "--max-new-tokens", 1) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(b"fox\n" * 64)
        process.stdin.flush()
        assert process.stdout.readline().startswith(b"fox")
        process.stdout.close()
        process.stdin.write(b"fox\n" * 64)
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait() == 1


def test_ctrl_c_ends_with_130_and_without_a_word(gpt2: Path) -> None:
    words = ("--preset", gpt2, "--max-batch-size", 1, "--max-new-tokens", 1)
    default = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}
    with start(*words, **default) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(b"fox\n")
        process.stdin.flush()
        assert process.stdout.readline().startswith(b"fox")
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        assert process.stderr.read() == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system must have /dev/full")
def test_output_that_cannot_be_written_ends_with_1(gpt2: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        process = start("--preset", gpt2, "fox", "--max-new-tokens", 1, stdout=full)
        _, message = process.communicate()
    assert process.returncode == 1
    assert message == b"fuseq generate: [Errno 28] No space left on device\n"


def test_output_is_utf8_in_every_locale(gpt2: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}
    process = start("--preset", gpt2, "€", "--max-new-tokens", 1, env=environment)
    output, message = process.communicate()
    assert (process.returncode, message) == (0, b"")
    assert output.startswith("€".encode())


def test_closed_standard_output_is_told(gpt2: Path) -> None:
    words = " ".join(f"'{word}'" for word in [*COMMAND, "--preset", gpt2, "fox"])
    done = subprocess.run(["sh", "-c", f"{words} >&-"], stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr == b"fuseq generate: standard output: must be open, got a closed one\n"
