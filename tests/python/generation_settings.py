# SPDX-License-Identifier: Apache-2.0
"""Generation settings of transformers, and what becomes of them in GenerationOptions."""

from typing import Any

Fields = dict[str, Any]
DEFAULT_LENGTH = {"max_new_tokens": 20}

# Settings, and what they become for a causal model besides the length.
MAPPED: list[tuple[Fields, Fields]] = [
    ({}, {}),
    ({"do_sample": None, "num_beams": None, "top_k": None}, {}),
    ({"eos_token_id": None}, {"use_default_stop_ids": False}),
    ({"do_sample": True}, {"do_sample": True, "top_k": 50}),
    ({"do_sample": True, "top_k": 0, "min_p": 0.0}, {"do_sample": True}),
    (
        {"do_sample": True, "temperature": 2.0, "top_k": 7, "top_p": 0.5, "min_p": 0.25},
        {"do_sample": True, "temperature": 2.0, "top_k": 7, "top_p": 0.5, "min_p": 0.25},
    ),
    ({"do_sample": False, "temperature": 0.0, "top_k": -3, "top_p": 7, "min_p": "x"}, {}),
    (
        {"do_sample": True, "top_k": 0, "num_return_sequences": 3},
        {"do_sample": True, "num_return_sequences": 3},
    ),
    ({"num_beams": 4, "num_return_sequences": 4}, {"num_beams": 4, "num_return_sequences": 4}),
    ({"num_beams": 2, "temperature": 0.5}, {"num_beams": 2}),
    (
        {"num_beams": 2, "length_penalty": -1, "early_stopping": True},
        {"num_beams": 2, "length_penalty": -1.0, "early_stopping": True},
    ),
    ({"num_beams": 2, "early_stopping": "never"}, {"num_beams": 2, "early_stopping": "never"}),
    ({"repetition_penalty": 1.5}, {"repetition_penalty": 1.5}),
    ({"no_repeat_ngram_size": 3}, {"no_repeat_ngram_size": 3}),
    ({"forced_bos_token_id": 0}, {"forced_bos_token_id": 0}),
    ({"forced_eos_token_id": [2]}, {"forced_eos_token_id": 2}),
    ({"eos_token_id": 5}, {"use_default_stop_ids": False, "stop_token_ids": [5]}),
    ({"eos_token_id": [5, 6]}, {"use_default_stop_ids": False, "stop_token_ids": [5, 6]}),
    ({"suppress_tokens": [9, 8, 9]}, {"suppress_token_ids": [9, 8]}),
    ({"suppress_tokens": []}, {}),
    ({"bad_words_ids": [[7], [8]], "suppress_tokens": [8]}, {"suppress_token_ids": [8, 7]}),
    (
        {"bad_words_ids": [[7], [5]], "eos_token_id": [5]},
        {"suppress_token_ids": [7], "use_default_stop_ids": False, "stop_token_ids": [5]},
    ),
    ({"sequence_bias": [[[7], -1.5], [[8], 2.0]]}, {"logit_bias": {7: -1.5, 8: 2.0}}),
    ({"bos_token_id": 3, "decoder_start_token_id": 4}, {}),
    ({"force_bos_token_to_be_generated": True, "bos_token_id": 3}, {}),
    (
        {"force_bos_token_to_be_generated": True, "bos_token_id": 3, "_from_model_config": True},
        {"forced_bos_token_id": 3},
    ),
    ({"penalty_alpha": 0.6, "top_k": 1}, {}),
    ({"penalty_alpha": 0.6, "num_beams": 2}, {"num_beams": 2}),
    ({"penalty_alpha": 0.6, "do_sample": True, "top_k": 4}, {"do_sample": True, "top_k": 4}),
]  # fmt: skip

# Settings, and the lengths they become.
LENGTHS: list[tuple[Fields, Fields]] = [
    ({"max_length": 20}, {"max_length": 20}),
    ({"max_new_tokens": 9}, {"max_new_tokens": 9}),
    ({"max_new_tokens": 9, "max_length": 30}, {"max_new_tokens": 9}),
    ({"min_length": 8}, {"max_new_tokens": 20, "min_length": 8}),
    ({"min_length": 12, "max_length": 12}, {"max_length": 12, "min_length": 12}),
    ({"min_length": 15, "max_length": 12}, {"max_length": 12, "min_length": 12}),
    ({"min_length": 15, "max_new_tokens": 9}, {"max_new_tokens": 9, "min_length": 15}),
    ({"min_new_tokens": 6}, {"max_new_tokens": 20, "min_new_tokens": 6}),
    ({"min_new_tokens": 30}, {"max_new_tokens": 20, "min_new_tokens": 20}),
    ({"min_new_tokens": 6, "max_length": 12}, {"max_length": 12, "min_new_tokens": 6}),
    ({"min_new_tokens": 6, "min_length": 11}, {"max_new_tokens": 20, "min_new_tokens": 6}),
    ({"min_new_tokens": 0, "min_length": 11}, {"max_new_tokens": 20}),
]

BART_LARGE_CNN: Fields = {
    "num_beams": 4, "length_penalty": 2.0, "min_length": 56, "max_length": 142,
    "no_repeat_ngram_size": 3, "early_stopping": True, "forced_bos_token_id": 0,
    "forced_eos_token_id": 2, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2,
}  # fmt: skip
BART_LARGE_CNN_OPTIONS: Fields = {
    "num_beams": 4, "length_penalty": 2.0, "early_stopping": True, "no_repeat_ngram_size": 3,
    "forced_bos_token_id": 0, "max_length": 142, "min_length": 56, "use_default_stop_ids": False,
    "stop_token_ids": [2], "decoder_start_token_id": 2, "forced_eos_token_id": 2,
}  # fmt: skip

SAMPLING: Fields = {"do_sample": True}
BEAMS: Fields = {"num_beams": 4}
# A field that fuseq does not have, a value, and what else must hold for it to matter.
REFUSED: list[tuple[str, Any, Fields]] = [
    ("max_time", 2.5, {}),
    ("guidance_scale", 1.5, {}),
    ("encoder_repetition_penalty", 1.2, {}),
    ("encoder_no_repeat_ngram_size", 3, {}),
    ("exponential_decay_length_penalty", [3, 1.1], {}),
    ("begin_suppress_tokens", [4], {}),
    ("remove_invalid_values", True, {}),
    ("watermarking_config", {"bias": 2.5}, {}),
    ("token_healing", True, {}),
    ("is_assistant", True, {}),
    ("constraints", [], {}),
    ("force_words_ids", [[5]], {}),
    ("top_h", 0.3, SAMPLING),
    ("typical_p", 0.9, SAMPLING),
    ("epsilon_cutoff", 0.1, SAMPLING),
    ("eta_cutoff", 0.1, SAMPLING),
    ("do_sample", True, BEAMS),
    ("num_beam_groups", 2, BEAMS),
    ("renormalize_logits", True, BEAMS),
    ("low_memory", True, BEAMS),
    ("prompt_lookup_num_tokens", 3, {}),
    ("assistant_early_exit", 1, SAMPLING),
    ("use_mtp", True, {}),
    ("dola_layers", "low", {}),
    ("penalty_alpha", 0.6, {}),
]
NEUTRAL: Fields = {
    "guidance_scale": 1.0, "encoder_repetition_penalty": 1.0, "encoder_no_repeat_ngram_size": 0,
    "begin_suppress_tokens": [], "remove_invalid_values": False, "token_healing": False,
    "is_assistant": False, "typical_p": 1.0, "epsilon_cutoff": 0.0, "eta_cutoff": 0.0,
    "num_beam_groups": 1, "renormalize_logits": False, "low_memory": False, "use_mtp": False,
    "penalty_alpha": 0.0, "max_time": None, "constraints": None, "top_h": None,
}  # fmt: skip
IGNORED: Fields = {
    "assistant_confidence_threshold": 0.9, "assistant_ensemble_weight": 0.5,
    "assistant_lookbehind": 3, "cache_config": {"nbits": 4}, "cache_implementation": "dynamic",
    "compile_config": None, "continuous_batching_config": None, "disable_compile": True,
    "diversity_penalty": 0.7, "max_cache_len": 9, "max_matching_ngram_size": 3,
    "num_assistant_tokens": 3, "num_assistant_tokens_schedule": "heuristic",
    "output_attentions": True, "output_hidden_states": True, "output_logits": True,
    "output_scores": True, "pad_token_id": 4, "prefill_chunk_size": 2,
    "return_dict_in_generate": True, "speculation_type": "dflash", "target_lookbehind": 3,
    "transformers_version": "4.0.0", "use_cache": False,
}  # fmt: skip
UNKNOWN: Fields = {"task_specific_params": {"summarization": {"num_beams": 9}}, "nonsense": [1]}

INT = "a whole number >= 0, got"
WRONG: list[tuple[Fields, str]] = [
    ({"num_beams": 0}, "num_beams must be a whole number >= 1, got 0"),
    ({"num_beams": True}, "num_beams must be a whole number >= 1, got True"),
    ({"num_return_sequences": 1.0}, "num_return_sequences must be a whole number >= 1, got 1.0"),
    ({"max_length": 2**31}, "max_length must be a whole number >= 1, got 2147483648"),
    ({"max_new_tokens": 0}, "max_new_tokens must be a whole number >= 1, got 0"),
    ({"min_length": -1}, f"min_length must be {INT} -1"),
    ({"min_new_tokens": "3"}, f"min_new_tokens must be {INT} '3'"),
    ({"no_repeat_ngram_size": -1}, f"no_repeat_ngram_size must be {INT} -1"),
    ({"forced_bos_token_id": [0]}, rf"forced_bos_token_id must be {INT} \[0\]"),
    ({"forced_eos_token_id": "2"}, "forced_eos_token_id must be an id or a list of ids, got '2'"),
    ({"eos_token_id": [2, -1]}, r"eos_token_id must be an id or a list of ids, got \[2, -1\]"),
    ({"decoder_start_token_id": [2]}, rf"decoder_start_token_id must be {INT} \[2\]"),
    ({"bos_token_id": -2}, f"bos_token_id must be {INT} -2"),
    ({"repetition_penalty": 0}, "repetition_penalty must be a finite number > 0, got 0"),
    ({"length_penalty": float("nan")}, "length_penalty must be a finite number, got nan"),
    ({"length_penalty": 10**400}, "length_penalty must be a finite number, got 1000"),
    ({"early_stopping": "always"}, "early_stopping must be true, false or \"never\", got 'always'"),
    ({"do_sample": "yes"}, "do_sample must be true or false, got 'yes'"),
    ({"do_sample": True, "temperature": 0.0}, "temperature must be a finite number > 0, got 0.0"),
    ({"do_sample": True, "top_k": -1}, f"top_k must be {INT} -1"),
    ({"do_sample": True, "top_p": 1.5}, "top_p must be a number above 0 and up to 1, got 1.5"),
    ({"do_sample": True, "min_p": -0.1}, "min_p must be a number from 0 to 1, got -0.1"),
    ({"suppress_tokens": 5}, "suppress_tokens must be a list of ids, got 5"),
    ({"bad_words_ids": []}, r"bad_words_ids must be a list, not empty, of lists of ids, got \[\]"),
    ({"bad_words_ids": [[]]}, r"bad_words_ids must be a list, not empty, of lists .*\[\[\]\]"),
    ({"sequence_bias": {"(5,)": 1.0}}, r"sequence_bias must be a list, .* got \{'\(5,\)': 1.0\}"),
    ({"sequence_bias": [[5, 1.0]]}, r"sequence_bias must be a list, .*, got \[\[5, 1.0\]\]"),
    ({"stop_strings": [""]}, r"stop_strings must be a string or a list .* got \[''\]"),
    ({"num_return_sequences": 2}, "num_return_sequences must be up to num_beams 1, got 2"),
    (
        {"num_beams": 2, "num_return_sequences": 3},
        "num_return_sequences must be up to num_beams 2, got 3",
    ),
    (
        {"forced_eos_token_id": 2, "suppress_tokens": [1, 2]},
        r"forced_eos_token_id must be an id that suppress_tokens has not, got \[2\]",
    ),
]
