# SPDX-License-Identifier: Apache-2.0
"""BART's tokenizer."""

from fuseq.tokenizers.byte_pair import BytePairTokenizer


class BartTokenizer(BytePairTokenizer):
    """Byte-pair encoding with BART's special tokens, which are found in text as well.

    The arguments are those of `BytePairTokenizer`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: An argument or a file is wrong, or the vocabulary lacks a special token.

    Example:
        >>> vocabulary = {"<s>": 0, "<pad>": 1, "</s>": 2, "a": 3, "Ġfox": 4}
        >>> tokenizer = BartTokenizer(vocabulary, ["Ġ f", "o x", "Ġf ox"])
        >>> tokenizer("<s>a fox</s>").tolist()
        [0, 3, 4, 2]
        >>> tokenizer.special_token_ids
        [0, 2, 1]
    """

    start_token = "<s>"
    end_token = "</s>"
    pad_token = "<pad>"
