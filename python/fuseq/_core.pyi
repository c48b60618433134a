# SPDX-License-Identifier: Apache-2.0
"""The engine of fuseq: token ids in, token ids out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeAlias, overload

import numpy as np
import numpy.typing as npt

__version__: str

_Path: TypeAlias = str | PathLike[str]
_Ids: TypeAlias = Iterable[int]
_Sampler: TypeAlias = Callable[[npt.NDArray[np.float32]], _Ids]
_OnToken: TypeAlias = Callable[[int, int, str], object]

class Tensor:
    """A strided view on elements in main memory, and what keeps them alive."""

    def __init__(self, array: object) -> None: ...
    @staticmethod
    def empty(shape: Sequence[int], dtype: str = "float32") -> Tensor: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def strides(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> str: ...
    @property
    def read_only(self) -> bool: ...
    def transpose(self) -> Tensor: ...
    def narrow(self, axis: int, start: int, length: int) -> Tensor: ...
    def reshape(self, shape: Sequence[int]) -> Tensor: ...
    def float(self) -> Tensor: ...
    def copy_from(self, source: Tensor) -> None: ...
    def numpy(self) -> npt.NDArray[Any]: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def __release_buffer__(self, buffer: memoryview, /) -> None: ...
    def __dlpack__(
        self,
        *,
        stream: object = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> object: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...

class SafeTensorsFile:
    """A safetensors file, mapped and checked."""

    def __init__(self, path: _Path) -> None: ...
    def tensors(self) -> dict[str, Tensor]: ...
    @property
    def unsupported(self) -> list[str]: ...
    @property
    def metadata(self) -> dict[str, str]: ...

def save_safetensors(
    path: _Path,
    tensors: Sequence[tuple[str, str, Sequence[int], Callable[[], Tensor]]],
    metadata: Mapping[str, str] = ...,
) -> None: ...
def save_folder(
    folder: _Path, fill: Callable[[Path], None], drop: Sequence[str] = ...
) -> None: ...
def validate_spec(spec: str) -> str: ...
def weight_table(spec: str) -> list[tuple[str, tuple[int, ...], bool]]: ...

class Model:
    """A spec and its packed weights, shared by any number of sessions."""

    @staticmethod
    def build(
        spec: str,
        weights: Mapping[str, object],
        *,
        dtype: str | None = None,
        num_threads: int | None = None,
        cpu_isa: str = "automatic",
    ) -> Model: ...
    @staticmethod
    def load(
        folder: _Path,
        *,
        dtype: str | None = None,
        num_threads: int | None = None,
        cpu_isa: str = "automatic",
    ) -> Model: ...
    def to(self, dtype: str) -> Model: ...
    def save(self, folder: _Path) -> None: ...
    def weight(self, name: str) -> Tensor: ...
    @property
    def spec(self) -> str: ...
    @property
    def family(self) -> str: ...
    @property
    def is_seq2seq(self) -> bool: ...
    @property
    def dtype(self) -> str: ...
    @property
    def num_bytes(self) -> int: ...
    @property
    def num_parameters(self) -> int: ...

class TokenBytes:
    """What every id stands for, as bytes; handed over once."""

    def __init__(self, tokens: Iterable[bytes]) -> None: ...
    def __len__(self) -> int: ...
    def __getitem__(self, id: int, /) -> bytes: ...

class GenerationOptions:
    """What a caller asks of one generation; None stands for a field's default."""

    max_length: int
    max_new_tokens: int
    min_length: int
    min_new_tokens: int
    do_sample: bool
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    top_p_of_all: bool
    seed: int | None
    penalty_alpha: float
    num_beams: int
    num_return_sequences: int
    length_penalty: float
    early_stopping: bool | Literal["never"]
    repetition_penalty: float
    no_repeat_ngram_size: int
    decoder_start_token_id: int
    forced_bos_token_id: int
    forced_eos_token_id: int
    use_default_stop_ids: bool
    stop_token_ids: list[int]
    stop_strings: list[str | bytes]
    suppress_token_ids: list[int]
    logit_bias: dict[int, float]
    return_scores: bool
    def __init__(
        self,
        *,
        max_length: int | None = None,
        max_new_tokens: int | None = None,
        min_length: int | None = None,
        min_new_tokens: int | None = None,
        do_sample: bool | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        top_p_of_all: bool | None = None,
        seed: int | None = None,
        penalty_alpha: float | None = None,
        num_beams: int | None = None,
        num_return_sequences: int | None = None,
        length_penalty: float | None = None,
        early_stopping: bool | Literal["never"] | None = None,
        repetition_penalty: float | None = None,
        no_repeat_ngram_size: int | None = None,
        decoder_start_token_id: int | None = None,
        forced_bos_token_id: int | None = None,
        forced_eos_token_id: int | None = None,
        use_default_stop_ids: bool | None = None,
        stop_token_ids: _Ids | None = None,
        stop_strings: Iterable[str | bytes] | None = None,
        suppress_token_ids: _Ids | None = None,
        logit_bias: dict[int, float] | None = None,
        return_scores: bool | None = None,
        token_bytes: TokenBytes | None = None,
        sampler: _Sampler | None = None,
    ) -> None: ...
    @property
    def token_bytes(self) -> TokenBytes | None: ...
    @token_bytes.setter
    def token_bytes(self, value: TokenBytes | None) -> None: ...
    @property
    def sampler(self) -> _Sampler | None: ...
    @sampler.setter
    def sampler(self, value: _Sampler | None) -> None: ...
    @staticmethod
    def from_json(json: str) -> GenerationOptions: ...
    def to_json(self) -> str: ...
    def __copy__(self) -> GenerationOptions: ...

def option_fields() -> list[tuple[str, str, Any, str]]: ...

class Prompt:
    """What one request starts from."""

    def __init__(
        self,
        encoder_ids: _Ids = (),
        decoder_ids: _Ids = (),
        *,
        encoder_states: object | None = None,
        seed: int | None = None,
        sequence: int | None = None,
    ) -> None: ...
    @property
    def encoder_ids(self) -> list[int]: ...
    @property
    def decoder_ids(self) -> list[int]: ...
    @property
    def encoder_states(self) -> Tensor | None: ...
    @property
    def seed(self) -> int | None: ...
    @property
    def sequence(self) -> int | None: ...

class Hypothesis:
    """One generated row."""

    @property
    def ids(self) -> list[int]: ...
    @property
    def prompt_length(self) -> int: ...
    @property
    def score(self) -> float: ...
    @property
    def token_log_probs(self) -> list[float]: ...
    @property
    def stop_reason(
        self,
    ) -> Literal["stop_id", "stop_string", "max_length", "callback", "canceled"]: ...

_CacheKind: TypeAlias = Literal["self_attention", "cross_attention"]

class Session:
    """A model, threads, caches and slots; one thread uses it at a time."""

    def __init__(
        self,
        model: Model,
        *,
        num_threads: int | None = None,
        max_rows: int = 32,
        cache_dtype: str | None = None,
    ) -> None: ...
    def submit(self, prompt: Prompt | _Ids, options: GenerationOptions | None = None) -> int: ...
    def step(self, on_token: _OnToken | None = None) -> bool: ...
    def ids(self, request: int, draw: int = 0) -> list[int]: ...
    def cancel(self, request: int) -> None: ...
    def is_finished(self, request: int) -> bool: ...
    def take(self, request: int) -> list[Hypothesis]: ...
    def encode(self, sources: Iterable[_Ids]) -> Tensor: ...
    @overload
    def forward(
        self, prompts: Iterable[Prompt | _Ids], *, return_hidden: Literal[False] = False
    ) -> Tensor: ...
    @overload
    def forward(
        self, prompts: Iterable[Prompt | _Ids], *, return_hidden: Literal[True]
    ) -> tuple[Tensor, Tensor]: ...
    def score(
        self, prompts: Iterable[Prompt | _Ids], targets: Iterable[_Ids] | None = None
    ) -> list[npt.NDArray[np.float32]]: ...
    def open(self, source: Prompt | _Ids, max_length: int) -> int: ...
    @overload
    def extend(
        self, sequence: int, ids: _Ids, *, return_hidden: Literal[False] = False
    ) -> Tensor: ...
    @overload
    def extend(
        self, sequence: int, ids: _Ids, *, return_hidden: Literal[True]
    ) -> tuple[Tensor, Tensor]: ...
    def length(self, sequence: int) -> int: ...
    def set_length(self, sequence: int, length: int) -> None: ...
    def read_cache(self, sequence: int, kind: _CacheKind) -> Tensor: ...
    def write_cache(self, sequence: int, kind: _CacheKind, cache: object) -> None: ...
    def close(self, sequence: int) -> None: ...
    def release_memory(self) -> None: ...
    @property
    def cache_bytes(self) -> int: ...

def generate(
    model: Model,
    prompts: Iterable[Prompt | _Ids],
    options: GenerationOptions | None = None,
    *,
    max_batch_size: int | None = None,
    on_token: _OnToken | None = None,
) -> list[list[Hypothesis]]: ...
def score(
    model: Model, prompts: Iterable[Prompt | _Ids], targets: Iterable[_Ids] | None = None
) -> list[npt.NDArray[np.float32]]: ...

class SearchRow:
    """A row that wants logits for its next id."""

    @property
    def request(self) -> int: ...
    @property
    def index(self) -> int: ...
    @property
    def parent(self) -> int: ...
    @property
    def id(self) -> int: ...
    @property
    def length(self) -> int: ...

class Search:
    """Every sampler, rule and stop test for logits that come from anywhere."""

    def __init__(
        self, vocab: int, *, num_threads: int | None = None, max_rows: int = 32
    ) -> None: ...
    def add(
        self,
        prompt: _Ids,
        options: GenerationOptions | None = None,
        *,
        seed: int | None = None,
        sequence: int = 0,
    ) -> int: ...
    def rows(self) -> list[SearchRow]: ...
    def step(self, logits: object) -> None: ...
    def ids(self, request: int, row: int = 0) -> list[int]: ...
    def cancel(self, request: int) -> None: ...
    def is_finished(self, request: int) -> bool: ...
    def take(self, request: int) -> list[Hypothesis]: ...

class Context:
    """Threads and scratch memory; one thread uses it at a time."""

    def __init__(self, *, num_threads: int | None = None, cpu_isa: str = "automatic") -> None: ...
    @property
    def num_threads(self) -> int: ...
    @property
    def cpu_isa(self) -> str: ...
    def release_memory(self) -> None: ...

class PackedMatrix:
    """A matrix [O, I] in the engine's layout."""

    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def dtype(self) -> str: ...

def pack(context: Context, weight: Tensor, dtype: str) -> PackedMatrix: ...
def norm(
    context: Context,
    kind: str,
    x: Tensor,
    gamma: Tensor,
    beta: Tensor | None,
    eps: float,
    residual: Tensor | None,
    out: Tensor,
) -> None: ...
def linear(
    context: Context,
    x: Tensor,
    weight: PackedMatrix,
    bias: Tensor | None,
    activation: str,
    gate: Tensor | None,
    residual: Tensor | None,
    out: Tensor,
) -> None: ...
def attention(
    context: Context,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: Tensor | None,
    causal: bool,
    window: int,
    scale: float,
    cap: float,
    out: Tensor,
) -> None: ...
def log_softmax(context: Context, x: Tensor, out: Tensor) -> None: ...
def sample(
    context: Context,
    logits: Tensor,
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    top_p_of_all: bool,
    seed: int,
    sequence: int,
    draw: int,
    step: int,
) -> list[int]: ...
