# SPDX-License-Identifier: Apache-2.0
"""Trains `g2p_en`, the preset that comes with fuseq: from English spelling to phonemes.

Needs `pip install "fuseq[train]"`. Started again with the same options, it goes on where it was
killed.
"""

import argparse
from pathlib import Path

import fuseq
from dictionary import Pronunciations, add_data_option, read_parts, without_stress
from fuseq import callbacks
from spelling_model import make_model

SIZES = {
    "full": {"num_layers": 3, "hidden_dim": 160, "intermediate_dim": 512, "num_heads": 5},
    "small": {"num_layers": 1, "hidden_dim": 64, "intermediate_dim": 128, "num_heads": 2},
}


def pairs_of(words: Pronunciations, *, capitals: bool = False) -> dict[str, list[str]]:
    """Every word with each of its pronunciations, as `fit` takes them.

    Args:
        words: A dictionary.
        capitals: Whether some words come again as "Hello" and "HELLO": the dictionary has small
            letters alone, its users do not.

    Returns:
        The spellings, and the pronunciations wanted for them.
    """
    pairs = [(word, text) for word, texts in words.items() for text in texts]
    if capitals:  # every 30th "Hello", every 60th "HELLO"
        capitalized = [(word.capitalize(), text) for word, text in pairs[::30]]
        pairs += [*capitalized, *((word.upper(), text) for word, text in pairs[10::60])]
    spellings, pronunciations = zip(*pairs, strict=True)
    return {"encoder_text": list(spellings), "decoder_text": list(pronunciations)}


def main() -> None:
    """Trains, and writes the preset in float32 and in bfloat16."""
    options = read_options()
    words, dev_words = read_parts(options.data)
    if options.small:
        words = dict(list(words.items())[::20])
        dev_words = dict(list(dev_words.items())[::50])
    pairs, dev_pairs = pairs_of(words, capitals=True), pairs_of(dev_words)

    phonemes = {name for text in pairs["decoder_text"] for name in without_stress(text).split()}
    size = SIZES["small" if options.small else "full"]
    lm = make_model(phonemes, **size, seed=options.seed)
    updates = options.epochs * -(-len(pairs["encoder_text"]) // options.batch_size)
    learning_rate = {
        "class_name": "CosineDecay",
        "config": {
            "initial_learning_rate": 0.0,
            "warmup_target": options.learning_rate,
            "warmup_steps": updates // 20,
            "decay_steps": updates - updates // 20,
        },
    }
    lm.compile(
        optimizer={
            "class_name": "AdamW",
            "config": {"learning_rate": learning_rate, "weight_decay": 0.01, "beta_2": 0.98},
        },
        loss={
            "class_name": "SparseCategoricalCrossentropy",
            "config": {"label_smoothing": options.label_smoothing},
        },
        loss_reduction="tokens",
        weighted_metrics=["accuracy", "sparse_categorical_crossentropy"],
        sampler="greedy",
    )
    print(f"{lm.backbone.count_params():,} parameters, {len(pairs['encoder_text']):,} pairs")

    options.output.mkdir(parents=True, exist_ok=True)
    lm.fit(
        pairs,
        validation_data=dev_pairs,
        batch_size=options.batch_size,
        epochs=options.epochs,
        seed=options.seed,
        clip_norm=1.0,
        checkpoint_dir=options.output / "checkpoints",
        callbacks=[callbacks.CSVLogger(options.output / "history.csv")],
    )

    save(lm, options.output / "float32")
    rounded = fuseq.Seq2SeqLM.from_preset(options.output / "float32", dtype="bfloat16")
    save(rounded, options.output / "g2p_en")
    new_words = ["blockchain", "selfie", "tokenizer"]
    for word, text in zip(new_words, rounded.generate(new_words, sampler="preset"), strict=True):
        print(f"{word}: {text}")


def save(lm: fuseq.Seq2SeqLM, folder: Path) -> None:
    """Writes a preset, with settings for those who say nothing: four beams."""
    length = lm.backbone.max_sequence_length
    settings = fuseq.GenerationOptions(num_beams=4, max_length=length)
    lm.save_to_preset(folder, format="fuseq", generation_options=settings)


def read_options() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data_option(parser)
    parser.add_argument("--output", type=Path, default=Path("g2p_run"))
    parser.add_argument("--epochs", type=int, help="default: 14, or 3 with --small")
    parser.add_argument("--batch-size", type=int, help="default: 128, or 32 with --small")
    parser.add_argument("--learning-rate", type=float, default=1.5e-3, help="the highest")
    parser.add_argument("--label-smoothing", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=1, help="of weights, order and dropout")
    parser.add_argument(
        "--small", action="store_true", help="a twentieth of the words, a tiny model: a try-out"
    )
    options = parser.parse_args()
    if options.epochs is None:
        options.epochs = 3 if options.small else 14
    if options.batch_size is None:
        options.batch_size = 32 if options.small else 128
    return options


if __name__ == "__main__":
    main()
