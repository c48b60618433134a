# SPDX-License-Identifier: Apache-2.0
"""Prints the recorded cases that the apps can run, as "FOLDER MAX_LENGTH BEAMS ID...|IDS"."""

import json
import sys
from pathlib import Path


def main(golden: Path) -> None:
    """Takes the cases that ask for nothing but a length and beams."""
    for expected in sorted(golden.glob("*/expected.json")):
        for case in json.loads(expected.read_text())["cases"]:
            options = dict(case["options"])
            max_length, beams = options.pop("max_length"), options.pop("num_beams", 1)
            options.pop("num_return_sequences", None)  # the apps print the best one
            if options:
                continue
            prompt = " ".join(map(str, case["prompt"]))
            ids = " ".join(map(str, case["hypotheses"][0]["ids"]))
            print(f"{expected.parent} {max_length} {beams} {prompt}|{ids}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
