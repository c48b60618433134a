# SPDX-License-Identifier: Apache-2.0
"""The comparison with rivals: wrong ids, failures and missing rivals must not pass for success.

The peers are stand-ins: nothing is loaded, nothing is generated.
"""

import argparse
import copy
import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

import plot_comparison
from comparison import measure, ragged_row
from comparison.checks import LOSSES, MARGINS, Exam
from comparison.rivals import Field, PeerError
from comparison.rows import ROW_SETS, Row, target_of

ROW = Row("test", "bart-tiny", 4, 6, 2)
BEAMS = dataclasses.replace(ROW, beams=4)
FLOAT32 = dataclasses.replace(ROW, dtype="float32")
OPTIONS = argparse.Namespace(rounds=3, ragged_rounds=3, budget=90, pause=0.0, threads=1)
VOCAB = 100
Ids = list[list[int]]


class StandIn:
    """A peer that gives fixed ids in fixed times, and may fail at one of its calls.

    As a judge it finds a row worse by 0.02 for every id that is 50 or more, and by 1 for a 7.
    """

    def __init__(self, name: str, seconds: float = 1.0, **options: Any) -> None:
        self.name = name
        self.seconds = seconds
        self.ids: Callable[[int, int], Ids] | None = options.get("ids")
        self.fails_at = options.get("fails_at")
        self.calls: list[list[str]] = options.get("calls", [])
        self.count = 0

    def generate(self, **fields: Any) -> tuple[Ids, float]:
        self.count += 1
        self.calls.append([self.name])
        if self.count == self.fails_at:
            raise PeerError("the process ended")
        rows, length = len(fields["ids"]), fields["new_tokens"]
        if self.ids is not None:
            return self.ids(rows, length), self.seconds
        return right(rows, length), self.seconds

    def call(self, function: str, **fields: Any) -> dict[str, Any]:
        assert function == "judge"
        worse = max(1.0 if i == 7 else 0.02 if i >= 50 else 0.0 for i in fields["row"])
        return {"result": {"margin": worse, "score": -1.0 - worse}}

    def close(self) -> None:
        """Nothing to end."""


def right(rows: int, length: int) -> Ids:
    """What the judge generates."""
    return [[10 + place for place in range(length)] for _ in range(rows)]


def near(rows: int, length: int) -> Ids:
    """Ids that part from the judge's where two logits are near each other."""
    return [[*row[:-1], 60] for row in right(rows, length)]


def wrong(rows: int, length: int) -> Ids:
    return [[7] * length] * rows


def run(row: Row, *peers: StandIn) -> dict[str, Any]:
    return measure.run_row(row, list(peers), VOCAB, OPTIONS)  # type: ignore[arg-type]


def trio(**options: Any) -> tuple[StandIn, StandIn, StandIn]:
    """The judge, fuseq and CTranslate2; the options are those of fuseq."""
    return StandIn("transformers", 4.0), StandIn("fuseq", **options), StandIn("ctranslate2", 2.0)


@pytest.mark.parametrize("row", [ROW, BEAMS, FLOAT32], ids=["int8", "beams", "float32"])
def test_wrong_ids_are_not_timed(row: Row) -> None:
    table = run(row, *trio(ids=wrong))
    assert "got 1.0e+00 (id 0 is 7, not 10)" in table["failures"]["fuseq"]
    assert set(table["peers"]) == {"transformers", "ctranslate2"}
    assert "ratio" not in table


@pytest.mark.parametrize("row", [ROW, BEAMS], ids=["greedy", "beams"])
def test_near_ids_are_right_in_int8_alone(row: Row) -> None:
    table = run(row, *trio(ids=near))
    assert not table["failures"]
    assert table["peers"]["fuseq"]["equal_ids"] == 10
    assert table["peers"]["fuseq"]["tied_rows"] == 2
    assert "fuseq" in run(dataclasses.replace(row, dtype="float32"), *trio(ids=near))["failures"]


def test_bounds_lie_between_near_and_wrong() -> None:
    for bounds in (MARGINS, LOSSES):
        assert bounds["float32"] < 0.02 < bounds["int8"] < 1
        assert bounds["float32"] < bounds["bfloat16"] < 1


def test_tiny_models_have_slack_but_not_in_float32() -> None:
    exam = Exam(StandIn("transformers"), [[1]], 1, 2, 2, [[10, 11]], slack=0.1)  # type: ignore[arg-type]
    with pytest.raises(PeerError, match=r"margin must be at most 0\.01, got"):
        exam.check([[10, 60]], "int8")
    exam.slack = 1000.0
    assert exam.check([[10, 60]], "int8")["tied_rows"] == 1
    with pytest.raises(PeerError, match=r"margin must be at most 0\.0001, got"):
        exam.check([[10, 60]], "float32")


@pytest.mark.parametrize("length", [5, 7])
def test_lengths_must_be_those_asked_for(length: int) -> None:
    table = run(ROW, *trio(ids=lambda rows, _: right(rows, length)))
    assert table["failures"]["fuseq"] == f"row 0: must have 6 to 6 new ids, got {length}"


def test_rows_must_be_there() -> None:
    table = run(ROW, *trio(ids=lambda rows, length: right(rows - 1, length)))
    assert table["failures"]["fuseq"] == "must give 2 rows, got 1"


def test_a_short_row_must_end_with_the_end_id() -> None:
    exam = Exam(StandIn("transformers"), [[1]], 1, 4, 2, [[10, 11, 2]], end_id=2)  # type: ignore[arg-type]
    assert exam.check([[10, 11, 2]], "int8")["equal_rows"] == 1
    with pytest.raises(PeerError, match="row 0: must end with id 2, got 11"):
        exam.check([[10, 11]], "int8")


@pytest.mark.parametrize("options", [{"fails_at": 1}, {"ids": lambda rows, _: right(rows, 5)}])
def test_without_the_judge_nobody_passes(options: dict[str, Any]) -> None:
    table = run(ROW, StandIn("transformers", **options), *trio()[1:])
    assert list(table["failures"]) == ["transformers"]
    assert table["peers"] == {}


@pytest.mark.parametrize("ids", [wrong, lambda rows, _: right(rows, 5)], ids=["wrong", "short"])
def test_ids_of_timed_runs_are_checked(ids: Callable[[int, int], Ids]) -> None:
    fuseq = StandIn("fuseq")
    fuseq.ids = lambda rows, length: (ids if fuseq.count == 4 else right)(rows, length)
    table = run(ROW, trio()[0], fuseq, trio()[2])
    assert table["failures"]["fuseq"].startswith("round 2: row 0: ")
    assert "fuseq" not in table["peers"]


def test_a_rival_that_fails_in_a_round_leaves_the_others_their_times() -> None:
    rival = StandIn("ctranslate2-workers", 2.0, fails_at=4)
    table = run(ROW, *trio(), rival)
    assert table["failures"] == {"ctranslate2-workers": "round 2: the process ended"}
    assert table["strongest"] == "ctranslate2"
    assert table["peers"]["ctranslate2"]["rounds"] == 3
    assert table["ratio"] == 2.0


def test_each_peer_warms_up_twice_and_rounds_begin_with_another_one() -> None:
    calls: list[list[str]] = []
    peers = [StandIn(name, calls=calls) for name in ("transformers", "fuseq", "ctranslate2")]
    run(ROW, *peers)
    t, f, c = ([peer.name] for peer in peers)
    assert calls == [t, t, f, f, c, c, t, f, c, f, c, t, c, t, f]


def test_the_best_of_few_rounds_is_compared_with_the_best_of_as_many() -> None:
    own = measure.Timing(rates=[1.0, 2.0])
    subject = measure.Timing(rates=[2.0, 4.0, 100.0])
    assert measure.summary(own, subject, None)["best_ratio"] == 2.0


def test_sizes_are_tuned_after_a_first_run() -> None:
    peer = StandIn("fuseq")
    rates = ragged_row.tune(ROW, peer, [[1]] * 3)  # type: ignore[arg-type]
    assert list(rates) == [8, 16, 32, 64]
    assert peer.count == 5


def ragged(
    monkeypatch: pytest.MonkeyPatch, folder: Path, ids: Callable[[int, int], Ids]
) -> dict[str, Any]:
    """The table of a ragged row in which fuseq gives `ids` in int8."""

    def start(names: list[str], _folder: Path, dtype: str, threads: int) -> Field:
        given = {"fuseq": ids} if dtype == "int8" else {}
        return Field([StandIn(name, ids=given.get(name)) for name in names])  # type: ignore[misc]

    monkeypatch.setattr(ragged_row, "start_peers", start)
    (folder / "config.json").write_text(json.dumps({"eos_token_id": 2}))
    row = dataclasses.replace(ROW, ragged=True, shortest=4, batch=40)
    return ragged_row.run_ragged_row(row, ["fuseq", "ctranslate2"], folder, VOCAB, OPTIONS)[0]


def test_ids_of_a_list_are_judged_in_int8(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "fuseq" in ragged(monkeypatch, tmp_path, wrong)["failures"]
    table = ragged(monkeypatch, tmp_path, near)
    assert not table["failures"]
    assert table["ratio"] == 1.0
    assert table["peers"]["fuseq"]["float32_equal_rows"] == 40


def test_a_changed_row_has_no_target() -> None:
    row = next(row for row in ROW_SETS["targets"] if row.ragged)
    assert target_of(row) == 3.0
    assert target_of(dataclasses.replace(row, batch=200)) is None
    assert target_of(dataclasses.replace(row, dtype="float32")) is None


def report(ratio: float = 9.0, **changes: Any) -> dict[str, Any]:
    """A report with row 1, which aims at 5."""
    row = {
        **dataclasses.asdict(ROW_SETS["targets"][0]),
        **{key: ratio for key in ("ratio", "ratio_lowest", "ratio_highest", "best_ratio")},
        **{"strongest": "ctranslate2", "peers": {"fuseq": {}, "ctranslate2": {}}},
        **{"failures": {}, "absent": {}},
        **changes,
    }
    made_of = {"date": "a day", "cpu": "a CPU", "cpu_features": [], "versions": {}}
    return {"moment": "now", "threads": 2, "rounds": 8, "rows": [row], **made_of}


def last_line(*reports: dict[str, Any]) -> str:
    return plot_comparison.markdown(list(reports)).splitlines()[-1]


def test_a_target_is_met_by_its_ratio() -> None:
    assert last_line(report(5.0), report(4.9)).endswith("| 5 | 1 of 2 |")


def test_a_target_is_not_met_without_ctranslate2() -> None:
    absent = report(peers={"fuseq": {}, "transformers": {}}, absent={"ctranslate2": "no package"})
    assert "absent: ctranslate2 |" in last_line(absent)
    assert last_line(absent).endswith("| 0 of 1 |")
    failed = report(failures={"ctranslate2-workers": "the process ended"})
    assert "failed: ctranslate2-workers |" in last_line(failed)
    assert last_line(failed).endswith("| 0 of 1 |")


def test_a_run_without_the_row_is_told_beside_those_that_met_its_target() -> None:
    assert "| not run |" in last_line(report(), {**report(), "rows": []})
    assert last_line(report(), {**report(), "rows": []}).endswith("| 1 of 1 (not run in 1) |")


def test_a_changed_row_is_shown_without_a_target() -> None:
    assert last_line(report(batch=4)).endswith("| – | – |")


@pytest.mark.parametrize("field", ["batch", "dtype", "new_tokens"])
def test_runs_of_other_rows_are_not_put_together(field: str) -> None:
    other = copy.deepcopy(report())
    other["rows"][0][field] = "other"
    with pytest.raises(ValueError, match=f"runs: {field} of row 1 must be the same, got"):
        plot_comparison.check_alike([report(), other])


def test_runs_with_other_threads_are_not_put_together() -> None:
    with pytest.raises(ValueError, match=r"runs: must have the same number of threads, got \[2, 4"):
        plot_comparison.check_alike([report(), {**report(), "threads": 4}])


def test_an_old_report_is_an_error_in_words(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps({"rows": []}))
    with pytest.raises(ValueError, match=r"old\.json must be a report of compare\.py, got none"):
        plot_comparison.load_report(path)


def test_models_of_another_recipe_are_written_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("torch", "transformers"):
        pytest.importorskip(name)
    import random_models

    written: list[str] = []

    def write(name: str, folder: Path) -> None:
        written.append(name)
        (folder / "model.safetensors").write_text("weights")

    monkeypatch.setattr(random_models, "write_model", write)
    folder = random_models.model_folder("gpt2", tmp_path)
    (folder / "ctranslate2").mkdir()
    random_models.model_folder("gpt2", tmp_path)
    assert written == ["gpt2"]
    monkeypatch.setitem(random_models.MODELS, "gpt2", ("gpt2", {"n_layer": 3}))
    random_models.model_folder("gpt2", tmp_path)
    assert written == ["gpt2", "gpt2"]
    assert not (folder / "ctranslate2").exists()
    (tmp_path / "gpt2.recipe").unlink()
    with pytest.raises(FileExistsError, match=r"gpt2 must have gpt2\.recipe beside it"):
        random_models.model_folder("gpt2", tmp_path)
