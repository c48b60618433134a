# SPDX-License-Identifier: Apache-2.0
"""Counts how often `g2p_en` is wrong on words that it was not trained on."""

import argparse
import json
from pathlib import Path
from typing import Any

import fuseq
from dictionary import Pronunciations, add_data_option, error_rates, read_parts

RATES = (
    "word_error_rate",
    "word_error_rate_without_stress",
    "phoneme_error_rate",
    "phoneme_error_rate_without_stress",
)
CASES = {"lower": str, "capitalized": str.capitalize, "upper": str.upper}


def measure(
    preset: str, dtype: str | None, num_beams: int, words: Pronunciations, case: str = "lower"
) -> dict[str, Any]:
    """Generates a pronunciation of each word, and compares.

    Args:
        preset: A name or a folder.
        dtype: "float32", "bfloat16" or "int8": of weights and of what is computed; None: as stored.
        num_beams: 1: the likeliest token at each step.
        words: The pronunciations that count as right.
        case: How the words are written, of `CASES`; the dictionary has them lower.

    Returns:
        The arguments, with the preset's name and the number of words, and the error rates in per
        cent.
    """
    lm = fuseq.Seq2SeqLM.from_preset(preset, dtype=dtype)
    lm.compile(sampler=fuseq.samplers.BeamSampler(num_beams=num_beams))
    found = lm.generate([CASES[case](word) for word in words])
    return {
        "preset": Path(preset).name,
        "dtype": lm.backbone.dtype,
        "num_beams": num_beams,
        "case": case,
        "words": len(words),
        **{name: round(rate, 2) for name, rate in error_rates(found, words.values()).items()},
    }


def main() -> None:
    """Prints a row for each preset and number of beams."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_data_option(parser)
    parser.add_argument("--presets", nargs="+", default=["g2p_en"], metavar="PRESET")
    dtypes = ["float32", "bfloat16", "int8"]
    parser.add_argument("--dtype", choices=dtypes, help="default: as stored")
    parser.add_argument("--beams", nargs="+", type=int, default=[4], metavar="N")
    parser.add_argument("--case", choices=CASES, default="lower", help="how words are written")
    parser.add_argument("--output", type=Path, help="a JSON file for the rows")
    options = parser.parse_args()

    _, words = read_parts(options.data)
    print("| preset | dtype | beams | wrong words | no stress | wrong phonemes | no stress |")
    print("|---|---|---|---|---|---|---|")
    rows = []
    for preset in options.presets:
        for num_beams in options.beams:
            row = measure(preset, options.dtype, num_beams, words, options.case)
            rows.append(row)
            rates = " | ".join(f"{row[name]:.2f}" for name in RATES)
            print(f"| {row['preset']} | {row['dtype']} | {num_beams} | {rates} |", flush=True)
    if options.output is not None:
        options.output.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
