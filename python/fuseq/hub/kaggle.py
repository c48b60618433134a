# SPDX-License-Identifier: Apache-2.0
"""Presets from Kaggle, through kagglehub, which keeps the cache and the credentials."""

from pathlib import Path

from fuseq.hub.errors import explain
from fuseq.hub.handles import KaggleHandle

INSTALL = 'pip install "kagglehub>=0.3"'


def download(handle: KaggleHandle) -> Path:
    """The folder of a variant in kagglehub's cache, downloaded as a whole where it is not there.

    A variant holds one preset and no copy of its weights in another format, so all is fetched. A
    variant with a version that is in the cache needs no network. kagglehub marks a variant as
    complete after its last file; one that broke off is never returned, and goes on from there.

    Args:
        handle: The variant.

    Returns:
        The folder.

    Raises:
        ImportError: kagglehub is missing.
        PermissionError: Not logged in, or the model asks for consent.
        FileNotFoundError: There is no such model, variant or version.
        ConnectionError: The hub is not reached, is in trouble, or the download broke off.
        ValueError: kagglehub refuses the handle.
        OSError: The disk is full, or the like.
    """
    try:
        import kagglehub
    except ImportError as error:
        raise ImportError(
            f'preset "{handle}": kagglehub must be installed, got {error}. '
            f"Install it with: {INSTALL}"
        ) from error
    try:
        return Path(kagglehub.model_download(handle.slug))
    except Exception as error:
        explained = explain(error, handle)
        if explained is None:
            raise
        raise explained from error
