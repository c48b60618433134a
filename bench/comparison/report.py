# SPDX-License-Identifier: Apache-2.0
"""What a run is told as: a table of markdown lines."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from comparison import limits
from comparison.checks import LOSSES, MARGINS
from comparison.rivals import SUBJECT

HEAD = (
    "| row | dtype | model | source + new | batch | beams | peer | tokens/s | lowest – highest "
    "| fuseq × peer | best/best | × transformers | equal ids |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def cpu_name() -> str:
    """The CPU's own name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def cpu_features() -> list[str]:
    """The instruction sets that decide how fast a product can be."""
    info = Path("/proc/cpuinfo")
    flags = info.read_text().split() if info.exists() else []
    wanted = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8")
    return [name for name in wanted if name in flags]


def lengths(row: dict[str, Any]) -> str:
    """Source and new tokens, in words of the table."""
    if row["ragged"]:
        return f"{row['shortest']}..{row['source']} + natural ends"
    return f"{row['source']} + {row['new_tokens']}"


def number(value: float | None) -> str:
    """A ratio, or that there is none."""
    return "–" if value is None else f"{value:.2f}"


def equal_ids(result: dict[str, Any]) -> str:
    """Equal ids of all, and what is known of whole rows."""
    text = f"{result['equal_ids']}/{result['ids']}"
    if result.get("tied_rows"):
        text += f", {result['tied_rows']} rows near"
    if "float32_equal_rows" in result:
        rows, ties = result["float32_equal_rows"], result["float32_tied_rows"]
        text += f"; float32 rows {rows}/{rows + ties}"
    return text


def markdown_rows(row: dict[str, Any]) -> str:
    """The lines of one row of the comparison."""

    def head(dtype: str) -> str:
        shape = f"{row['model']} | {lengths(row)} | {row['batch']} | {row['beams']}"
        return f"| {row['name']} | {dtype} | {shape}"

    lines = []
    for name, result in row["peers"].items():
        shown = f"**{name}**" if name == row.get("strongest") else name
        cells = [
            head(result["dtype"]),
            shown,
            f"{result['tokens_per_second']:.1f}",
            f"{result['lowest']:.1f} – {result['highest']:.1f} ({result['rounds']})",
            *("–" if name == SUBJECT else number(result.get(k)) for k in ("ratio", "best_ratio")),
            number(result.get("times_transformers")),
            equal_ids(result),
        ]
        lines.append(" | ".join(cells) + " |")
    for what in ("failures", "absent"):
        for name, message in row.get(what, {}).items():
            text = " ".join(message.split()).replace("|", "/")
            word = "failed" if what == "failures" else "does not run"
            lines.append(f"{head(row['dtype'])} | {name} | – | {word}: {text} | – | – | – | – |")
    return "\n".join(lines)


def bounds(of_dtypes: dict[str, float]) -> str:
    """A bound for each dtype, in words."""
    return ", ".join(f"{limit:g} in {dtype}" for dtype, limit in of_dtypes.items())


def markdown(report: dict[str, Any]) -> str:
    """The whole report as a page."""
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    lines = [
        f"# fuseq and its rivals: {report['moment']}",
        "",
        f"{report['cpu']} ({', '.join(report['cpu_features'])}), {report['cpus']} CPUs,",
        f"{report['threads']} threads; {versions}; {report['date']}.",
        "",
        f"Median tokens per second of {report['rounds']} interleaved rounds"
        f" ({report['ragged_rounds']} of the ragged row), the lowest, the",
        "highest, and how many rounds the peer took part in (slow ones: the first). Encoder or",
        "prompt included; all rows are equally long, end ids banned, unless they end by",
        "themselves. `fuseq × peer` is the median of the rounds' ratios, `best/best` that of the",
        "best rounds; the strongest rival is bold. `equal ids`: those of transformers in float32",
        "(ragged row: of CTranslate2 in float32) at their place. Greedy rows that part are near if",
        "all their logits are below that of the best id after the same ids, for transformers in",
        f"float32, by at most this part of the largest: {bounds(MARGINS)}.",
        "Rows of beams are near if their mean log-probability is below that of its row by at most",
        f"{bounds(LOSSES)}. Other rows are a failure.",
        "",
        HEAD,
    ]
    lines += [markdown_rows(row) for row in report["rows"]]
    lines += limits.markdown([report])
    return "\n".join(lines) + "\n"
