# SPDX-License-Identifier: Apache-2.0
"""GPT-2's tokenizer."""

from fuseq.tokenizers.byte_pair import BytePairTokenizer


class GPT2Tokenizer(BytePairTokenizer):
    """Byte-pair encoding with GPT-2's special token, which both starts and ends a text.

    GPT-2 has no token for padding; rows are filled with id 0, as in KerasHub. The arguments are
    those of `BytePairTokenizer`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: An argument or a file is wrong, or the vocabulary lacks the special token.

    Example:
        >>> vocabulary = {"!": 0, "a": 1, "Ġfox": 2, "<|endoftext|>": 3}
        >>> tokenizer = GPT2Tokenizer(vocabulary, ["Ġ f", "o x", "Ġf ox"])
        >>> tokenizer("a fox!<|endoftext|>").tolist()
        [1, 2, 0, 3]
        >>> tokenizer.pad_token_id
        0
    """

    start_token = "<|endoftext|>"
    end_token = "<|endoftext|>"

    @property
    def pad_token_id(self) -> int:
        """Always 0."""
        return 0
