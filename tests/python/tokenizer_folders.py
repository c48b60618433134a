# SPDX-License-Identifier: Apache-2.0
"""Small folders with a tokenizer, of transformers and of the tokenizers library."""

import json
from pathlib import Path
from typing import Any

BART_WORDS = {"<s>": 0, "<pad>": 1, "</s>": 2, "a": 3, "Ġfox": 4, "Ġ": 5, "f": 6, "o": 7, "x": 8}
GPT2_WORDS = {"!": 0, "a": 1, "Ġfox": 2, "<|endoftext|>": 3, "Ġ": 4}
MERGES = ["Ġ f", "o x", "Ġf ox"]
TEXT = "a fox</s>"


def write(folder: Path, **files: Any) -> Path:
    """Writes JSON, or text as it is; a name's double underscore stands for the dot."""
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name.replace("__", ".")).write_text(text, encoding="utf-8")
    return folder


def write_bart(folder: Path, **files: Any) -> Path:
    """A BART folder of transformers."""
    merges = "#version: 0.2\n" + "\n".join(MERGES) + "\n"
    base = {"vocab__json": BART_WORDS, "merges__txt": merges}
    return write(folder, **base, config__json={"model_type": "bart"}, **files)


def byte_level_definition(words: dict[str, int], **changes: Any) -> dict[str, Any]:
    """A `tokenizer.json` of the tokenizers library."""
    merges = [merge.split(" ") for merge in ("Ġ f", "o x")]
    return {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True},
        "model": {"type": "BPE", "vocab": {**words, "Ġf": 90, "ox": 91}, "merges": merges},
        **changes,
    }


def word_piece_definition() -> dict[str, Any]:
    """A `tokenizer.json` of another kind, with a template and a length that must not count."""
    from tokenizers import Tokenizer as Encoder
    from tokenizers import decoders, models, pre_tokenizers, processors

    words = {"[CLS]": 0, "[SEP]": 1, "[PAD]": 2, "[UNK]": 3, "fox": 4, "a": 5, "##es": 6}
    encoder = Encoder(models.WordPiece(words, unk_token="[UNK]"))
    encoder.pre_tokenizer = pre_tokenizers.Whitespace()
    encoder.decoder = decoders.WordPiece()
    encoder.add_special_tokens(["[CLS]", "[SEP]", "[PAD]", "[UNK]"])
    encoder.post_processor = processors.BertProcessing(("[SEP]", 1), ("[CLS]", 0))
    encoder.enable_truncation(2)
    encoder.enable_padding(length=2)
    definition: dict[str, Any] = json.loads(encoder.to_str())
    return definition
