# SPDX-License-Identifier: Apache-2.0
"""Trains a translator from English to German on Multi30k, from random weights.

Needs `pip install "fuseq[train,metrics]"`. Started again with the same options, it goes on where
it was killed.
"""

import argparse
from itertools import chain
from pathlib import Path
from typing import Any

from corpus import MAX_NEW_TOKENS, ORIGIN, default_folder, read_pairs
from fuseq import callbacks
from recipe import output_folder, require
from translation_model import make_model, make_tokenizer

FULL_SHAPE = {"num_layers": 4, "num_heads": 4, "hidden_dim": 256, "intermediate_dim": 1024}
SMALL_SHAPE = {"num_layers": 2, "num_heads": 2, "hidden_dim": 64, "intermediate_dim": 128}
FULL = {"epochs": 30, "batch_size": 128, "dropout": 0.3, "vocabulary_size": 10_000}
SMALL = {"epochs": 4, "batch_size": 16, "dropout": 0.1, "vocabulary_size": 1000}
SMALL_PAIRS, SMALL_VALIDATION_PAIRS = 400, 50


def main() -> None:
    """Trains, and writes the preset."""
    options = read_options()
    require("torch", "tokenizers", "sacrebleu")
    pairs = read_pairs(options.data, "train", SMALL_PAIRS if options.small else None)
    validation = read_pairs(options.data, "val", SMALL_VALIDATION_PAIRS if options.small else None)
    tokenizer = make_tokenizer(chain(*pairs.values()), options.vocabulary_size)
    shape = SMALL_SHAPE if options.small else FULL_SHAPE
    lm = make_model(tokenizer, **shape, dropout=options.dropout, seed=options.seed)
    print(f"{lm.backbone.count_params():,} parameters, {len(pairs['encoder_text']):,} pairs")

    updates = options.epochs * -(-len(pairs["encoder_text"]) // options.batch_size)
    lm.compile(
        optimizer=optimizer(options.learning_rate, updates),
        loss={
            "class_name": "SparseCategoricalCrossentropy",
            "config": {"label_smoothing": options.label_smoothing},
        },
        loss_reduction="tokens",
        weighted_metrics=["accuracy", "perplexity"],
        sampler="greedy",
    )
    options.output.mkdir(parents=True, exist_ok=True)
    lm.fit(
        pairs,
        validation_data=validation,
        batch_size=options.batch_size,
        epochs=options.epochs,
        seed=options.seed,
        clip_norm=1.0,
        checkpoint_dir=options.output / "checkpoints",
        callbacks=[
            callbacks.TextMetrics(validation, "bleu", max_new_tokens=MAX_NEW_TOKENS),
            callbacks.CSVLogger(options.output / "history.csv"),
        ],
    )
    lm.save_to_preset(options.output / "model", format="fuseq")
    sources = validation["encoder_text"][:3]
    texts = lm.generate(sources, max_new_tokens=MAX_NEW_TOKENS)
    for source, text in zip(sources, texts, strict=True):
        print(f"{source} -> {text}")


def optimizer(learning_rate: float, updates: int) -> dict[str, Any]:
    """AdamW; its rate rises for a tenth of all updates, then falls to 0 along a cosine."""
    warmup = updates // 10
    schedule = {
        "class_name": "CosineDecay",
        "config": {
            "initial_learning_rate": 0.0,
            "warmup_target": learning_rate,
            "warmup_steps": warmup,
            "decay_steps": updates - warmup,
        },
    }
    return {
        "class_name": "AdamW",
        "config": {
            "learning_rate": schedule,
            "beta_1": 0.9,
            "beta_2": 0.98,
            "weight_decay": 0.01,
        },
    }


def read_options() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, default=default_folder(), help=f"the folder of Multi30k, from {ORIGIN}"
    )
    parser.add_argument(
        "--output",
        type=Path,
        help=f"default: {output_folder(small=False)}, or {output_folder(small=True)} with --small",
    )
    parser.add_argument("--seed", type=int, default=1, help="of weights, order and dropout")
    parser.add_argument("--small", action="store_true", help="few pairs, a tiny model: a try-out")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="the highest")
    parser.add_argument("--label-smoothing", type=float, default=0.1)
    for name in FULL:
        parser.add_argument(
            "--" + name.replace("_", "-"),
            type=type(FULL[name]),
            help=f"default: {FULL[name]}, or {SMALL[name]} with --small",
        )
    options = parser.parse_args()
    if options.output is None:
        options.output = output_folder(small=options.small)
    for name, value in (SMALL if options.small else FULL).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


if __name__ == "__main__":
    main()
