# SPDX-License-Identifier: Apache-2.0
"""`GenerationOptions` as transformers' `generation_config.json`: generation_config's way back."""

import json
from typing import Any

from fuseq._core import GenerationOptions

_SAME = (
    "max_length",
    "max_new_tokens",
    "min_length",
    "min_new_tokens",
    "do_sample",
    "temperature",
    "top_p",
    "min_p",
    "num_beams",
    "num_return_sequences",
    "length_penalty",
    "early_stopping",
    "repetition_penalty",
    "no_repeat_ngram_size",
    "decoder_start_token_id",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "stop_strings",
)
_OWN = {"top_k", "use_default_stop_ids", "stop_token_ids", "suppress_token_ids", "logit_bias"}


def config_from_options(options: GenerationOptions, end_ids: list[int]) -> dict[str, Any]:
    """Writes settings as transformers stores them.

    Args:
        options: The settings.
        end_ids: Those of the model, which end rows beside the settings' own.

    Returns:
        The fields that differ from transformers' defaults.

    Raises:
        ValueError: A setting is one that transformers does not have, or a stop string is not UTF-8.

    Example:
        >>> config_from_options(GenerationOptions(num_beams=4, max_length=142), [2])
        {'max_length': 142, 'num_beams': 4, 'eos_token_id': 2}
    """
    fields: dict[str, Any] = json.loads(options.to_json())
    lost = sorted(fields.keys() - {*_SAME, *_OWN})
    if lost:
        raise ValueError(
            "save_to_preset: generation_config.json must have a field for every setting, got "
            f'{", ".join(lost)}. Use format="fuseq"'
        )
    config = {name: fields[name] for name in _SAME if name in fields}
    if options.do_sample:
        config["top_k"] = options.top_k  # 0: all; transformers' default is 50
    ends = [*(end_ids if options.use_default_stop_ids else []), *options.stop_token_ids]
    ends = list(dict.fromkeys(ends))
    if ends:
        config["eos_token_id"] = ends[0] if len(ends) == 1 else ends
    if options.suppress_token_ids:
        config["suppress_tokens"] = options.suppress_token_ids
    if options.logit_bias:
        config["sequence_bias"] = [[[id], bias] for id, bias in options.logit_bias.items()]
    return config
