# SPDX-License-Identifier: Apache-2.0
"""Presets from Hugging Face, through huggingface_hub, which keeps the cache and the token."""

import warnings
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from fuseq.hub.errors import explain, is_unreachable
from fuseq.hub.handles import HuggingFaceHandle

INSTALL = 'pip install "huggingface_hub>=0.30"'

# "*" also stands for "/": files of sub-folders are meant too.
_FILES = ("*.json", "*.txt", "*.model", "*.spm", "*.h5", "*.safetensors")
_PICKLED = "*pytorch_model*.bin"
_IGNORED = ("*tf_model*.h5", "*.msgpack", "*.onnx", "*.ot", "onnx/*", "flax*", "coreml/*")
_WEIGHTS = ("*.safetensors", "*.h5")


def download(handle: HuggingFaceHandle) -> Path:
    """The folder of a repository's snapshot in huggingface_hub's cache, with the files we read.

    Torch's own weight files are fetched only where the repository has no others. With
    HF_HUB_OFFLINE=1, and with a warning where the hub does not work, what the cache has is used.

    Args:
        handle: The repository.

    Returns:
        The folder.

    Raises:
        ImportError: huggingface_hub is missing.
        PermissionError: Not logged in, or the model asks for consent.
        FileNotFoundError: There is no such repository or revision, it holds no preset, or the mode
            is offline and the cache does not have it.
        ConnectionError: The hub is not reached, is in trouble, or the download broke off.
        ValueError: huggingface_hub refuses the handle.
        OSError: The disk is full, or the like.
    """
    try:
        import huggingface_hub
        from huggingface_hub import constants
    except ImportError as error:
        raise ImportError(
            f'preset "{handle}": huggingface_hub must be installed, got {error}. '
            f"Install it with: {INSTALL}"
        ) from error
    if constants.HF_HUB_OFFLINE:
        return _cached_or_raise(handle)
    names: list[str] = []
    try:
        api = huggingface_hub.HfApi()
        siblings = api.model_info(handle.repository, revision=handle.revision).siblings
        names = [sibling.rfilename for sibling in siblings or ()]
        folder = _snapshot(handle, with_pickled=not _has_weights(names))
    except Exception as error:
        explained = explain(error, handle)
        if explained is None:
            raise
        cached = _cached(handle) if is_unreachable(explained) else None
        if cached is None or not all((cached / name).is_file() for name in _read(names)):
            raise explained from error
        warnings.warn(f"{explained}. The files of the cache are used", stacklevel=2)
        return cached
    if not folder.is_dir():
        raise FileNotFoundError(
            f'preset "{handle}": the repository must hold a preset\'s files '
            f"({', '.join(_FILES)}), got {', '.join(names) or 'no files'}"
        )
    return folder


def _snapshot(handle: HuggingFaceHandle, *, with_pickled: bool, **options: Any) -> Path:  # noqa: ANN401
    """The repository's snapshot, complete with regard to the files we read."""
    import huggingface_hub

    folder = huggingface_hub.snapshot_download(
        handle.repository,
        revision=handle.revision,
        allow_patterns=[*_FILES, _PICKLED] if with_pickled else list(_FILES),
        ignore_patterns=list(_IGNORED),
        **options,
    )
    return Path(folder)


def _cached(handle: HuggingFaceHandle) -> Path | None:
    """The snapshot of the cache, or None where it is not there or is known to be incomplete.

    Older releases of huggingface_hub do not know which files a snapshot lacks.
    """
    try:
        folder = _snapshot(handle, with_pickled=False, local_files_only=True)
        if not _has_weights(path.name for path in folder.rglob("*")):
            folder = _snapshot(handle, with_pickled=True, local_files_only=True)
    except FileNotFoundError:
        return None
    return folder


def _cached_or_raise(handle: HuggingFaceHandle) -> Path:
    try:
        folder = _cached(handle)
    except ValueError as error:
        raise explain(error, handle) or error from error
    if folder is None:
        raise FileNotFoundError(
            f'preset "{handle}": must be in the cache of huggingface_hub as a whole while '
            "HF_HUB_OFFLINE is set, got none. Fetch it once without HF_HUB_OFFLINE, or put it "
            "into a folder that FUSEQ_PRESETS names"
        )
    return folder


def _read(names: Iterable[str]) -> list[str]:
    """Those of a repository's files that `download` fetches."""
    names = tuple(names)
    patterns = _FILES if _has_weights(names) else (*_FILES, _PICKLED)
    return [name for name in names if _fits(name, patterns) and not _fits(name, _IGNORED)]


def _has_weights(names: Iterable[str]) -> bool:
    """Whether there are weights that are read without torch."""
    return any(_fits(name, _WEIGHTS) and not _fits(name, _IGNORED) for name in names)


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)
