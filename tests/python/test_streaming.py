# SPDX-License-Identifier: Apache-2.0
"""What Python adds to streams, samplers, scores, caches and stop strings: callbacks and numpy."""

import gc
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fuseq
import numpy as np
import numpy.typing as npt
import pytest
from fuseq import GenerationOptions, Prompt, TokenBytes

VOCAB = 120
WORDS = TokenBytes([f"<{i}>".encode() for i in range(VOCAB)])


def new_ids(row: fuseq.Hypothesis) -> list[int]:
    return row.ids[row.prompt_length :]


def test_on_token_sees_rows_ids_and_text(bart_tiny: fuseq.Model) -> None:
    options = GenerationOptions(
        do_sample=True, seed=1, max_new_tokens=9, num_return_sequences=2, token_bytes=WORDS
    )
    told: dict[int, list[tuple[int, str]]] = {}

    def on_token(row: int, token: int, text: str) -> None:
        told.setdefault(row, []).append((token, text))

    results = fuseq.generate(bart_tiny, [[5, 6], [7]], options, on_token=on_token)
    rows = [row for hypotheses in results for row in hypotheses]
    assert len(rows) == 4
    for index, row in enumerate(rows):
        assert told[index] == [(token, f"<{token}>") for token in new_ids(row)]


def test_characters_come_whole(gpt2_tiny: fuseq.Model) -> None:
    pieces = [
        "é".encode()[:1],
        "é".encode()[1:],
        "漢".encode()[:2],
        "漢".encode()[2:],
        b"\xff",
        b"a",
    ]
    table = TokenBytes([pieces[i % len(pieces)] for i in range(VOCAB)])
    options = GenerationOptions(
        do_sample=True, temperature=3.0, seed=2, min_length=30, max_length=30, token_bytes=table
    )
    texts: list[str] = []
    ((row,),) = fuseq.generate(
        gpt2_tiny, [[5]], options, on_token=lambda row, token, text: texts.append(text)
    )
    whole = b"".join(table[token] for token in new_ids(row))
    assert "".join(texts) == whole.decode("utf-8", errors="replace")
    assert len(set(texts)) > 3


def test_true_ends_a_row(gpt2_tiny: fuseq.Model) -> None:
    options = GenerationOptions(min_length=20, max_length=20)
    results = fuseq.generate(gpt2_tiny, [[5], [6]], options, on_token=lambda row, *_: row == 1)
    assert [row.stop_reason for (row,) in results] == ["max_length", "callback"]
    assert len(results[1][0].ids) == 2


def test_an_exception_is_raised_and_the_model_goes_on(bart_tiny: fuseq.Model) -> None:
    class Enough(Exception):
        pass

    def on_token(row: int, token: int, text: str) -> None:
        if row == 2:
            raise Enough("at row 2")

    options = GenerationOptions(max_length=12)
    expected = [row.ids for (row,) in fuseq.generate(bart_tiny, [[5], [6], [7]], options)]
    for _ in range(3):
        with pytest.raises(Enough, match="at row 2"):
            fuseq.generate(bart_tiny, [[5], [6], [7]], options, on_token=on_token)
        again = fuseq.generate(bart_tiny, [[5], [6], [7]], options)
        assert [row.ids for (row,) in again] == expected


def test_callbacks_that_cannot_be_are_named(gpt2_tiny: fuseq.Model) -> None:
    with pytest.raises(TypeError, match=r"on_token: .*got int"):
        fuseq.generate(gpt2_tiny, [[5]], on_token=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="on_token: must not come with beams"):
        fuseq.generate(gpt2_tiny, [[5]], GenerationOptions(num_beams=2), on_token=lambda *_: None)
    with pytest.raises(RuntimeError, match="inside a callback"):
        fuseq.generate(gpt2_tiny, [[5]], on_token=lambda *_: fuseq.generate(gpt2_tiny, [[6]]))
    assert fuseq.generate(gpt2_tiny, [[5]], GenerationOptions(max_length=3))


def test_ctrl_c_in_a_callback_ends_the_call(golden: Path) -> None:
    script = f"""
import fuseq, os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job has none
model = fuseq.load_model({str(golden / "gpt2_tiny")!r})
options = fuseq.GenerationOptions(min_length=32, max_length=32)
def on_token(row, token, text):
    if row == 5: os.kill(os.getpid(), signal.SIGINT)
try:
    fuseq.generate(model, [[5, 6]] * 100000, options, on_token=on_token)
except KeyboardInterrupt:
    print(len(fuseq.generate(model, [[5, 6]] * 2, options)))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (0, b"2\n"), done.stderr


# ---- samplers ----


def test_a_function_chooses_from_probabilities(bart_tiny: fuseq.Model) -> None:
    shapes = []

    def best(probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        shapes.append(probabilities.shape)
        assert probabilities.dtype == np.float32
        np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-5)
        return probabilities.argmax(-1)

    prompts = [[5, 6], [7], [9, 10, 11]]
    options = GenerationOptions(max_length=14, no_repeat_ngram_size=2, repetition_penalty=1.2)
    expected = [row.ids for (row,) in fuseq.generate(bart_tiny, prompts, options)]
    options.sampler = best
    assert options.sampler is best
    got = [row.ids for (row,) in fuseq.generate(bart_tiny, prompts, options, max_batch_size=2)]
    assert got == expected
    assert shapes[0] == (2, VOCAB)


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda p: [VOCAB] * len(p), ValueError, "sampler: ids must be in 0 ... 119, got 120"),
        (lambda p: [-1] * len(p), ValueError, "got -1"),
        (lambda p: [0], ValueError, "sampler: must return 2 ids, got 1"),
        (lambda p: None, TypeError, "sampler"),
        (lambda p: [0.5] * len(p), TypeError, "sampler"),
        (lambda p: 1 / 0, ZeroDivisionError, "division"),
    ],
)
def test_a_wrong_choice_is_named(
    gpt2_tiny: fuseq.Model,
    function: Callable[[Any], Any],
    error: type[Exception],
    message: str,
) -> None:
    options = GenerationOptions(max_length=9, sampler=function)
    with pytest.raises(error, match=message):
        fuseq.generate(gpt2_tiny, [[5], [6]], options)
    assert fuseq.generate(gpt2_tiny, [[5]], GenerationOptions(max_length=3))
    with pytest.raises(TypeError, match="sampler: must be a function"):
        GenerationOptions(sampler=3)  # type: ignore[arg-type]


def test_a_sampler_is_given_back(gpt2_tiny: fuseq.Model) -> None:
    class Best:
        def __call__(self, probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
            return probabilities.argmax(-1)

    best = Best()
    alive = weakref.ref(best)
    fuseq.generate(gpt2_tiny, [[5]], GenerationOptions(max_length=6, sampler=best))
    del best
    gc.collect()
    assert alive() is None


# ---- stop strings, scores, seeds, padding ----


def test_stop_strings_take_str_and_bytes(gpt2_tiny: fuseq.Model) -> None:
    options = GenerationOptions(min_length=20, max_length=20, token_bytes=WORDS)
    ((whole,),) = fuseq.generate(gpt2_tiny, [[5]], options)
    a, b = whole.ids[4:6]
    options.stop_strings = [f"{a}><{b}"]
    for stop_strings in ([f"{a}><{b}"], [f"{a}><{b}".encode()]):
        options.stop_strings = stop_strings  # type: ignore[assignment]
        ((row,),) = fuseq.generate(gpt2_tiny, [[5]], options)
        assert row.ids == whole.ids[:6]
        assert row.stop_reason == "stop_string"
    with pytest.raises(TypeError, match="stop_strings"):
        options.stop_strings = "ab"  # type: ignore[assignment]
    with pytest.raises(TypeError, match=r"tokens\[1\]: must be bytes, got str"):
        TokenBytes([b"a", "b"])  # type: ignore[list-item]
    assert (len(WORDS), WORDS[7]) == (VOCAB, b"<7>")


def test_scores_are_those_of_the_logits(bart_tiny: fuseq.Model) -> None:
    prompts = [Prompt([5, 6, 7], [2, 9, 11, 30]), Prompt([8], [2, 14])]
    logits = fuseq.Session(bart_tiny).forward(prompts).numpy().astype(np.float64)
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    first, second = fuseq.score(bart_tiny, prompts)
    np.testing.assert_allclose(first, log_probs[[0, 1, 2], [9, 11, 30]], atol=2e-5)
    np.testing.assert_allclose(second, log_probs[[4], [14]], atol=2e-5)
    targets = [[1, 2, 3, 4], np.array([5, 6])]
    first, second = fuseq.Session(bart_tiny).score(prompts, targets)
    np.testing.assert_allclose(first, log_probs[[0, 1, 2, 3], [1, 2, 3, 4]], atol=2e-5)
    np.testing.assert_allclose(second, log_probs[[4, 5], [5, 6]], atol=2e-5)
    assert first.dtype == np.float32
    with pytest.raises(ValueError, match="targets must be as many as prompts, 2, got 1"):
        fuseq.score(bart_tiny, prompts, [[1]])
    with pytest.raises(ValueError, match=r"targets\[1\] must have one id for each of 2"):
        fuseq.score(bart_tiny, prompts, [[1, 2, 3, 4], [5]])


def test_scores_and_losses_equal_those_of_transformers(golden: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    for name, load in (
        ("bart_tiny", transformers.BartForConditionalGeneration),
        ("gpt2_tiny", transformers.GPT2LMHeadModel),
    ):
        theirs = load.from_pretrained(golden / f"{name}_hf").eval()
        ours = fuseq.load_model(golden / name)
        ids = [5, 9, 33, 12, 40, 3]
        with torch.no_grad():
            if ours.is_seq2seq:
                prompt = Prompt([7, 8, 9], [2, *ids[:-1]])
                loss = theirs(input_ids=torch.tensor([[7, 8, 9]]), labels=torch.tensor([ids])).loss
                (scores,) = fuseq.score(ours, [prompt], [ids])
            else:
                prompt = Prompt((), ids)
                loss = theirs(input_ids=torch.tensor([ids]), labels=torch.tensor([ids])).loss
                (scores,) = fuseq.score(ours, [prompt])
        assert -scores.mean() == pytest.approx(float(loss), abs=1e-4)


def test_a_prompt_has_a_seed_of_its_own(gpt2_tiny: fuseq.Model) -> None:
    options = GenerationOptions(do_sample=True, max_length=14, temperature=2.0, seed=2**64 - 1)
    prompts = [Prompt((), [5], seed=seed) for seed in (1, 2, 1)]
    first, second, third = (row.ids for (row,) in fuseq.generate(gpt2_tiny, prompts, options))
    assert first == third != second
    (alone,) = fuseq.generate(gpt2_tiny, [prompts[1]], options)[0]
    assert alone.ids == second
    with pytest.raises(ValueError, match="seed"):
        GenerationOptions(seed=2**64)
    with pytest.raises(ValueError, match="seed"):
        GenerationOptions(seed=-1)


def test_padding_on_either_side_changes_nothing(bart_tiny: fuseq.Model) -> None:
    rows = [[5, 6, 7, 8], [9, 10], [11]]
    options = GenerationOptions(max_length=15, num_beams=2, return_scores=True)
    expected = fuseq.generate(bart_tiny, rows, options)
    for side in ("left", "right"):
        ids = np.ones((3, 5), np.int64)
        mask = np.zeros((3, 5), np.int32)
        for index, row in enumerate(rows):
            place = slice(5 - len(row), 5) if side == "left" else slice(0, len(row))
            ids[index, place] = row
            mask[index, place] = 1
        prompts = fuseq.prompts_from_arrays(ids, mask)
        got = fuseq.generate(bart_tiny, prompts, options)
        assert [row.ids for (row,) in got] == [row.ids for (row,) in expected]
    arrays = fuseq.rows_to_arrays(got, pad_id=1, length=15)
    assert arrays.token_ids.shape == arrays.padding_mask.shape == (3, 15)
    for index, (row,) in enumerate(got):
        assert arrays.token_ids[index][arrays.padding_mask[index]].tolist() == row.ids
        assert arrays.scores[index] == np.float32(row.score)
        assert (arrays.token_log_probs[index, 1 : len(row.ids)] < 0).all()


def test_padded_arrays_that_do_not_fit_are_named() -> None:
    make = fuseq.prompts_from_arrays
    with pytest.raises(ValueError, match="row 0 must be true in one run"):
        make([[1, 2, 3]], [[1, 0, 1]])
    with pytest.raises(ValueError, match="row 1 must be true in one run"):
        make([[1], [2]], [[1], [0]])
    with pytest.raises(ValueError, match="encoder_mask: must have shape"):
        make([[1, 2]], [[1, 1, 1]])
    with pytest.raises(TypeError, match="decoder_ids: must be whole numbers, got float"):
        make(decoder_ids=[[1.5]])
    with pytest.raises(ValueError, match="as many rows"):
        make([[1], [2]], decoder_ids=[[1]])
    with pytest.raises(ValueError, match="must be given"):
        make()
    (prompt,) = make([[5, 6]], decoder_ids=[[2, 9, 0]], decoder_mask=[[1, 1]])
    assert (prompt.encoder_ids, prompt.decoder_ids) == ([5, 6], [2, 9])


# ---- states and caches as numpy ----


def test_encoder_states_come_out_and_go_in(bart_tiny: fuseq.Model) -> None:
    session = fuseq.Session(bart_tiny)
    states = session.encode([[5, 6, 7], [8, 9]]).numpy()
    options = GenerationOptions(max_length=14, num_beams=3)
    expected = fuseq.generate(bart_tiny, [[5, 6, 7], [8, 9]], options)
    padded = np.zeros((2, 4, states.shape[1]), np.float32)
    padded[0, :3] = states[:3]
    padded[1, :2] = states[3:]
    prompts = fuseq.prompts_from_arrays(
        encoder_states=padded, encoder_mask=[[1, 1, 1, 0], [1, 1, 0, 0]]
    )
    got = fuseq.generate(bart_tiny, prompts, options)
    assert [row.ids for (row,) in got] == [row.ids for (row,) in expected]
    wrong = Prompt(encoder_states=np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match=r"encoder_states: must have shape \[S, 24\]"):
        fuseq.generate(bart_tiny, [wrong])


def test_a_step_through_arrays_equals_one_in_the_engine(bart_tiny: fuseq.Model) -> None:
    """What KerasHub's call_decoder_with_cache does: caches are values that come and go."""
    session = fuseq.Session(bart_tiny)
    ids = [2, 9, 11, 30, 4]
    whole, hidden = session.forward([Prompt([5, 6, 7], ids)], return_hidden=True)
    cache: npt.NDArray[np.float32] | None = None
    for position, token in enumerate(ids):
        sequence = session.open([5, 6, 7], 8)
        if cache is not None:
            session.write_cache(sequence, "self_attention", cache)
            session.set_length(sequence, position)
        logits, state = session.extend(sequence, [token], return_hidden=True)
        cache = session.read_cache(sequence, "self_attention").numpy()
        assert cache.shape == (3, 2, 8, 2, 12)
        assert not cache[:, :, position + 1 :].any()
        session.close(sequence)
        assert np.array_equal(logits.numpy()[0], whole.numpy()[position])
        assert np.array_equal(state.numpy()[0], hidden.numpy()[position])
    with pytest.raises(ValueError, match="kind"):
        session.read_cache(session.open([5], 4), "other")  # type: ignore[arg-type]


def test_many_short_generations_leave_memory_flat_and_no_thread(golden: Path) -> None:
    import measure_flat_memory as flat

    if not Path("/proc/self/status").exists():
        pytest.skip("memory is read from /proc")
    before = flat.num_threads()
    result = flat.run(golden, generations=6000, warm_up=1000)
    assert result["grown_mb"] < 5
    assert flat.num_threads() == before
