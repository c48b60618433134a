# SPDX-License-Identifier: Apache-2.0
"""Sessions, and how generate behaves beside threads, signals and forks."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import fuseq
import numpy as np
import pytest
from fuseq import GenerationOptions, Prompt

OPTIONS = GenerationOptions(max_length=20, num_beams=3)


def run(session: fuseq.Session) -> int:
    steps = 0
    while session.step():
        steps += 1
    return steps


def ids_of(rows: list[fuseq.Hypothesis]) -> list[list[int]]:
    return [row.ids for row in rows]


def test_requests_with_options_of_their_own_share_a_session(bart_tiny: fuseq.Model) -> None:
    cases = [
        ([5, 6, 7], GenerationOptions(max_length=9)),
        ([50, 60], OPTIONS),
        ([9] * 12, GenerationOptions(max_new_tokens=4, num_beams=2, num_return_sequences=2)),
    ]
    session = fuseq.Session(bart_tiny, num_threads=2)
    requests = [session.submit(prompt, options) for prompt, options in cases]
    assert len(set(requests)) == 3
    assert not session.is_finished(requests[0])
    assert run(session) > 0
    for request, (prompt, options) in zip(requests, cases, strict=True):
        assert session.is_finished(request)
        (expected,) = fuseq.generate(bart_tiny, [prompt], options)
        assert ids_of(session.take(request)) == ids_of(expected)
        with pytest.raises(ValueError, match=str(request)):
            session.take(request)
    assert not session.step()


def test_a_request_may_come_while_others_run(gpt2_tiny: fuseq.Model) -> None:
    session = fuseq.Session(gpt2_tiny, num_threads=1, max_rows=3)
    first = session.submit([5, 6], OPTIONS)
    for _ in range(3):
        session.step()
    second = session.submit([7, 8, 9], OPTIONS)
    run(session)
    for request, prompt in ((first, [5, 6]), (second, [7, 8, 9])):
        (expected,) = fuseq.generate(gpt2_tiny, [prompt], OPTIONS)
        assert ids_of(session.take(request)) == ids_of(expected)


def test_a_canceled_request_gives_what_it_has(gpt2_tiny: fuseq.Model) -> None:
    whole = fuseq.generate(gpt2_tiny, [[5, 6]], GenerationOptions(min_length=20, max_length=20))
    session = fuseq.Session(gpt2_tiny)
    request = session.submit([5, 6], GenerationOptions(min_length=20, max_length=20))
    for _ in range(4):
        session.step()
    session.cancel(request)
    (row,) = session.take(request)
    assert row.stop_reason == "canceled"
    assert 2 < len(row.ids) < 20
    assert whole[0][0].ids[: len(row.ids)] == row.ids


def test_encoder_states_of_a_batch_equal_those_of_each_source(bart_tiny: fuseq.Model) -> None:
    sources = [[5], [9, 8, 7, 6, 5], list(range(3, 35))]
    session = fuseq.Session(bart_tiny)
    together = session.encode(sources).numpy()
    assert together.shape == (38, 24)
    alone = [session.encode([source]).numpy() for source in sources]
    assert np.array_equal(together, np.concatenate(alone))


def test_caches_are_given_back(bart_tiny: fuseq.Model) -> None:
    session = fuseq.Session(bart_tiny)
    request = session.submit([5, 6, 7], OPTIONS)
    session.step()
    assert session.cache_bytes > 0
    run(session)
    expected = ids_of(session.take(request))
    session.release_memory()
    assert session.cache_bytes == 0
    request = session.submit([5, 6, 7], OPTIONS)
    run(session)
    assert ids_of(session.take(request)) == expected


def test_a_session_outlives_the_name_of_its_model(golden: Path) -> None:
    session = fuseq.Session(fuseq.load_model(golden / "gpt2_tiny"))
    request = session.submit([5, 6], OPTIONS)
    run(session)
    assert session.take(request)[0].ids[:2] == [5, 6]


def test_a_prompt_and_a_hypothesis_show_what_they_hold(bart_tiny: fuseq.Model) -> None:
    prompt = Prompt(np.array([5, 6]), decoder_ids=(2, 9))
    assert (prompt.encoder_ids, prompt.decoder_ids) == ([5, 6], [2, 9])
    (row,) = fuseq.generate(bart_tiny, [prompt], GenerationOptions(max_length=6))[0]
    assert row.ids[:2] == [2, 9]
    assert row.stop_reason in ("stop_id", "max_length")
    assert repr(row).startswith(f"Hypothesis(ids={row.ids}")


def test_threads_may_generate_on_one_model(gpt2_tiny: fuseq.Model) -> None:
    prompts = [[5 + i, 6] for i in range(8)]
    expected = [ids_of(fuseq.generate(gpt2_tiny, [prompt], OPTIONS)[0]) for prompt in prompts]
    results: dict[int, list[list[int]]] = {}

    def work(index: int) -> None:
        for _ in range(5):
            (rows,) = fuseq.generate(gpt2_tiny, [prompts[index]], OPTIONS)
            results[index] = ids_of(rows)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [results[index] for index in range(8)] == expected


def test_a_child_generates_after_a_fork(golden: Path) -> None:
    model = fuseq.load_model(golden / "bart_tiny", num_threads=3)
    expected = ids_of(fuseq.generate(model, [[5, 6, 7]], OPTIONS)[0])
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = int(ids_of(fuseq.generate(model, [[5, 6, 7]], OPTIONS)[0]) != expected)
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert ids_of(fuseq.generate(model, [[5, 6, 7]], OPTIONS)[0]) == expected


def test_ctrl_c_ends_a_call_and_the_model_goes_on(golden: Path) -> None:
    script = f"""
import fuseq, os, signal, threading
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job has none
model = fuseq.load_model({str(golden / "gpt2_tiny")!r})
prompts = [[5, 6]] * 200_000
options = fuseq.GenerationOptions(min_length=32, max_length=32)
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    fuseq.generate(model, prompts, options)
except KeyboardInterrupt:
    print(len(fuseq.generate(model, prompts[:2], options)))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (0, b"2\n"), done.stderr
