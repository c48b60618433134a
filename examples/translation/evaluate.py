# SPDX-License-Identifier: Apache-2.0
"""Translates a test set with what `train.py` has written, and compares with transformers.

Needs `pip install "fuseq[metrics]"`; to compare, also `pip install transformers torch`.
"""

import argparse
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import fuseq
from corpus import MAX_NEW_TOKENS, ORIGIN, default_folder, read_pairs
from recipe import missing, output_folder, require
from transformers_peer import TransformersPeer

SMALL_PAIRS = 100
BEAM_SEARCH: dict[str, Any] = {"num_beams": 4, "length_penalty": 1.0, "early_stopping": False}
# How a translation is searched, in fuseq and in transformers.
SEARCHES: dict[str, tuple[Any, dict[str, Any]]] = {
    "greedy": ("greedy", {"num_beams": 1}),
    "beam 4": (fuseq.samplers.BeamSampler(**BEAM_SEARCH), BEAM_SEARCH),
}
Translations = list[tuple[list[int], str]]  # the new ids, with the end id, and the text


def main() -> None:
    """Prints a table, row by row, and writes the numbers as JSON."""
    options = read_options()
    require("sacrebleu")
    pairs = read_pairs(options.data, options.split, SMALL_PAIRS if options.small else None)
    scores = Scores(pairs["decoder_text"])
    absent = missing("transformers", "torch")
    if absent:
        print(f"Left out transformers: no {' and no '.join(absent)} found.")
        print("Run: pip install transformers torch\n")

    rows = []
    print(head(with_transformers=not absent), flush=True)
    for dtype in options.dtypes:
        lm = fuseq.Seq2SeqLM.from_preset(options.model, dtype=dtype, num_threads=options.threads)
        no_peer = absent or dtype == "int8"  # which transformers has not on a CPU
        peer = None if no_peer else TransformersPeer(options.model, dtype, options.threads)
        for search in SEARCHES:
            rows.append(compare(lm, peer, pairs["encoder_text"], search, scores))
            print(line(rows[-1], with_transformers=not absent), flush=True)
    signatures = scores.signatures()
    print("\n" + "\n".join(signatures.values()))
    result = {
        "split": options.split,
        "sentences": len(pairs["encoder_text"]),
        "max_new_tokens": MAX_NEW_TOKENS,
        "beam_search": BEAM_SEARCH,
        "signatures": signatures,
        "versions": versions(with_transformers=not absent),
        "results": rows,
    }
    if options.output is not None:
        options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


class Scores:
    """BLEU and chrF against references.

    Args:
        references: The translations of people.
    """

    def __init__(self, references: Sequence[str]) -> None:
        """Keeps the references."""
        from sacrebleu.metrics import BLEU, CHRF

        self.references = list(references)
        self.metrics = {"bleu": BLEU(), "chrf": CHRF()}

    def __call__(self, texts: Sequence[str]) -> dict[str, float]:
        """The scores of translations, by name."""
        return {
            name: round(metric.corpus_score(list(texts), [self.references]).score, 2)
            for name, metric in self.metrics.items()
        }

    def signatures(self) -> dict[str, str]:
        """How sacrebleu has computed them."""
        return {name: str(metric.get_signature()) for name, metric in self.metrics.items()}


def compare(
    lm: fuseq.Seq2SeqLM,
    peer: TransformersPeer | None,
    sources: list[str],
    search: str,
    scores: Scores,
) -> dict[str, Any]:
    """Translates with both, and counts what is the same."""
    sampler, their_options = SEARCHES[search]
    row: dict[str, Any] = {"search": search, "dtype": lm.backbone.dtype}
    ours = translate(lm, sources, sampler)
    row["fuseq"] = scores([text for _, text in ours])
    if peer is None:
        return row
    theirs = peer.translate(sources, max_new_tokens=MAX_NEW_TOKENS, **their_options)
    row["transformers"] = scores([text for _, text in theirs])
    both = list(zip(ours, theirs, strict=True))
    row["same_ids"] = sum(one[0] == other[0] for one, other in both)
    row["same_texts"] = sum(one[1] == other[1] for one, other in both)
    return row


def translate(lm: fuseq.Seq2SeqLM, sources: list[str], sampler: object) -> Translations:
    """Translates on fuseq's engine."""
    generations = lm.generate(
        sources,
        sampler=sampler,
        max_new_tokens=MAX_NEW_TOKENS,
        strip_prompt=True,
        return_scores=True,
    )
    return [(generation.token_ids, generation.text) for generation in generations]


def head(*, with_transformers: bool) -> str:
    """The first two lines of the table."""
    systems = ["fuseq", "transformers"] if with_transformers else ["fuseq"]
    cells = ["search", "dtype"]
    cells += [f"{metric}, {system}" for metric in ("BLEU", "chrF") for system in systems]
    if with_transformers:
        cells += ["same ids", "same texts"]
    return f"| {' | '.join(cells)} |\n|{' --- |' * len(cells)}"


def line(row: dict[str, Any], *, with_transformers: bool) -> str:
    """A search in a dtype, as a line of the table; a dash where there is no peer."""
    systems = ["fuseq", "transformers"] if with_transformers else ["fuseq"]
    cells = [row["search"], row["dtype"]]
    cells += [
        f"{row[system][metric]:.2f}" if system in row else "–"
        for metric in ("bleu", "chrf")
        for system in systems
    ]
    if with_transformers:
        cells += [str(row.get(name, "–")) for name in ("same_ids", "same_texts")]
    return f"| {' | '.join(cells)} |"


def versions(*, with_transformers: bool) -> dict[str, str]:
    """Of the packages that the numbers come from."""
    others = ["sacrebleu", "tokenizers", *(["torch", "transformers"] if with_transformers else [])]
    return {"fuseq": fuseq.__version__, **{name: version(name) for name in others}}


def read_options() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, default=default_folder(), help=f"the folder of Multi30k, from {ORIGIN}"
    )
    parser.add_argument("--model", type=Path, help="default: what train.py has written")
    parser.add_argument("--output", type=Path, help="a JSON file for the numbers")
    parser.add_argument("--split", default="test_2016_flickr")
    parser.add_argument(
        "--small",
        action="store_true",
        help=f"the first {SMALL_PAIRS} sentences, on the model of train.py --small",
    )
    parser.add_argument("--threads", type=int, help="of both; default: as each likes")
    parser.add_argument(
        "--dtypes",
        nargs="+",
        choices=["float32", "bfloat16", "int8"],
        default=["float32", "bfloat16"],
        metavar="DTYPE",
    )
    options = parser.parse_args()
    if options.model is None:
        options.model = output_folder(small=options.small) / "model"
    return options


if __name__ == "__main__":
    main()
