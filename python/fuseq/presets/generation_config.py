# SPDX-License-Identifier: Apache-2.0
"""The generation settings of a transformers folder, as fields of `GenerationOptions`.

The meaning is that of `model.generate(input)` of transformers 5.23 on the same folder. Every field
that its `GenerationConfig` has is in one of the tables below: copied, mapped, refused or ignored.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

from fuseq.presets.checkpoint import read_json

GENERATION_FILE = "generation_config.json"
_CONFIG_FILE = "config.json"

_DEFAULT_NEW_TOKENS = 20  # transformers: "by default let's always generate 20 new tokens"
_DEFAULT_TOP_K = 50
_MAX_INT = 2**31 - 1
_MAX_NUMBER = 3e38


@dataclass(frozen=True)
class _Kind:
    """What a value must be: in words for the message, as a check, and the form to hand on."""

    words: str
    accepts: Callable[[Any], bool]
    convert: Callable[[Any], Any] = lambda value: value


def _is_whole(value: object, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= _MAX_INT


def _is_number(value: object) -> bool:
    """A finite number that a float32 holds."""
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return plain and abs(value) <= _MAX_NUMBER  # type: ignore[arg-type]


def _is_list(value: object, accepts: Callable[[Any], bool], least: int = 0) -> bool:
    return isinstance(value, list) and len(value) >= least and all(map(accepts, value))


def _is_ids(value: object, least: int = 0) -> bool:
    return _is_list(value, _is_whole, least)


def _is_bias(value: object) -> bool:
    pair = isinstance(value, list) and len(value) == 2
    return pair and _is_ids(value[0], 1) and _is_number(value[1])  # type: ignore[index]


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _as_list(value: Any) -> list[Any]:  # noqa: ANN401
    return list(value) if isinstance(value, list) else [value]


_WHOLE = _Kind("a whole number >= 0", _is_whole)
_COUNT = _Kind("a whole number >= 1", lambda v: _is_whole(v, 1))
_NUMBER = _Kind("a finite number", _is_number, float)
_POSITIVE = _Kind("a finite number > 0", lambda v: _is_number(v) and v > 0, float)
_SHARE = _Kind("a number above 0 and up to 1", lambda v: _is_number(v) and 0 < v <= 1, float)
_PORTION = _Kind("a number from 0 to 1", lambda v: _is_number(v) and 0 <= v <= 1, float)
_FLAG = _Kind("true or false", lambda v: isinstance(v, bool))
_EARLY = _Kind('true, false or "never"', lambda v: isinstance(v, bool) or v == "never")
_ID_LIST = _Kind("a list of ids", _is_ids)
_IDS = _Kind("an id or a list of ids", lambda v: _is_whole(v) or _is_ids(v), _as_list)
_WORDS = _Kind(
    "a list, not empty, of lists of ids", lambda v: _is_list(v, lambda word: _is_ids(word, 1), 1)
)
_BIASES = _Kind("a list, not empty, of [[id, ...], bias]", lambda v: _is_list(v, _is_bias, 1))
_TEXTS = _Kind(
    "a string or a list of strings, none of them empty",
    lambda v: _is_text(v) or _is_list(v, _is_text),
    _as_list,
)


@dataclass(frozen=True)
class _Field:
    """A field with the same name and meaning on both sides.

    Attributes:
        name: Its name.
        kind: What it must be.
        default: The default of `GenerationOptions`.
        unset: transformers' value for a silent file, where that is another one.
    """

    name: str
    kind: _Kind
    default: Any
    unset: Any = None


_COPIED = (
    _Field("do_sample", _FLAG, False),
    _Field("num_beams", _COUNT, 1),
    _Field("num_return_sequences", _COUNT, 1),
    _Field("length_penalty", _NUMBER, 1.0),
    _Field("early_stopping", _EARLY, False),
    _Field("repetition_penalty", _POSITIVE, 1.0),
    _Field("no_repeat_ngram_size", _WHOLE, 0),
    _Field("forced_bos_token_id", _WHOLE, -1),
)
_COPIED_FOR_SAMPLING = (  # without do_sample transformers does not look at them
    _Field("temperature", _POSITIVE, 1.0),
    _Field("top_k", _WHOLE, 0, unset=_DEFAULT_TOP_K),
    _Field("top_p", _SHARE, 1.0),
    _Field("min_p", _PORTION, 0.0),
)
_MAPPED = (  # each has a few lines of its own below
    "max_length",
    "max_new_tokens",
    "min_length",
    "min_new_tokens",
    "eos_token_id",
    "bos_token_id",
    "decoder_start_token_id",
    "forced_eos_token_id",
    "suppress_tokens",
    "bad_words_ids",
    "sequence_bias",
    "stop_strings",
    "_from_model_config",
)

# What fuseq does not have: where it matters, and the values (beside null) that change nothing.
_REFUSED: dict[str, dict[str, tuple[Any, ...]]] = {
    "always": {
        "max_time": (),
        "guidance_scale": (1,),
        "encoder_repetition_penalty": (1,),
        "encoder_no_repeat_ngram_size": (0,),
        "exponential_decay_length_penalty": (),
        "begin_suppress_tokens": ([],),
        "remove_invalid_values": (False,),
        "watermarking_config": (),
        "token_healing": (False,),
        "is_assistant": (False,),
        "constraints": (),
        "force_words_ids": (),
    },
    "sampling": {
        "top_h": (),
        "typical_p": (1,),
        "epsilon_cutoff": (0,),
        "eta_cutoff": (0,),
    },
    "beams": {
        "do_sample": (False,),
        "num_beam_groups": (0, 1),
        "renormalize_logits": (False,),  # alone it moves no best id and no distribution
        "low_memory": (False,),
    },
    "no beams": {
        "prompt_lookup_num_tokens": (),
        "assistant_early_exit": (),
        "use_mtp": (False,),
        "dola_layers": (),
    },
    "contrastive": {
        "penalty_alpha": (0,),
    },
}
_NOTES = {
    "penalty_alpha": " (transformers 5 leaves contrastive search to remote code; choose the "
    "contrastive sampler)",
}
# Arguments of generate(): transformers loads no settings that have them.
_ARGUMENTS = (
    "logits_processor",
    "stopping_criteria",
    "prefix_allowed_tokens_fn",
    "synced_gpus",
    "assistant_model",
    "streamer",
    "negative_prompt_ids",
    "negative_prompt_attention_mask",
)
# What changes no id: speed, memory, what else is returned, and the settings of what is off.
_IGNORED = (
    "assistant_confidence_threshold",
    "assistant_ensemble_weight",
    "assistant_lookbehind",
    "cache_config",
    "cache_implementation",
    "compile_config",
    "continuous_batching_config",
    "disable_compile",
    "diversity_penalty",
    "max_cache_len",
    "max_matching_ngram_size",
    "num_assistant_tokens",
    "num_assistant_tokens_schedule",
    "output_attentions",
    "output_hidden_states",
    "output_logits",
    "output_scores",
    "pad_token_id",
    "prefill_chunk_size",
    "return_dict_in_generate",
    "speculation_type",
    "target_lookbehind",
    "transformers_version",
    "use_cache",
)


def field_groups() -> dict[str, frozenset[str]]:
    """Every known field of transformers' `GenerationConfig` by what becomes of it.

    Returns:
        The names under "mapped", "refused" and "ignored"; `do_sample` is in the first two, since
        fuseq does not draw with beams.
    """
    copied = (field.name for field in (*_COPIED, *_COPIED_FOR_SAMPLING))
    return {
        "mapped": frozenset((*copied, *_MAPPED)),
        "refused": frozenset(name for names in _REFUSED.values() for name in names),
        "ignored": frozenset(_IGNORED),
    }


def read_generation_config(
    folder: str | PathLike[str], *, is_seq2seq: bool | None = None
) -> dict[str, Any] | None:
    """Reads the generation settings of a transformers folder.

    Args:
        folder: Holds `generation_config.json`, or else `config.json`, whose generation fields then
            count, as they do in transformers.
        is_seq2seq: Whether the model has an encoder; by default what `config.json` says.

    Returns:
        The fields of `GenerationOptions` that differ from its defaults, or None where the folder
        has neither file. Of the length only what the files say: a row of `max_new_tokens` 20 that
        no file asked for ends at the position table in transformers.

    Raises:
        ValueError: A file is not JSON, a field is not what it should be, or fields ask for what
            fuseq does not have (all in one message).
    """
    path = Path(folder)
    has_settings, has_config = ((path / f).is_file() for f in (GENERATION_FILE, _CONFIG_FILE))
    if not has_settings and not has_config:
        return None
    model_config = read_json(path / _CONFIG_FILE) if has_config else {}
    if is_seq2seq is None:
        is_seq2seq = bool(model_config.get("is_encoder_decoder"))
    if has_settings:
        settings, source = read_json(path / GENERATION_FILE), GENERATION_FILE
    else:  # as transformers' GenerationConfig.from_model_config
        settings, source = {**model_config, "_from_model_config": True}, _CONFIG_FILE
    return options_from_config(
        settings, is_seq2seq=is_seq2seq, model_config=model_config, source=source
    )


def options_from_config(
    config: Mapping[str, Any],
    *,
    is_seq2seq: bool,
    model_config: Mapping[str, Any] | None = None,
    source: str = GENERATION_FILE,
) -> dict[str, Any]:
    """Translates generation settings.

    Args:
        config: The settings as transformers stores them; fields that it does not know are passed
            over, as it does itself.
        is_seq2seq: Whether the model has an encoder, so that the start id counts.
        model_config: The `config.json` beside them. If that names an end id and the settings do
            not, nothing ends a row, as in transformers; if neither does, the model's own ids do.
        source: The file to name in messages.

    Returns:
        The fields of `GenerationOptions` that differ from its defaults.

    Raises:
        ValueError: A field is not what it should be, or fields ask for what fuseq does not have
            (all in one message).

    Example:
        >>> options_from_config({"num_beams": 4, "max_length": 142}, is_seq2seq=False)
        {'num_beams': 4, 'max_length': 142}
    """
    settings = _Settings(_with_forced_start(config), source)
    copied = _copied(settings, _COPIED)
    if copied.get("do_sample"):
        copied |= _copied(settings, _COPIED_FOR_SAMPLING)
    _refuse(settings, _modes(settings, copied))
    options = {
        **copied,
        **_lengths(settings),
        **_stop_ids(settings, model_config or {}),
        **(_start_id(settings) if is_seq2seq else {}),
        **_forced_end(settings),
        **_suppressed(settings),
        **_biases(settings),
    }
    if texts := settings.get("stop_strings", _TEXTS):
        options["stop_strings"] = texts
    _check_results(settings, options)
    return options


class _Settings:
    """Typed look-up; null is as good as absent, and every error names file and field."""

    def __init__(self, config: Mapping[str, Any], source: str) -> None:
        self.config = config
        self.source = source

    def get(self, name: str, kind: _Kind, unset: Any = None) -> Any:  # noqa: ANN401
        """The value under a name, or `unset`."""
        value = self.config.get(name)
        if value is None:
            return unset
        if not kind.accepts(value):
            raise self.error(name, kind.words, shortened(value))
        return kind.convert(value)

    def ids(self, name: str, kind: _Kind = _IDS) -> list[int]:
        """The ids under a name, or none."""
        found: list[int] = self.get(name, kind, [])
        return found

    def error(self, name: str, wanted: str, got: str) -> ValueError:
        """The error for a field that is not what it should be."""
        return ValueError(f"{self.source}: {name} must be {wanted}, got {got}")


def _with_forced_start(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings with BART's old way of asking for a first token spelt as the new one."""
    old = config.get("_from_model_config") and config.get("force_bos_token_to_be_generated")
    return {**config, "forced_bos_token_id": config.get("bos_token_id")} if old else config


def _copied(settings: _Settings, fields: Iterable[_Field]) -> dict[str, Any]:
    """The fields of the same name that differ from our defaults."""
    values = {f.name: settings.get(f.name, f.kind, f.unset) for f in fields}
    defaults = {f.name: f.default for f in fields}
    return {k: v for k, v in values.items() if v is not None and v != defaults[k]}


def _modes(settings: _Settings, options: Mapping[str, Any]) -> set[str]:
    """The headings of `_REFUSED` that hold."""
    sampling, beams = bool(options.get("do_sample")), options.get("num_beams", 1) > 1
    modes = {"always", "beams" if beams else "no beams"}
    if sampling:
        modes.add("sampling")
    elif not beams and settings.config.get("penalty_alpha") is not None:
        several = settings.get("top_k", _WHOLE, _DEFAULT_TOP_K) > 1
        modes |= {"contrastive"} if several else set()
    return modes


def _refuse(settings: _Settings, modes: set[str]) -> None:
    """One error for all that fuseq does not have."""
    config = settings.config
    names = [
        name
        for mode, table in _REFUSED.items()
        for name, neutral in table.items()
        if mode in modes and config.get(name) is not None and config[name] not in neutral
    ]
    if not config.get("_from_model_config"):
        names += [name for name in _ARGUMENTS if name in config]
    names += [name for name, is_beyond in _BEYOND.items() if is_beyond(settings)]
    if names:
        found = ", ".join(
            f"{name} = {shortened(config[name])}{_NOTES.get(name, '')}" for name in names
        )
        raise ValueError(
            f"{settings.source}: every setting must be one that fuseq has, got {found}: fuseq has "
            "no such setting. Take them out, or generate without the folder's settings"
        )


def _has_long_words(settings: _Settings) -> bool:
    """Words of several tokens, or one that is forced too, which wins in transformers alone."""
    forced = {settings.get("forced_bos_token_id", _WHOLE), *settings.ids("forced_eos_token_id")}
    words = _bad_words(settings)
    return any(len(word) > 1 or word[0] in forced for word in words)


def _has_long_biases(settings: _Settings) -> bool:
    return any(len(ids) > 1 for ids, _ in settings.get("sequence_bias", _BIASES, []))


def _has_other_than_one_forced_end(settings: _Settings) -> bool:
    given = settings.config.get("forced_eos_token_id") is not None
    return given and len(settings.ids("forced_eos_token_id")) != 1


_BEYOND: dict[str, Callable[[_Settings], bool]] = {  # fields of which fuseq has a part
    "bad_words_ids": _has_long_words,
    "sequence_bias": _has_long_biases,
    "forced_eos_token_id": _has_other_than_one_forced_end,
}


def _lengths(settings: _Settings) -> dict[str, int]:
    """The longest and the shortest row; a least length beyond the longest counts as the longest."""
    if (new := settings.get("max_new_tokens", _COUNT)) is not None:
        longest = {"max_new_tokens": new}
    elif (whole := settings.get("max_length", _COUNT)) is not None:
        longest = {"max_length": whole}
    else:
        longest = {"max_new_tokens": _DEFAULT_NEW_TOKENS}
    if (least := settings.get("min_new_tokens", _WHOLE)) is not None:
        shortest = {"min_new_tokens": min(least, longest.get("max_new_tokens", least))}
    else:
        least = settings.get("min_length", _WHOLE, 0)
        shortest = {"min_length": min(least, longest.get("max_length", least))}
    return longest | {name: length for name, length in shortest.items() if length > 0}


def _stop_ids(settings: _Settings, model_config: Mapping[str, Any]) -> dict[str, Any]:
    """The end ids, unless neither file knows any: then the model's own are left."""
    if "eos_token_id" not in settings.config and "eos_token_id" not in model_config:
        return {}
    ids = settings.ids("eos_token_id")
    return {"use_default_stop_ids": False, **({"stop_token_ids": ids} if ids else {})}


def _start_id(settings: _Settings) -> dict[str, int]:
    """The decoder's first id, which is the text's first id where the settings name no other."""
    token = settings.get("decoder_start_token_id", _WHOLE)
    token = settings.get("bos_token_id", _WHOLE) if token is None else token
    return {} if token is None else {"decoder_start_token_id": token}


def _forced_end(settings: _Settings) -> dict[str, int]:
    ids = settings.ids("forced_eos_token_id")
    return {"forced_eos_token_id": ids[0]} if ids else {}


def _bad_words(settings: _Settings) -> list[list[int]]:
    """The banned words; end ids are not banned."""
    ends = settings.ids("eos_token_id")
    words: list[list[int]] = settings.get("bad_words_ids", _WORDS, [])
    return [word for word in words if len(word) > 1 or word[0] not in ends]


def _suppressed(settings: _Settings) -> dict[str, list[int]]:
    """The ids that are never emitted."""
    suppressed = settings.ids("suppress_tokens", _ID_LIST)
    for name in ("forced_bos_token_id", "forced_eos_token_id"):
        forced = settings.ids(name)
        if forced and set(forced) <= set(suppressed):
            raise settings.error(name, "an id that suppress_tokens has not", shortened(forced))
    ids = [*suppressed, *(word[0] for word in _bad_words(settings))]
    return {"suppress_token_ids": list(dict.fromkeys(ids))} if ids else {}


def _biases(settings: _Settings) -> dict[str, dict[int, float]]:
    biases = settings.get("sequence_bias", _BIASES, [])
    return {"logit_bias": {ids[0]: float(bias) for ids, bias in biases}} if biases else {}


def _check_results(settings: _Settings, options: Mapping[str, Any]) -> None:
    """So many results as there are beams or draws."""
    results, beams = (options.get(f, 1) for f in ("num_return_sequences", "num_beams"))
    if results > beams and not options.get("do_sample"):
        raise settings.error("num_return_sequences", f"up to num_beams {beams}", f"{results}")
