# SPDX-License-Identifier: Apache-2.0
"""`fuseq generate` with texts: inputs, outputs and what is said when they do not fit."""

import io
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from fuseq import cli
from fuseq.cli.parser import json_line
from fuseq.models import CausalLM

TEXTS = ["the quick brown", "", "fox"]


def call(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def gpt2(golden: Path) -> CausalLM:
    task = CausalLM.from_preset(golden / "keras_presets/gpt2_032")
    task.compile(sampler="greedy")
    return task


@pytest.fixture(scope="module")
def bart(golden: Path) -> CausalLM:
    task = CausalLM.from_preset(golden / "keras_presets/bart_032")
    task.compile(sampler="greedy")
    return task


@pytest.fixture
def causal(golden: Path) -> tuple[object, ...]:
    """The words that every call with the tiny GPT-2 begins with."""
    return ("generate", "--preset", golden / "keras_presets/gpt2_032")


@pytest.fixture
def seq2seq(golden: Path) -> tuple[object, ...]:
    """The words that every call with the tiny BART begins with."""
    return ("generate", "--preset", golden / "keras_presets/bart_032")


def give(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_arguments_are_inputs(
    causal: tuple[object, ...], gpt2: CausalLM, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*causal, *TEXTS) == 0
    assert capsys.readouterr().out.splitlines() == gpt2.generate(TEXTS)
    # Options may stand between, and what follows "--" is text.
    assert call(*causal, "fox", "--max-length", 20, "dog", "--", "--seed") == 0
    expected = gpt2.generate(["fox", "dog", "--seed"], max_length=20)
    assert capsys.readouterr().out.splitlines() == expected


def test_lines_of_files_and_of_standard_input_are_inputs(
    seq2seq: tuple[object, ...],
    bart: CausalLM,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Windows' line ends, an empty line, a last line without an end, a text of two bytes a letter.
    (tmp_path / "a.txt").write_bytes(b"the quick brown\r\n\r\nfox")
    (tmp_path / "b.txt").write_bytes("füchse\n".encode())
    files = ("--file", tmp_path / "a.txt", "--file", tmp_path / "b.txt")
    expected = bart.generate([*TEXTS, "füchse"], max_length=12)
    assert call(*seq2seq, *files, "--max-length", 12) == 0
    assert capsys.readouterr().out.splitlines() == expected
    give(monkeypatch, b"the quick brown\n\nfox\nf\xc3\xbcchse\n")
    assert call(*seq2seq, "--max-length", 12, "--max-batch-size", 3) == 0
    assert capsys.readouterr().out.splitlines() == expected
    give(monkeypatch, b"\nfox\n")
    assert call(*seq2seq, TEXTS[0], "--file", "-", *files[2:], "--max-length", 12) == 0
    assert capsys.readouterr().out.splitlines() == expected
    give(monkeypatch, b"")
    assert call(*seq2seq) == 0
    assert capsys.readouterr().out == ""


def test_a_prompt_starts_the_generated_text_once_for_all_or_once_for_each(
    seq2seq: tuple[object, ...], bart: CausalLM, capsys: pytest.CaptureFixture[str]
) -> None:
    def expected(prompts: list[str]) -> list[str]:
        inputs = {"encoder_text": TEXTS, "decoder_text": prompts}
        result: list[str] = bart.generate(inputs, max_length=12)
        return result

    length = ("--max-length", 12)
    assert call(*seq2seq, *TEXTS, "--prompt", "the", *length) == 0
    assert capsys.readouterr().out.splitlines() == expected(["the"] * 3)
    each = ("--prompt", "a", "--prompt", "the quick", "--prompt", "dog")
    for more in ((), ("--max-batch-size", 2)):
        assert call(*seq2seq, *TEXTS, *each, *length, *more) == 0
        assert capsys.readouterr().out.splitlines() == expected(["a", "the quick", "dog"])
    assert call(*seq2seq, "fox", "--prompt", "the", "--strip-prompt", *length) == 0
    whole, new = expected(["the"] * 3)[2], capsys.readouterr().out.removesuffix("\n")
    assert whole == f"the{new}"


def test_json_tells_texts_ids_scores_and_reasons(
    causal: tuple[object, ...], gpt2: CausalLM, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*causal, *TEXTS, "--json", "--return-scores", "--max-length", 16) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    expected = gpt2.generate(TEXTS, max_length=16, return_scores=True)
    assert [row["input"] for row in rows] == [0, 1, 2]
    for row, made in zip(rows, expected, strict=True):
        assert row["text"] == made.text
        assert row["token_ids"] == made.token_ids
        assert row["score"] == made.score
        assert row["token_log_probs"] == made.token_log_probs
        assert row["stop_reason"] == made.stop_reason == "max_length"
    assert call(*causal, "fox", "--json", "--strip-prompt", "--max-new-tokens", 3) == 0
    (row,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert "token_log_probs" not in row
    assert len(row["token_ids"]) == 3


def test_json_has_null_where_a_number_is_not_finite() -> None:
    fields = {"score": float("-inf"), "token_log_probs": [-1.5, float("nan")], "text": "é"}
    assert json_line(fields) == '{"score": null, "token_log_probs": [-1.5, null], "text": "é"}'


def test_several_results_are_a_line_each_best_first(
    seq2seq: tuple[object, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("the quick", "fox", "--num-beams", 3, "--num-return-sequences", 2, "--max-length", 12)
    assert call(*seq2seq, *words, "--json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["input"] for row in rows] == [0, 0, 1, 1]
    assert rows[0]["score"] >= rows[1]["score"]
    assert call(*seq2seq, *words) == 0
    assert capsys.readouterr().out.splitlines() == [row["text"] for row in rows]


def test_line_breaks_inside_results_are_written_as_letters_unless_there_is_one_text(
    causal: tuple[object, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    text = "a\nb\r\\n"
    assert call(*causal, text, "--max-new-tokens", 1) == 0
    assert capsys.readouterr().out.startswith(text)
    assert call(*causal, text, "fox", "--max-new-tokens", 1) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(r"a\nb\r\\n")
    assert second.startswith("fox")
    sampled = ("--sampler", "random", "--num-return-sequences", 2, "--max-new-tokens", 1)
    assert call(*causal, text, *sampled) == 0
    assert capsys.readouterr().out.count("\n") == 2  # not splitlines: a draw may hold others


def test_the_default_is_greedy_and_every_sampler_has_its_name(
    causal: tuple[object, ...], gpt2: CausalLM, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("greedy", "beam"):
        assert call(*causal, "fox", "--sampler", name, "--max-length", 12) == 0
        expected = gpt2.generate("fox", max_length=12, sampler=name)
        assert capsys.readouterr().out == f"{expected}\n"
    for name in ("random", "top_k", "top_p", "min_p"):
        words = ("fox", "dog", "--sampler", name, "--seed", 5, "--max-length", 20)
        assert call(*causal, *words) == 0
        expected = gpt2.generate(["fox", "dog"], max_length=20, sampler=name, seed=5)
        assert capsys.readouterr().out.splitlines() == expected
    assert call(*causal, "fox", "--sampler", "contrastive", "--max-length", 12) == 0
    assert capsys.readouterr().out.startswith("fox")


def test_draws_do_not_depend_on_how_inputs_are_grouped(
    causal: tuple[object, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    printed = []
    for size in (1, 2, 64):
        words = (*["fox"] * 5, "--sampler", "random", "--seed", 3, "--max-length", 12, "--json")
        assert call(*causal, *words, "--max-batch-size", size) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] == printed[2]
    texts = {json.loads(line)["text"] for line in printed[0].splitlines()}
    assert len(texts) > 1


def test_options_reach_the_engine(
    causal: tuple[object, ...], gpt2: CausalLM, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("the quick", "--max-new-tokens", 9, "--repetition-penalty", 1.5, "--logit-bias")
    assert call(*causal, *words, "88=3", "--no-repeat-ngram-size", 2, "--threads", 1) == 0
    expected = gpt2.generate(
        "the quick", max_new_tokens=9, repetition_penalty=1.5, logit_bias={88: 3.0},
        no_repeat_ngram_size=2,
    )  # fmt: skip
    assert capsys.readouterr().out == f"{expected}\n"
    assert call(*causal, "the quick", "--stop-strings", "kkk") == 0
    expected = gpt2.generate("the quick", stop_strings="kkk")
    assert capsys.readouterr().out == f"{expected}\n"
    assert "kkk" in expected[:15]
    assert call(*causal, "the quick", "--dtype", "bfloat16", "--max-length", 8) == 0


def test_stop_ids_are_added_to_those_of_the_preset(
    causal: tuple[object, ...], gpt2: CausalLM, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = gpt2.generate("the quick", max_length=16, return_scores=True)
    end = gpt2.end_token_ids()
    stop = whole.token_ids[-3]
    first = whole.token_ids.index(stop, len(whole.token_ids) - 8)
    assert call(*causal, "the quick", "--json", "--stop-token-ids", stop) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["stop_reason"] == "stop_id"
    assert row["token_ids"] == whole.token_ids[: first + 1]
    # Only the end id can come next: it stops the row unless that is switched off.
    bias = ("--logit-bias", f"{end[0]}=1000", "--max-new-tokens", 4, "--json")
    assert call(*causal, "the quick", *bias) == 0
    assert json.loads(capsys.readouterr().out)["stop_reason"] == "stop_id"
    assert call(*causal, "the quick", *bias, "--no-use-default-stop-ids") == 0
    assert json.loads(capsys.readouterr().out)["stop_reason"] == "max_length"


def test_a_preset_with_settings_is_generated_from_as_they_say(
    golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = golden / "keras_presets/bart_032"
    assert call("convert", source, tmp_path / "hf", "--format", "transformers") == 0
    path = tmp_path / "hf/generation_config.json"
    config = {**json.loads(path.read_text()), "num_beams": 2, "max_new_tokens": 6}
    path.write_text(json.dumps(config))
    task = CausalLM.from_preset(tmp_path / "hf")
    words = ("generate", "--preset", tmp_path / "hf", "the quick")
    for more, expected in (
        ((), task.generate("the quick", sampler="preset")),
        (("--sampler", "preset"), task.generate("the quick", sampler="preset")),
        (("--max-length", 9), task.generate("the quick", sampler="preset", max_length=9)),
        (("--sampler", "greedy"), task.generate("the quick", sampler="greedy")),
    ):
        assert call(*words, *more) == 0
        assert capsys.readouterr().out == f"{expected}\n"
    assert call(*words, "--stream") == 2  # the settings ask for beams
    assert "--stream: must not come with beams" in capsys.readouterr().err


def test_sources_are_cut_at_encoder_sequence_length(
    seq2seq: tuple[object, ...], bart: CausalLM, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "the quick brown fox"
    assert call(*seq2seq, text, "--max-length", 12, "--encoder-sequence-length", 4) == 0
    cut = capsys.readouterr().out.removesuffix("\n")
    assert cut == bart.generate(text, max_length=12, encoder_sequence_length=4)
    assert cut != bart.generate(text, max_length=12)


def test_a_warning_is_one_plain_line(
    causal: tuple[object, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert call(*causal, "the quick", "--max-length", 2) == 0
    captured = capsys.readouterr()
    assert captured.err == (
        "fuseq generate: warning: prompts must be shorter than max_length 2 to be continued, got "
        "one of 8 tokens, which is cut\n"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert call(*causal, "the quick", "--max-length", 2) == 1
    assert capsys.readouterr().err.startswith("fuseq generate: ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["GPT2", "x", "--prompt", "y"], "--prompt: must not come with a causal model"),
        (["BART", "x", "--prompt", "y", "--prompt", "z"], "--prompt: must come once, or once for "
         "each of 1 inputs, got 2"),
        (["GPT2", "x", "--encoder-sequence-length", "4"], "--encoder-sequence-length: must not"),
        (["BART", "x", "--encoder-sequence-length", "0"], "must be a whole number from 1 to"),
        (["BART", "x", "--max-batch-size", "two"], "whole number from 1 to 2147483647, got 'two'"),
        (["BART", "x", "--prompt-ids", "5"], "--prompt-ids: must come with --ids, got texts"),
        (["BART", "x", "--decoder-start-token-id", "5"], "--decoder-start-token-id: must come"),
        (["BART", "x", "--return-scores"], "--return-scores: must come with --json"),
        (["BART", "x", "--ids", "5"], "TEXT: must come without --ids, got both"),
        (["BART", "--file", "x", "--ids", "5"], "--file: must come without --ids, got both"),
        (["BART", "--ids", "5", "--prompt", "x"], "--prompt: must come without --ids"),
        (["BART", "--ids", "5", "--stream"], "--stream: must come without --ids"),
        (["BART", "x", "--stream", "--json"], "--stream: must not come with --json, got both"),
        (["BART", "x", "--stream", "--num-beams", "2"], "--stream: must not come with beams"),
        (["BART", "x", "--stream", "--num-return-sequences", "2"], "--stream: must not come with"),
        (["BART", "x", "--max-length", "5", "--max-new-tokens", "2"], "--max-length: must not"),
    ],
)  # fmt: skip
def test_a_wrong_command_line_ends_with_2(
    words: list[str], message: str, golden: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    presets = {name: f"{golden}/keras_presets/{name.lower()}_032" for name in ("GPT2", "BART")}
    assert call("generate", "--preset", presets[words[0]], *words[1:]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("fuseq generate: ")
    assert message in captured.err
    assert captured.out == ""


def test_prompts_that_do_not_fit_the_lines_are_told_as_soon_as_they_are_known(
    seq2seq: tuple[object, ...],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ("--prompt", "a", "--prompt", "b", "--max-length", 6, "--max-batch-size", 1)
    give(monkeypatch, b"x\ny\nz\n")
    assert call(*seq2seq, *words) == 2
    captured = capsys.readouterr()
    assert "--prompt: must come once, or once for each of the inputs, which are more, got 2" in (
        captured.err
    )
    assert captured.out.count("\n") == 2
    give(monkeypatch, b"x\n")
    assert call(*seq2seq, *words) == 2
    assert "once for each of 1 inputs, got 2" in capsys.readouterr().err


def test_inputs_must_be_utf8(
    causal: tuple[object, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes(b"good\nf\xfcr\n")
    assert call(*causal, "--file", path, "--max-length", 9) == 1
    message = f'--file "{path}", line 2: must be UTF-8, got byte 0xfc at position 2'
    assert capsys.readouterr().err == f"fuseq generate: {message}\n"
    give(monkeypatch, b"\xff\n")
    assert call(*causal) == 1
    assert "standard input, line 1: must be UTF-8, got byte 0xff" in capsys.readouterr().err
    assert call(*causal, "good", "f\udcfcr") == 1
    assert "TEXT 2: must be UTF-8, got 'f\\udcfcr'" in capsys.readouterr().err


def test_lines_before_a_bad_one_are_printed_when_their_group_is_done(
    causal: tuple[object, ...],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    give(monkeypatch, b"fox\ndog\n\xff\n")
    assert call(*causal, "--max-batch-size", 2, "--max-new-tokens", 1) == 1
    captured = capsys.readouterr()
    assert [line[:3] for line in captured.out.splitlines()] == ["fox", "dog"]
    give(monkeypatch, b"fox\ndog\n\xff\n")  # also where their group is not full
    assert call(*causal, "--max-new-tokens", 1) == 1
    captured = capsys.readouterr()
    assert [line[:3] for line in captured.out.splitlines()] == ["fox", "dog"]
    assert "standard input, line 3: must be UTF-8" in captured.err


def test_files_must_be_there_before_a_model_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path, reason in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory")):
        assert call("generate", "--preset", "not looked for", "--file", path) == 1
        message = capsys.readouterr().err
        assert f'--file: must be a file that can be read, got "{path}": {reason}' in message


def test_texts_need_a_tokenizer(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("generate", "--preset", golden / "bart_tiny", "hello") == 1
    message = capsys.readouterr().err
    assert (
        "must have a tokenizer for texts, got none. Give ids with --ids, or lines of them"
        in message
    )


def test_closed_standard_input_is_told(
    causal: tuple[object, ...],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert call(*causal) == 1
    assert "standard input: must be open, got a closed one" in capsys.readouterr().err


def test_an_option_may_be_two_dashes(
    causal: tuple[object, ...], seq2seq: tuple[object, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*seq2seq, "fox", "--prompt=--", "--max-length", 8) == 0
    assert capsys.readouterr().out.startswith("--")
    assert call(*causal, "fox", "--stop-strings=--", "--max-new-tokens", 1) == 0
    assert capsys.readouterr().out.startswith("fox")
    assert call(*causal, "--ids=--") == 2
    assert "--ids: must be ids with blanks between, got '--'" in capsys.readouterr().err
    assert call(*causal, "fox", "--threads=--") == 2
    assert "--threads: must be a whole number from 0" in capsys.readouterr().err


def test_a_byte_order_mark_is_no_text(
    causal: tuple[object, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "texts.txt"
    path.write_bytes(b"\xef\xbb\xbffox\ndog\n")
    words = (*causal, "--max-new-tokens", 1, "--strip-prompt")
    assert call(*words, "fox", "dog") == 0
    expected = capsys.readouterr().out
    assert call(*words, "--file", path) == 0
    assert capsys.readouterr().out == expected
    give(monkeypatch, b"\xef\xbb\xbffox\ndog\n")
    assert call(*words) == 0
    assert capsys.readouterr().out == expected
    give(monkeypatch, b"\xef\xbb\xbff\xff\n")
    assert call(*words) == 1
    assert "line 1: must be UTF-8, got byte 0xff at position 5" in capsys.readouterr().err


def test_texts_come_before_files(
    causal: tuple[object, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "texts.txt").write_text("one\n")
    assert call(*causal, "--file", tmp_path / "texts.txt", "two", "--max-new-tokens", 1) == 0
    assert [line[:3] for line in capsys.readouterr().out.splitlines()] == ["two", "one"]


def test_standard_input_is_read_once(
    causal: tuple[object, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("--file", "--ids"):
        assert call(*causal, name, "-", name, "-") == 2
        message = f"fuseq generate: {name} -: must come once, got standard input twice\n"
        assert capsys.readouterr().err == message


def test_a_warning_does_not_come_before_an_option_is_refused(
    causal: tuple[object, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert call(*causal, "the quick", "--max-length", 2, "--num-beams", -1) == 1
    message = capsys.readouterr().err
    assert "num_beams" in message
    assert "warning" not in message


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_words_of_the_command_line_are_utf8_in_every_locale(locale: str, golden: Path) -> None:
    environment = {
        **os.environ, "LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }  # fmt: skip
    words = ["generate", "--preset", f"{golden}/keras_presets/gpt2_032", "--max-new-tokens", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "fuseq.cli", *words, "füchse", "--stop-strings", "ü"],
        env=environment,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode("utf-8").startswith("füchse")


def test_stop_strings_must_be_utf8(
    causal: tuple[object, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*causal, "fox", "--stop-strings", "f\udcfcr") == 1
    assert "--stop-strings: must be UTF-8, got 'f\\udcfcr'" in capsys.readouterr().err
