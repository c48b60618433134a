# SPDX-License-Identifier: Apache-2.0
"""Decoding step by step in Python: where a user has overridden a step, or brings a sampler.

Caches are KerasHub's: [B, L, 2, cells, H, E] float32, keys and values of every layer.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fuseq import _core
from fuseq._core import GenerationOptions, Prompt
from fuseq.models.backbone import Backbone
from fuseq.models.generation import Request
from fuseq.models.overriding import is_overridden
from fuseq.models.packing import pad
from fuseq.samplers import ContrastiveSampler, Sampler, protocol

if TYPE_CHECKING:
    from fuseq.models.causal_lm import CausalLM
    from fuseq.models.engine_loop import Loop

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]


# Fields that only the engine's search heeds.
_ENGINES_OWN = (
    "forced_bos_token_id",
    "forced_eos_token_id",
    "logit_bias",
    "min_length",
    "min_new_tokens",
    "no_repeat_ngram_size",
    "num_return_sequences",
    "repetition_penalty",
    "stop_strings",
    "suppress_token_ids",
)


@dataclass(frozen=True)
class SteppedRow:
    """A row that was generated step by step; the attributes of a `Hypothesis`, without scores."""

    ids: list[int]
    prompt_length: int
    score: float = 0.0
    stop_reason: str = ""
    token_log_probs: list[float] = field(default_factory=list)


# ---- one step ----


def call_with_cache(
    backbone: Backbone, token_ids: npt.ArrayLike, cache: Floats | None, index: int
) -> tuple[Floats, Floats, Floats]:
    """See `CausalLM.call_with_cache`."""
    ids = _ids(token_ids, "token_ids", backbone.vocabulary_size)
    index = _index(index)
    kept = _no_cache(backbone, len(ids), index + ids.shape[1]) if cache is None else cache
    prompts = [Prompt()] * len(ids)
    logits, hidden, kept, _ = _extend(backbone, prompts, ids, kept, index, [None] * len(ids))
    return logits, hidden, kept


def call_decoder_with_cache(
    backbone: Backbone,
    encoder_hidden_states: npt.ArrayLike,
    encoder_padding_mask: npt.ArrayLike | None,
    decoder_token_ids: npt.ArrayLike,
    self_attention_cache: Floats | None,
    index: int,
    cross_attention_cache: Floats | None,
    cross_attention_cache_update_index: int | None,
) -> tuple[Floats, Floats, Floats | None, Floats | None]:
    """See `Seq2SeqLM.call_decoder_with_cache`."""
    ids = _ids(decoder_token_ids, "decoder_token_ids", backbone.vocabulary_size)
    index = _index(index)
    states = np.asarray(encoder_hidden_states, np.float32)
    if states.ndim != 3 or len(states) != len(ids):
        raise ValueError(
            f"encoder_hidden_states: must have shape [{len(ids)}, S, D], got {list(states.shape)}"
        )
    cells = _cells(encoder_padding_mask, states.shape[:2])
    prompts = [
        Prompt(encoder_states=np.ascontiguousarray(row[given]))
        for row, given in zip(states, cells, strict=True)
    ]
    uses_cross = cross_attention_cache is not None and cross_attention_cache_update_index is None
    known: list[Floats | None] = [None] * len(ids)
    if uses_cross:
        given_cross = np.asarray(cross_attention_cache, np.float32)
        _check_cache("cross_attention_cache", given_cross, backbone, *states.shape[:2])
        known = [
            np.ascontiguousarray(row[:, :, given])
            for row, given in zip(given_cross, cells, strict=True)
        ]
    kept = self_attention_cache
    if kept is None:
        kept = _no_cache(backbone, len(ids), index + ids.shape[1])
    logits, hidden, kept, made = _extend(backbone, prompts, ids, kept, index, known)
    cross = cross_attention_cache
    if not uses_cross:
        cross = _no_cache(backbone, *states.shape[:2])
        for row, given, values in zip(cross, cells, made, strict=True):
            row[:, :, given] = values
    return logits, hidden, None if self_attention_cache is None else kept, cross


def _extend(
    backbone: Backbone,
    prompts: list[Prompt],
    ids: Ids,
    cache: Floats,
    index: int,
    cross: list[Floats | None],
) -> tuple[Floats, Floats, Floats, list[Floats]]:
    """Runs the ids of every row after its cached cells; the cache with theirs, and cross caches."""
    kept = np.array(cache, np.float32)
    cells = kept.shape[3] if kept.ndim == 6 else 0
    _check_cache("cache", kept, backbone, len(ids), cells)
    if index > cells - ids.shape[1]:
        raise ValueError(
            f"cache_update_index: must leave room for {ids.shape[1]} ids in {cells} cells, got "
            f"{index}"
        )
    made: list[Floats] = []
    with backbone.using_session() as session:
        rows = [
            _extend_row(backbone, session, prompt, ids[row], kept[row], index, cross[row], made)
            for row, prompt in enumerate(prompts)
        ]
    logits, hidden = zip(*rows, strict=True)
    return np.stack(logits), np.stack(hidden), kept, made


def _extend_row(
    backbone: Backbone,
    session: _core.Session,
    prompt: Prompt,
    ids: Ids,
    kept: Floats,
    index: int,
    cross: Floats | None,
    made: list[Floats],
) -> tuple[Floats, Floats]:
    """One row of `_extend`: fills its cells of `kept`, and appends a cross cache that it makes."""
    sequence = session.open(prompt, kept.shape[2])
    try:
        if cross is not None:
            session.write_cache(sequence, "cross_attention", cross)
        if index:
            session.write_cache(sequence, "self_attention", kept)
            session.set_length(sequence, index)
        logits, hidden = session.extend(sequence, ids, return_hidden=True)
        filled = session.read_cache(sequence, "self_attention").numpy()
        end = index + len(ids)
        kept[:, :, index:end] = filled[:, :, index:end]
        if backbone.is_seq2seq and cross is None:
            made.append(np.array(session.read_cache(sequence, "cross_attention").numpy()))
        return np.array(logits.numpy()), np.array(hidden.numpy())
    finally:
        session.close(sequence)


def _cache_shape(backbone: Backbone, rows: int, cells: int) -> tuple[int, ...]:
    stack = backbone.spec["decoder"]
    return (rows, stack["layers"], 2, cells, stack["kv_heads"], stack["head_dim"])


def _no_cache(backbone: Backbone, rows: int, cells: int) -> Floats:
    return np.zeros(_cache_shape(backbone, rows, cells), np.float32)


def _check_cache(name: str, cache: Floats, backbone: Backbone, rows: int, cells: int) -> None:
    shape = _cache_shape(backbone, rows, cells)
    if cache.shape != shape:
        raise ValueError(f"{name}: must have shape {list(shape)}, got {list(cache.shape)}")


def _index(value: object) -> int:
    is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_whole or value < 0:  # type: ignore[operator]
        raise ValueError(f"cache_update_index: must be a whole number >= 0, got {value!r}")
    return int(value)  # type: ignore[call-overload, no-any-return]


def _ids(array: npt.ArrayLike, name: str, vocabulary_size: int) -> Ids:
    ids = np.asarray(array)
    if ids.ndim != 2 or ids.dtype.kind not in "iu" or 0 in ids.shape:
        raise ValueError(f"{name}: must be whole numbers [B, T], got {ids.dtype} {list(ids.shape)}")
    outside = ids[(ids < 0) | (ids >= vocabulary_size)]
    if outside.size:
        raise ValueError(f"{name}: must be in 0 ... {vocabulary_size - 1}, got {outside[0]}")
    return ids.astype(np.int32)


def _cells(mask: npt.ArrayLike | None, shape: tuple[int, ...]) -> Mask:
    if mask is None:
        return np.ones(shape, np.bool_)
    cells = np.asarray(mask).astype(np.bool_)
    if cells.shape != shape:
        raise ValueError(
            f"encoder_padding_mask: must have shape {list(shape)}, got {list(cells.shape)}"
        )
    return cells


# ---- the loop ----


def loop_of(task: "CausalLM", sampler: Sampler | Callable[..., Any]) -> "Loop | None":
    """The loop in Python, where something of it is the user's own; None: the engine's is right."""
    own_step = is_overridden(task, task.step_method) or is_overridden(task, "call_encoder")
    if not own_step and isinstance(sampler, Sampler) and not is_overridden(sampler, "__call__"):
        return None
    return lambda prompts, options, draws: _generate(task, sampler, prompts, options, draws)


def check_request(request: Request) -> None:
    """Checks what a loop in Python cannot do.

    Raises:
        ValueError: It was asked for.
    """
    for name in ("on_token", "return_scores"):
        if getattr(request, name):
            raise ValueError(
                f"generate: {name} must come with the engine's own loop, got a sampler or a step "
                "of yours"
            )


def _check_plain(options: GenerationOptions, prompts: list[Prompt]) -> None:
    """A sampler with a protocol of its own sees logits and stop ids, and nothing else."""
    default = GenerationOptions()
    asked = [name for name in _ENGINES_OWN if getattr(options, name) != getattr(default, name)]
    if any(prompt.seed is not None for prompt in prompts):
        asked.append("a list of seeds")
    if asked:
        raise ValueError(
            f"generate: {', '.join(asked)} must come without a sampler that fills rows in its own "
            "way, got both"
        )


def _generate(
    task: "CausalLM",
    sampler: Sampler | Callable[..., Any],
    prompts: list[Prompt],
    options: GenerationOptions,
    draws: tuple[int | None, int],
) -> list[list[SteppedRow]]:
    given = [list(prompt.decoder_ids) or _start(task) for prompt in prompts]
    starts = [len(row) for row in given]
    length = options.max_length or max(starts) + options.max_new_tokens
    ids, mask = pad([row[:length] for row in given], length, task.pad_token_id())
    starts = [min(start, length) for start in starts]
    first = min(starts)
    room = options.max_new_tokens or length
    stops = list(options.stop_token_ids)
    if options.use_default_stop_ids:
        stops += task.backbone.spec["eos_ids"]
    if first == length:
        rows = np.repeat(ids[:, None], options.num_return_sequences, 1)
        ends = np.full(rows.shape[:2], length)
    else:
        step = _Step(task, prompts, ids, first)
        if isinstance(sampler, Sampler) and not _has_protocol_of_its_own(sampler):
            call = protocol.read_call(step, ids, step.cache, first, mask, stops or None)
            rows, _, ends = protocol.fill(call, _fields(options), *_seeds(prompts, draws), room)
        else:
            _check_plain(options, prompts)
            found = np.asarray(
                sampler(
                    next=step,
                    prompt=ids,
                    cache=step.cache,
                    index=first,
                    mask=mask,
                    stop_token_ids=stops or None,
                    hidden_states=step.hidden,
                    model=task,
                )
            )
            if found.shape != ids.shape or found.dtype.kind not in "iu":
                raise ValueError(
                    f"sampler: must return ids {list(ids.shape)}, got {found.dtype} "
                    f"{list(found.shape)}"
                )
            rows = found[:, None].astype(np.int32)
            limits = [min(start + room, length) for start in starts]
            ends = np.array(
                [[_end(*row, stops)] for row in zip(found, starts, limits, strict=True)]
            )
    return [
        [
            SteppedRow(row[:end].tolist(), start)
            for row, end in zip(rows[index], ends[index], strict=True)
        ]
        for index, start in enumerate(starts)
    ]


def _start(task: "CausalLM") -> list[int]:
    """What a row without a prompt starts with."""
    start = int(task.backbone.spec["decoder_start_id"])
    if start < 0:
        raise ValueError(
            "decoder_ids: must not be empty for a model without decoder_start_id, got none"
        )
    return [start]


def _seeds(
    prompts: list[Prompt], draws: tuple[int | None, int]
) -> tuple[int | list[int] | None, int]:
    """Seeds of the prompts' own, where they have them."""
    own = [prompt.seed for prompt in prompts if prompt.seed is not None]
    return (own if own else draws[0]), draws[1]


def _has_protocol_of_its_own(sampler: Sampler) -> bool:
    return isinstance(sampler, ContrastiveSampler) or is_overridden(sampler, "__call__")


def _fields(options: GenerationOptions) -> dict[str, Any]:
    """The options as fields; what the arrays decide is left out."""
    names = [name for name, _, _, _ in _core.option_fields()]
    left_out = {"decoder_start_token_id", "stop_token_ids", "seed", "max_length", "max_new_tokens"}
    fields = {name: getattr(options, name) for name in names if name not in left_out}
    fields = {name: value for name, value in fields.items() if value is not None}
    if options.token_bytes is not None:
        fields["token_bytes"] = options.token_bytes
    if options.sampler is not None:
        fields["sampler"] = options.sampler
    return fields


def _end(row: Ids, start: int, limit: int, stops: list[int]) -> int:
    """The cell behind the first stop id that is new."""
    (found,) = np.nonzero(np.isin(row[start:limit], stops))
    return start + int(found[0]) + 1 if len(found) else limit


class _Step:
    """KerasHub's `next`: the id at cell index - 1 goes in, logits for cell index come out."""

    def __init__(self, task: "CausalLM", prompts: list[Prompt], ids: Ids, first: int) -> None:
        self._task = task
        backbone = task.backbone
        kept = np.zeros(_cache_shape(backbone, *ids.shape), np.float32)
        self.hidden = np.zeros((*ids.shape, backbone.hidden_dim), np.float32)
        self.cache: Any = kept
        if backbone.is_seq2seq:
            sources = [prompt.encoder_ids for prompt in prompts]
            width = max(map(len, sources))
            source_ids, mask = pad(sources, width, task.pad_token_id())
            encode: Any = getattr(task, "call_encoder")  # noqa: B009 - of models with an encoder
            states = encode(token_ids=source_ids, padding_mask=mask)
            self.cache = (kept, None, states, mask)
        # As KerasHub: the last cell of the prompt is computed again by the first step.
        _, hidden, self.cache = self._call(ids[:, :first], self.cache, 0)
        self.hidden[:, :first] = hidden

    def __call__(self, prompt: Ids, cache: Any, index: int) -> tuple[Floats, Floats, Any]:  # noqa: ANN401
        logits, hidden, cache = self._call(prompt[:, index - 1 : index], cache, index - 1)
        return np.asarray(logits)[:, 0], np.asarray(hidden)[:, 0], cache

    def _call(self, ids: Ids, cache: Any, index: int) -> tuple[Any, Any, Any]:  # noqa: ANN401
        step: Any = getattr(self._task, self._task.step_method)
        if not self._task.backbone.is_seq2seq:
            result: tuple[Any, Any, Any] = step(
                token_ids=ids, cache=cache, cache_update_index=index
            )
            return result
        kept, cross, states, mask = cache
        logits, hidden, kept, cross = step(
            encoder_hidden_states=states,
            encoder_padding_mask=mask,
            decoder_token_ids=ids,
            self_attention_cache=kept,
            self_attention_cache_update_index=index,
            cross_attention_cache=cross,
            cross_attention_cache_update_index=0 if cross is None else None,
        )
        return logits, hidden, (kept, cross, states, mask)
