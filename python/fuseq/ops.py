# SPDX-License-Identifier: Apache-2.0
"""The engine's fused ops on numpy arrays and DLPack tensors, without copies.

Every function takes numpy arrays, `fuseq.Tensor`s or anything else with `__dlpack__` (a torch
tensor on the CPU) and gives back the kind that it got as its first argument. Activations are
float32; `out`, if given, receives the result and is returned. Letters in shapes: N rows, D width,
I inputs, O outputs, B batch, T queries, S keys, H query heads, G key heads, E width of a head.
"""

import sys
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from fuseq import _core
from fuseq._core import Context, PackedMatrix, Tensor

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = [
    "Context",
    "PackedWeight",
    "attention",
    "layer_norm",
    "linear",
    "log_softmax",
    "pack",
    "rms_norm",
    "sample",
]

PackedWeight = PackedMatrix

A = TypeVar("A")

_per_thread = threading.local()


def layer_norm(
    x: A,
    gamma: object,
    beta: object,
    eps: float = 1e-5,
    residual: object | None = None,
    out: A | None = None,
    *,
    context: Context | None = None,
) -> A:
    """Normalises every row, then scales and shifts it.

    y = (z - mean(z)) / sqrt(var(z) + eps) * gamma + beta with z = x + residual.

    Args:
        x: Rows [..., D], float32.
        gamma: Factors [D], float32.
        beta: Summands [D], float32.
        eps: Added to the variance.
        residual: Rows like x that are added first.
        out: Receives y; may be x or residual itself.
        context: Threads and scratch memory; by default one per calling thread.

    Returns:
        y, of the kind of x.

    Raises:
        ValueError: A shape does not fit.
        TypeError: A dtype does not fit.

    Example:
        >>> import numpy as np
        >>> layer_norm(np.float32([[1, 3]]), np.ones(2, "f"), np.zeros(2, "f"), eps=0)
        array([[-1.,  1.]], dtype=float32)
    """
    return _norm("layer", x, gamma, beta, eps, residual, out, context)


def rms_norm(
    x: A,
    gamma: object,
    eps: float = 1e-5,
    residual: object | None = None,
    out: A | None = None,
    *,
    context: Context | None = None,
) -> A:
    """Divides every row by its root mean square, then scales it.

    y = z / sqrt(mean(z^2) + eps) * gamma with z = x + residual.

    Args:
        x: Rows [..., D], float32.
        gamma: Factors [D], float32.
        eps: Added to the mean square.
        residual: Rows like x that are added first.
        out: Receives y; may be x or residual itself.
        context: Threads and scratch memory; by default one per calling thread.

    Returns:
        y, of the kind of x.

    Raises:
        ValueError: A shape does not fit.
        TypeError: A dtype does not fit.

    Example:
        >>> import numpy as np
        >>> rms_norm(np.float32([[2, -2]]), np.ones(2, "f"), eps=0)
        array([[ 1., -1.]], dtype=float32)
    """
    return _norm("rms", x, gamma, None, eps, residual, out, context)


def pack(weight: object, dtype: str = "float32", *, context: Context | None = None) -> PackedWeight:
    """Brings a matrix into the layout that `linear` reads.

    Args:
        weight: [O, I], float32, float16 or bfloat16, any strides.
        dtype: "float32", "bfloat16" or "int8"; of int8 each row has a scale, and `linear` rounds
            x to int8 too, with a scale for each of its rows.
        context: Threads and scratch memory; by default one per calling thread.

    Returns:
        The packed matrix; `linear` takes it in place of an array.

    Raises:
        ValueError: The matrix does not have two axes.
        TypeError: A dtype does not fit.

    Example:
        >>> import numpy as np
        >>> pack(np.eye(3, dtype="f")).shape
        (3, 3)
    """
    return _core.pack(context or _context(), Tensor(weight), dtype)


def linear(
    x: A,
    weight: object,
    bias: object | None = None,
    activation: str = "none",
    gate: object | None = None,
    residual: object | None = None,
    out: A | None = None,
    *,
    context: Context | None = None,
) -> A:
    """Multiplies rows by a matrix, with all that usually follows in one pass.

    y = activation(x W^T + bias) * gate + residual, absent terms left out.

    Args:
        x: Rows [..., I], float32.
        weight: [O, I]: a `PackedWeight`, or an array that is packed for this call.
        bias: [O], float32.
        activation: "none", "relu", "gelu", "gelu_tanh", "silu" or "tanh".
        gate: Rows [..., O], float32.
        residual: Rows [..., O], float32.
        out: Receives y [..., O]; may be residual, must not overlap x.
        context: Threads and scratch memory; by default one per calling thread.

    Returns:
        y, of the kind of x.

    Raises:
        ValueError: A shape does not fit, or the activation has no such name.
        TypeError: A dtype does not fit.

    Example:
        >>> import numpy as np
        >>> linear(np.float32([[1, -2]]), np.eye(2, dtype="f"), activation="relu")
        array([[1., 0.]], dtype=float32)
    """
    context = context or _context()
    source = Tensor(x)
    if isinstance(weight, PackedMatrix):
        packed = weight
    else:
        matrix = Tensor(weight)
        packed = _core.pack(context, matrix, _matrix_dtype(matrix))
    y = Tensor(out) if out is not None else Tensor.empty((*source.shape[:-1], packed.shape[0]))
    _core.linear(
        context,
        _rows(source, "x"),
        packed,
        _optional(bias),
        activation,
        _optional_rows(gate, "gate"),
        _optional_rows(residual, "residual"),
        _rows(y, "out"),
    )
    return out if out is not None else _like(x, y)


def attention(
    q: A,
    k: object,
    v: object,
    lengths: object | None = None,
    causal: bool = False,
    scale: float | None = None,
    window: int | None = None,
    cap: float | None = None,
    out: A | None = None,
    *,
    context: Context | None = None,
) -> A:
    """Attends from queries to keys without storing the scores.

    out = softmax(cap(scale * q k^T)) v for every head, over the keys that a query may see.

    Args:
        q: Queries [B, T, H, E], float32.
        k: Keys [B, S, G, E], float32; G divides H.
        v: Values [B, S, G, E], float32.
        lengths: Keys of each batch row [B], int32; by default all S.
        causal: Query t sees the keys up to t + S - T.
        scale: Factor of the scores; by default 1 / sqrt(E).
        window: Only the last so many of the visible keys count; by default all.
        cap: Scores become cap * tanh(score / cap); by default they stay.
        out: Receives the result [B, T, H, E].
        context: Threads and scratch memory; by default one per calling thread.

    Returns:
        The weighted values, of the kind of q.

    Raises:
        ValueError: A shape or a length does not fit.
        TypeError: A dtype does not fit.

    Example:
        >>> import numpy as np
        >>> ones = np.ones((1, 1, 1, 4), "f")
        >>> attention(ones, ones, 3 * ones)
        array([[[[3., 3., 3., 3.]]]], dtype=float32)
    """
    for name, value in (("scale", scale), ("window", window), ("cap", cap)):
        if value == 0:  # which the engine takes for none
            raise ValueError(f"attention: {name} must be None or other than 0, got {value!r}")
    query = Tensor(q)
    y = Tensor(out) if out is not None else Tensor.empty(query.shape)
    _core.attention(
        context or _context(),
        query,
        Tensor(k),
        Tensor(v),
        _optional(lengths),
        causal,
        window or 0,
        scale or 0.0,
        cap or 0.0,
        y,
    )
    return out if out is not None else _like(q, y)


def log_softmax(x: A, out: A | None = None, *, context: Context | None = None) -> A:
    """Turns every row of scores into log-probabilities.

    y = x - log(sum(exp(x))).

    Args:
        x: Rows [..., V], float32.
        out: Receives y; may be x itself.
        context: Threads and scratch memory; by default one per calling thread.

    Returns:
        y, of the kind of x.

    Raises:
        ValueError: A shape does not fit.
        TypeError: A dtype does not fit.

    Example:
        >>> import numpy as np
        >>> float(log_softmax(np.zeros((1, 1), "f"))[0, 0])
        0.0
    """
    source = Tensor(x)
    y = Tensor(out) if out is not None else Tensor.empty(source.shape)
    _core.log_softmax(context or _context(), _rows(source, "x"), _rows(y, "out"))
    return out if out is not None else _like(x, y)


def sample(
    logits: object,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    top_p_of_all: bool = False,
    seed: int = 0,
    sequence: int = 0,
    step: int = 0,
    context: Context | None = None,
) -> "npt.NDArray[np.int32]":
    """Draws one id from every row of scores.

    id ~ softmax(logits / temperature), filtered by top_k, top_p and min_p in this order. Equal
    arguments give equal ids; row n draws with `sequence + n` and depends on no other row.

    Args:
        logits: Rows [N, V], float32.
        temperature: Divides the scores; above 0.
        top_k: Only the k best ids; 0: all.
        top_p: The fewest best ids whose probabilities reach p, in (0, 1].
        min_p: Ids at least so many times as probable as the best one, in [0, 1].
        top_p_of_all: Whether top_p counts probabilities from before top_k, as KerasHub does.
        seed: In 0 ... 2**64 - 1.
        sequence: Of the first row.
        step: Another draw for every step.
        context: Threads and scratch memory; by default one per calling thread.

    Returns:
        Ids [N].

    Raises:
        ValueError: A shape or a number does not fit.
        TypeError: A dtype does not fit.

    Example:
        >>> import numpy as np
        >>> int(sample(np.array([[0.0, 9.0, 0.0]], "f"), top_k=1)[0])
        1
    """
    import numpy as np

    ids = _core.sample(
        context or _context(), Tensor(logits), temperature, top_k, top_p, min_p, top_p_of_all,
        seed, sequence, 0, step,
    )  # fmt: skip
    return np.array(ids, np.int32)


def _norm(
    kind: str,
    x: A,
    gamma: object,
    beta: object | None,
    eps: float,
    residual: object | None,
    out: A | None,
    context: Context | None,
) -> A:
    source = Tensor(x)
    y = Tensor(out) if out is not None else Tensor.empty(source.shape)
    _core.norm(
        context or _context(),
        kind,
        _rows(source, "x"),
        Tensor(gamma),
        _optional(beta),
        eps,
        _optional_rows(residual, "residual"),
        _rows(y, "out"),
    )
    return out if out is not None else _like(x, y)


def _context() -> Context:
    """The calling thread's own context; a context serves one thread at a time."""
    context = getattr(_per_thread, "context", None)
    if not isinstance(context, Context):
        context = _per_thread.context = Context()
    return context


def _matrix_dtype(matrix: Tensor) -> str:
    return "bfloat16" if matrix.dtype == "bfloat16" else "float32"


def _optional(array: object | None) -> Tensor | None:
    return None if array is None else Tensor(array)


def _optional_rows(array: object | None, argument: str) -> Tensor | None:
    return None if array is None else _rows(Tensor(array), argument)


def _rows(tensor: Tensor, argument: str) -> Tensor:
    """The tensor as rows [N, D]; two axes may be strided, more must be dense."""
    shape = tensor.shape
    if len(shape) == 2:
        return tensor
    if not shape:
        raise ValueError(f"{argument}: must have at least one axis, got a scalar")
    count = 1
    for extent in shape[:-1]:
        count *= extent
    return tensor.reshape((count, shape[-1]))


def _like(x: A, tensor: Tensor) -> A:
    """The tensor as an array of x's own library, on the same memory."""
    result: Any
    root = type(x).__module__.partition(".")[0]
    if isinstance(x, Tensor):
        result = tensor
    elif root == "numpy":
        result = tensor.numpy()
    elif hasattr(x, "__array_namespace__"):
        result = x.__array_namespace__().from_dlpack(tensor)
    elif hasattr(sys.modules.get(root), "from_dlpack"):
        result = sys.modules[root].from_dlpack(tensor)
    else:  # memoryview, array.array: the plainest thing with a buffer
        result = memoryview(tensor)
    return result  # type: ignore[no-any-return]
