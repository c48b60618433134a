# SPDX-License-Identifier: Apache-2.0
"""Text to ids and back: KerasHub's tokenizers, over the tokenizers and sentencepiece libraries.

A tokenizer keeps its files as KerasHub does, so each can open the other's; `load` also takes those
of transformers. Letters in shapes: B batch.
"""

from fuseq.tokenizers.bart import BartTokenizer
from fuseq.tokenizers.byte_pair import BytePairTokenizer
from fuseq.tokenizers.folder import load
from fuseq.tokenizers.gpt2 import GPT2Tokenizer
from fuseq.tokenizers.pretrained import PretrainedTokenizer
from fuseq.tokenizers.sentence_piece import SentencePieceTokenizer
from fuseq.tokenizers.serialization import deserialize, serialize
from fuseq.tokenizers.tokenizer import Tokenizer

__all__ = [
    "BartTokenizer",
    "BytePairTokenizer",
    "GPT2Tokenizer",
    "PretrainedTokenizer",
    "SentencePieceTokenizer",
    "Tokenizer",
    "deserialize",
    "load",
    "serialize",
]
