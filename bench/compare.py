# SPDX-License-Identifier: Apache-2.0
"""fuseq against its rivals: equal ids first, then times in interleaved rounds, one table.

    python bench/compare.py --output bench/results/cpu-float32

Every rival has a file in `peers/` and a process of its own. All generate exactly the same number
of tokens by greedy search, end ids banned, from the same random weights of real shapes. A round
runs all rivals once, one after the other, so that a slow moment of the machine hits all of them.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
# Unequal ids count as a tie if their logits differ by less than this part of the largest logit.
TIE = 1e-4


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the comparison."""

    model: str
    prompt: int  # tokens of the source (sequence-to-sequence) or prompt (causal)
    new_tokens: int
    batch: int


ROW_SETS = {
    "full": [
        Row("bart-base", 128, 64, 1),
        Row("bart-base", 128, 64, 8),
        Row("gpt2", 64, 64, 1),
        Row("gpt2", 64, 64, 8),
    ],
    "tiny": [Row("bart-tiny", 16, 8, 2), Row("gpt2-tiny", 8, 8, 2)],
}

# name -> file, arguments, environment
PEERS: dict[str, tuple[str, list[str], dict[str, str]]] = {
    "fuseq": ("fuseq_peer.py", [], {}),
    "transformers": ("transformers_peer.py", [], {}),
    "transformers-compiled": ("transformers_peer.py", ["--compiled"], {}),
    "ctranslate2": ("ctranslate2_peer.py", [], {}),
    "ctranslate2-avx512": ("ctranslate2_peer.py", [], {"CT2_FORCE_CPU_ISA": "AVX512"}),
}

# The peer whose ids the others are compared with.
JUDGE = "transformers"


class PeerError(RuntimeError):
    """A peer could not do what it was asked."""


class PeerProcess:
    """A peer in a process of its own."""

    def __init__(self, name: str, threads: int) -> None:
        """Start the peer `name` of `PEERS`."""
        file, arguments, environment = PEERS[name]
        self.name = name
        count = str(threads)
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "peers" / file), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": count, **environment},
        )

    def call(self, function: str, **arguments: object) -> tuple[Any, float]:
        """Return the peer's result and the seconds that it took."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"call": function, "arguments": arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError as error:
            raise PeerError(f"{self.name}: process ended: {error}") from error
        if not line:
            raise PeerError(f"{self.name}: process ended with {self._process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise PeerError(f"{self.name}: {answer['error']}")
        return answer["result"], answer["seconds"]

    def close(self) -> None:
        """End the process, which may have ended by itself."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait()


def count_equal(
    ids: list[list[int]],
    expected: list[list[int]],
    prompts: list[list[int]],
    judge: PeerProcess,
) -> tuple[int, int]:
    """Rows with equal ids, and rows that part at a near tie. Anything else is a PeerError."""
    equal = ties = 0
    for row, (got, want, prompt) in enumerate(zip(ids, expected, prompts, strict=True)):
        if got == want:
            equal += 1
            continue
        if len(got) != len(want):
            raise PeerError(f"row {row}: expected {len(want)} ids, got {len(got)}")
        at = next(i for i in range(len(want)) if got[i] != want[i])
        margin, _ = judge.call("margin", ids=prompt, prefix=want[:at], a=got[at], b=want[at])
        if margin > TIE:
            raise PeerError(
                f"row {row}: id {at} is {got[at]}, expected {want[at]}; margin {margin:.1e}"
            )
        ties += 1
    return equal, ties


def start_peers(
    names: list[str], folder: Path, options: argparse.Namespace
) -> tuple[list[PeerProcess], dict[str, str], dict[str, str]]:
    """The peers with the model loaded, their versions, and what the others failed at."""
    peers: list[PeerProcess] = []
    versions: dict[str, str] = {}
    failures: dict[str, str] = {}
    for name in names:
        peer = PeerProcess(name, options.threads)
        try:
            result, _ = peer.call(
                "prepare", folder=str(folder), threads=options.threads, dtype=options.dtype
            )
            versions |= result
            peers.append(peer)
        except PeerError as error:
            failures[name] = str(error)
            peer.close()
    # The judge goes first, since the others are compared with it.
    peers.sort(key=lambda peer: peer.name != JUDGE)
    if not peers or peers[0].name != JUDGE:
        raise PeerError(f"{JUDGE} judges the ids and must run: {failures}")
    return peers, versions, failures


def check_ids(
    peers: list[PeerProcess], prompts: list[list[int]], new_tokens: int
) -> tuple[dict[str, dict[str, int]], dict[str, str]]:
    """Warm every peer up, and compare its ids with the judge's."""
    expected: list[list[int]] = []
    checks: dict[str, dict[str, int]] = {}
    failures: dict[str, str] = {}
    for peer in peers:
        try:
            ids, _ = peer.call("run", ids=prompts, new_tokens=new_tokens)
            expected = expected or ids
            equal, ties = count_equal(ids, expected, prompts, peers[0])
            # Once more: what is made at first use is there now.
            peer.call("run", ids=prompts, new_tokens=new_tokens)
            checks[peer.name] = {"equal_rows": equal, "tied_rows": ties}
        except PeerError as error:
            failures[peer.name] = str(error)
    return checks, failures


def median_ratio(slower: list[float] | None, faster: list[float] | None) -> float | None:
    """Of the rounds, not of the medians: both runs of a round saw the same moment."""
    if slower is None or faster is None:
        return None
    return statistics.median(a / b for a, b in zip(slower, faster, strict=True))


def run_row(
    row: Row, peers: list[PeerProcess], vocab: int, options: argparse.Namespace
) -> dict[str, Any]:
    """One row: compare the ids, then time."""
    random.seed(row.batch)
    prompts = [[random.randrange(10, vocab) for _ in range(row.prompt)] for _ in range(row.batch)]
    checks, failures = check_ids(peers, prompts, row.new_tokens)
    seconds: dict[str, list[float]] = {name: [] for name in checks}
    for _ in range(options.rounds):
        for peer in peers:
            if peer.name in seconds:
                time.sleep(options.pause)
                _, taken = peer.call("run", ids=prompts, new_tokens=row.new_tokens)
                seconds[peer.name].append(taken)
    results = {}
    for name, own in seconds.items():
        rates = [row.batch * row.new_tokens / taken for taken in own]
        results[name] = {
            **checks[name],
            "tokens_per_second": statistics.median(rates),
            "lowest": min(rates),
            "highest": max(rates),
            "times_transformers": median_ratio(seconds[JUDGE], own),
            "fuseq_times_this": median_ratio(own, seconds.get("fuseq")),
            "seconds": own,
        }
    return {**dataclasses.asdict(row), "peers": results, "failures": failures}


def run_model(
    rows: list[Row], names: list[str], folder: Path, options: argparse.Namespace
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """All rows of one model, and the versions of what ran."""
    peers, versions, failures = start_peers(names, folder, options)
    vocab = json.loads((folder / "config.json").read_text())["vocab_size"]
    tables = []
    for row in rows:
        table = run_row(row, peers, vocab, options)
        table["failures"] = failures | table["failures"]
        tables.append(table)
        print(markdown_rows(table), flush=True)
    for peer in peers:
        peer.close()
    return tables, versions


def markdown_rows(table: dict[str, Any]) -> str:
    """The lines of one row of the comparison."""
    lines = []
    head = f"{table['model']} | {table['prompt']} + {table['new_tokens']} | {table['batch']}"
    for name, result in table["peers"].items():
        ids = f"{result['equal_rows']}/{table['batch']}"
        if result["tied_rows"]:
            ids += f", {result['tied_rows']} ties"
        spread = f"{result['lowest']:.1f} – {result['highest']:.1f}"
        ratios = " | ".join(
            "–" if ratio is None else f"{ratio:.2f}"
            for ratio in (result["times_transformers"], result["fuseq_times_this"])
        )
        rate = f"{result['tokens_per_second']:.1f}"
        lines.append(f"| {head} | {name} | {rate} | {spread} | {ratios} | {ids} |")
    for name, message in table["failures"].items():
        lines.append(f"| {head} | {name} | – | {message} | – | – | – |")
    return "\n".join(lines)


def cpu_name() -> str:
    """The CPU's own name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def markdown(report: dict[str, Any]) -> str:
    """The whole report as a page."""
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    lines = [
        f"# fuseq and its rivals: {report['dtype']}, {report['threads']} threads",
        "",
        f"{report['cpu']}, {report['cpus']} CPUs; {versions}; {report['date']}.",
        f"Median tokens per second of {report['rounds']} interleaved rounds, the lowest and the",
        "highest; greedy search; prompt (source) + new tokens, all of equal length; encoder or",
        "prompt included. Ratios are medians of the rounds' ratios: the peer against transformers,",
        "and fuseq against the peer. `equal ids`: rows with transformers' ids; a tie is a row",
        f"that parts where the two logits differ by less than {TIE:g} of the largest.",
        "",
        "| model | tokens | batch | peer | tokens/s | lowest – highest | × transformers "
        "| fuseq × peer | equal ids |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [markdown_rows(table) for table in report["rows"]]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the comparison; 1 if a peer failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", choices=sorted(ROW_SETS), default="full")
    parser.add_argument("--peers", default=",".join(PEERS), help="names, separated by commas")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--pause", type=float, default=0.2, help="seconds before each run")
    parser.add_argument("--models", type=Path, help="folder to keep the random models in")
    parser.add_argument("--output", type=Path, help="writes <output>.json and <output>.md")
    options = parser.parse_args()
    names = options.peers.split(",")
    for name in names:
        if name not in PEERS:
            parser.error(f"--peers: {name} must be one of {', '.join(PEERS)}")
    if JUDGE not in names:
        parser.error(f"--peers: {JUDGE} must be among them: it judges the ids")

    rows: list[dict[str, Any]] = []
    versions: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as temporary:
        parent = options.models or Path(temporary)
        for model in dict.fromkeys(row.model for row in ROW_SETS[options.rows]):
            # Written by a process of its own: torch stays out of this one.
            script = (
                "import sys, pathlib; sys.path.insert(0, sys.argv[1]); import random_models; "
                "random_models.model_folder(sys.argv[2], pathlib.Path(sys.argv[3]))"
            )
            subprocess.run(
                [sys.executable, "-c", script, str(HERE), model, str(parent)], check=True
            )
            model_rows = [row for row in ROW_SETS[options.rows] if row.model == model]
            tables, found = run_model(model_rows, names, parent / model, options)
            rows += tables
            versions |= found
    report = {
        "date": datetime.date.today().isoformat(),
        "cpu": cpu_name(),
        "cpus": os.cpu_count(),
        "threads": options.threads,
        "dtype": options.dtype,
        "rounds": options.rounds,
        "versions": {"python": platform.python_version(), **versions},
        "rows": rows,
    }
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        # "name.md" beside "name.json"; with_suffix would cut a name with a dot in it.
        Path(f"{options.output}.json").write_text(json.dumps(report, indent=1) + "\n")
        Path(f"{options.output}.md").write_text(markdown(report))
    return 1 if any(table["failures"] for table in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
