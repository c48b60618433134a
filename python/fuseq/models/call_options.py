# SPDX-License-Identifier: Apache-2.0
"""What a sampler and a call of `generate` ask for, as the engine's options and draws."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from fuseq._core import GenerationOptions
from fuseq.models.generation import read_ids
from fuseq.models.overriding import is_overridden
from fuseq.presets.load import merge_options
from fuseq.samplers import PresetSampler, Sampler

if TYPE_CHECKING:
    from fuseq.models.causal_lm import CausalLM

Floats = npt.NDArray[np.float32]
Stops = Literal["auto"] | int | Iterable[int] | None
Draws = Callable[[int], tuple[int | None, int]]


def read_options(
    task: "CausalLM",
    sampler: Sampler | Callable[..., Any],
    fields: Mapping[str, Any],
    stop_token_ids: Stops,
) -> GenerationOptions:
    """What the sampler says, and over it what the call says.

    Args:
        task: Knows the preset's settings and the default length.
        sampler: Chooses ids.
        fields: What the call says; None stands for a field that is not given.
        stop_token_ids: As in `generate`.

    Returns:
        New options.

    Raises:
        ValueError: The preset has no settings, or stop_token_ids are none.
    """
    is_preset = isinstance(sampler, PresetSampler)
    if isinstance(sampler, PresetSampler) and sampler.fields is None:
        base = _preset_options(task)
        if sampler.temperature != 1.0:
            base.temperature = sampler.temperature
    elif isinstance(sampler, Sampler) and is_overridden(sampler, "compute_probabilities"):
        base = GenerationOptions(sampler=_own_choice(sampler))
    elif isinstance(sampler, Sampler):
        base = GenerationOptions(**sampler.generation_fields())
    else:
        base = GenerationOptions()
    options = merge_options(base, fields)
    if not options.max_length and not options.max_new_tokens:
        lengths = {"max_length": default_length(task), "min_length": fields["min_length"]}
        options = merge_options(options, lengths)
    if is_preset and isinstance(stop_token_ids, str) and stop_token_ids == "auto":
        return options  # the settings say where rows end, as they do in transformers
    options.use_default_stop_ids = False
    options.stop_token_ids = _stop_ids(task, stop_token_ids)
    return options


def default_length(task: "CausalLM") -> int | None:
    """The longest row in tokens where nobody says otherwise; None: the model sets no bound."""
    positions = task.backbone.max_sequence_length
    if task.preprocessor is None:
        return positions or None  # arrays of ids bring their own
    return min(task.preprocessor.sequence_length, positions or task.preprocessor.sequence_length)


def takes_seed(sampler: object) -> bool:
    """Whether a seed of the call reaches a sampler's draws; it fills rows in fuseq's way."""
    return isinstance(sampler, Sampler) and not is_overridden(sampler, "__call__")


def check_seed(
    sampler: Sampler | Callable[..., Any],
    options: GenerationOptions,
    seed: int | Sequence[int] | None,
) -> None:
    """Checks that a seed of the call reaches the draws.

    Raises:
        ValueError: The sampler's own code fills rows, or would need to know whose seed is whose.
    """
    if seed is None:
        return
    if not takes_seed(sampler):
        raise ValueError(
            "generate: seed must come without a sampler that fills rows in its own way, got both"
        )
    if options.sampler is not None and not isinstance(seed, int):
        raise ValueError(
            "generate: seed must be one number for a sampler whose get_next_token or "
            f"compute_probabilities is your own, got a list of {len(seed)}"
        )


def draws_of(
    sampler: Sampler | Callable[..., Any],
    seed: int | Sequence[int] | None,
    settings_seed: int | None,
) -> Draws:
    """Where the draws of the next inputs come from.

    Args:
        sampler: Its own seed goes on from call to call.
        seed: Of the call, which comes first.
        settings_seed: Of the preset's settings, which comes last; it begins anew with each call.
    """
    taken = 0

    def take(count: int) -> tuple[int | None, int]:
        nonlocal taken
        first = taken
        taken += count
        if seed is not None:
            return (seed if isinstance(seed, int) else None), first
        own: tuple[int | None, int] = (None, 0)
        if isinstance(sampler, Sampler):
            own = sampler.next_draws(count)
        return own if own[0] is not None or settings_seed is None else (settings_seed, first)

    return take


def _preset_options(task: "CausalLM") -> GenerationOptions:
    settings = task.generation_settings()
    if settings is None:
        raise ValueError(
            'sampler: "preset" needs generation settings in the preset\'s folder, got none. '
            'Choose another, such as "greedy" or "beam"'
        )
    return settings


def _stop_ids(task: "CausalLM", stop_token_ids: Stops) -> list[int]:
    if stop_token_ids is None:
        return []
    if isinstance(stop_token_ids, str):
        if stop_token_ids != "auto":
            raise ValueError(f'stop_token_ids: must be "auto", None or ids, got {stop_token_ids!r}')
        return task.end_token_ids()
    ids = read_ids("stop_token_ids", stop_token_ids) or []
    size = task.backbone.vocabulary_size
    if any(not 0 <= id < size for id in ids):
        raise ValueError(f"stop_token_ids: must be in 0 ... {size - 1}, got {ids}")
    return ids


def _own_choice(sampler: Sampler) -> Callable[[Floats], Any]:
    """The choice of a sampler that computes probabilities in its own way."""

    def choose(probabilities: Floats) -> Any:  # noqa: ANN401
        with np.errstate(divide="ignore"):
            logits = np.log(probabilities)  # but for a constant, which no softmax sees
        return sampler.get_next_token(sampler.compute_probabilities(logits))

    return choose
