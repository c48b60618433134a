# SPDX-License-Identifier: Apache-2.0
"""The arguments of `quantize`."""

_MODE = "int8"
_OF_KERAS = ("int4", "float8", "gptq", "awq")


def checked_mode(mode: object, config: object, filters: object, is_quantized: bool) -> str:
    """Checks what `quantize` was given.

    Args:
        mode: As `quantize` takes it.
        config: As `quantize` takes it.
        filters: As `quantize` takes it.
        is_quantized: Whether the weights are whole numbers of few bits already.

    Returns:
        The engine's word for a dtype.

    Raises:
        ValueError: There is no such mode, or the weights are quantised already.
        NotImplementedError: Keras has the mode or the argument, and fuseq has not.
    """
    for name, value, hint in (
        ("config", config, "Scales are those of Keras' default for int8"),
        ("filters", filters, "All matrices become int8"),
    ):
        if value is not None:
            raise NotImplementedError(f"quantize: {name} must be None, got {value!r}. {hint}")
    if mode in _OF_KERAS:
        raise NotImplementedError(
            f'quantize: mode must be "{_MODE}", got {mode!r}, which is not in fuseq yet'
        )
    if mode != _MODE:
        raise ValueError(f'quantize: mode must be "{_MODE}", got {mode!r}')
    if is_quantized:
        raise ValueError(
            "quantize: the weights must be floats, got a model that is already quantized to "
            f'{_MODE}. Load it with dtype="float32" for floats'
        )
    return _MODE
