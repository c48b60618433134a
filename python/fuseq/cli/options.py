# SPDX-License-Identifier: Apache-2.0
"""The generation options of the command, and the sampler that stands for them."""

import argparse
import re
from collections.abc import Mapping
from typing import Any

from fuseq import _core
from fuseq._core import GenerationOptions
from fuseq.cli.parser import LARGEST, UsageError, whole
from fuseq.presets.load import Preset, merge_options

SAMPLERS = ("greedy", "random", "top_k", "top_p", "min_p", "beam", "contrastive", "preset")
_ID = re.compile(r"[0-9]{1,10}")


def add_generation_options(parser: argparse.ArgumentParser) -> None:
    """Adds `--sampler` and one option for each field of GenerationOptions."""
    group = parser.add_argument_group("generation options")
    group.add_argument(
        "--sampler",
        choices=SAMPLERS,
        help="a set of options; by default the preset's own settings, without any greedy",
    )
    for name, kind, _, meaning in _core.option_fields():
        group.add_argument(
            f"--{name.replace('_', '-')}", dest=name, **_argument(name, kind, meaning)
        )


class _Update(argparse.Action):
    """Joins the dicts of an option that comes several times."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,  # noqa: ANN401
        option_string: str | None = None,
    ) -> None:
        del parser, option_string
        so_far = getattr(namespace, self.dest) or {}
        setattr(namespace, self.dest, {**so_far, **values})


def _argument(name: str, kind: str, meaning: str) -> dict[str, Any]:
    """How argparse reads a field of GenerationOptions; absent is the field's default."""
    kinds: dict[str, dict[str, Any]] = {
        "int": {
            "type": whole(0, 2**64 - 1) if name == "seed" else whole(-LARGEST - 1, LARGEST),
            "metavar": "N",
        },
        "float": {"type": float, "metavar": "X"},
        "bool": {"action": argparse.BooleanOptionalAction, "default": None},
        "early_stopping": {"choices": ("false", "true", "never")},
        "list[int]": {"action": "extend", "type": read_ids, "metavar": '"ID ID"'},
        "list[str]": {"action": "append", "metavar": "TEXT"},
        "dict[int, float]": {"action": _Update, "type": _biases, "metavar": '"ID=X ID=X"'},
    }
    return {"help": meaning, **kinds[kind]}


def read_ids(text: str) -> list[int]:
    """Ids with blanks or commas between.

    Raises:
        ArgumentTypeError: A word is no whole number from 0 on.
    """
    try:
        return [_id(word) for word in text.replace(",", " ").split()]
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"must be ids with blanks between, got {text!r}"
        ) from error


def _id(word: str) -> int:
    if not _ID.fullmatch(word) or int(word) > LARGEST:
        raise ValueError(word)
    return int(word)


def _biases(text: str) -> dict[int, float]:
    try:
        pairs = [word.split("=") for word in text.replace(",", " ").split()]
        return {_id(token): float(bias) for token, bias in pairs}
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must read ID=VALUE ..., got {text!r}") from error


def has_encoder(preset: Preset) -> bool:
    """Whether a preset's model is a sequence-to-sequence one, without loading it."""
    return bool(preset.read_spec().get("encoder", {}).get("layers", 0))


def read_options(
    options: argparse.Namespace, preset: Preset, *, is_seq2seq: bool
) -> GenerationOptions:
    """The preset's own settings or a sampler's, and over them what the command line says.

    Args:
        options: The command line.
        preset: May hold settings.
        is_seq2seq: Whether the preset's model has an encoder.

    Returns:
        The options.

    Raises:
        UsageError: Options exclude each other.
        ValueError: The preset's settings are asked for, and there are none or unusable ones.
    """
    fields = {name: getattr(options, name) for name, _, _, _ in _core.option_fields()}
    if fields["max_length"] is not None and fields["max_new_tokens"] is not None:
        raise UsageError(
            "--max-length: must not come with --max-new-tokens, got both. Choose one of them"
        )
    if fields["early_stopping"] in ("true", "false"):
        fields["early_stopping"] = fields["early_stopping"] == "true"
    if options.sampler not in (None, "preset"):
        from fuseq import samplers

        chosen = samplers.get(options.sampler).generation_fields()
        return merge_options(None, {**chosen, **_given(fields)})
    settings = _settings(options, preset, is_seq2seq)
    return merge_options(settings, fields)


def _settings(
    options: argparse.Namespace, preset: Preset, is_seq2seq: bool
) -> GenerationOptions | None:
    try:
        settings = preset.load_generation_options(is_seq2seq=is_seq2seq)
    except ValueError as error:
        raise ValueError(
            f"--sampler preset: {str(error).rstrip('.')}. Choose another with --sampler, such as "
            "--sampler greedy"
        ) from error
    if settings is None and options.sampler == "preset":
        raise ValueError(
            f"--sampler preset: {options.preset} must hold settings, got none. Choose another, "
            "such as --sampler greedy"
        )
    return settings


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def changed_fields(options: GenerationOptions) -> dict[str, Any]:
    """The fields that are not at their defaults, by name."""
    return {
        name: getattr(options, name)
        for name, _, default, _ in _core.option_fields()
        if getattr(options, name) != default
    }
