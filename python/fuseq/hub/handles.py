# SPDX-License-Identifier: Apache-2.0
"""Handles of presets on Kaggle and Hugging Face: read, checked, and turned into sub-paths."""

import re
from dataclasses import dataclass

KINDS = (
    "a folder, a name such as bart_base_en, kaggle://org/model/framework/variant[/version], "
    "or hf://org/name[@revision]"
)
# Starts with a letter, digit or "_": neither "." nor "..", no separator and no drive of Windows.
_SEGMENT = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_-])?")
_VERSION = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True)
class KaggleHandle:
    """A variant of a model on Kaggle.

    Attributes:
        org: Who owns the model, such as "keras".
        model: The model, such as "bart".
        framework: Such as "keras".
        variant: Such as "bart_base_en".
        version: From 1; None: the newest.
    """

    org: str
    model: str
    framework: str
    variant: str
    version: int | None = None

    @property
    def slug(self) -> str:
        """The handle as kagglehub takes it, without the scheme."""
        parts = [self.org, self.model, self.framework, self.variant]
        return "/".join(parts if self.version is None else [*parts, str(self.version)])

    @property
    def sub_paths(self) -> tuple[str, ...]:
        """Where it may lie below a folder of FUSEQ_PRESETS: the whole handle, then the variant."""
        return (self.slug, self.variant)

    @property
    def page(self) -> str:
        """The model's page."""
        return f"https://www.kaggle.com/models/{self.org}/{self.model}"

    def __str__(self) -> str:
        """The handle as the user writes it."""
        return f"kaggle://{self.slug}"


@dataclass(frozen=True)
class HuggingFaceHandle:
    """A repository on Hugging Face.

    Attributes:
        repository: "org/name", or "name" alone.
        revision: A branch, tag or commit; None: main.
    """

    repository: str
    revision: str | None = None

    @property
    def sub_paths(self) -> tuple[str, ...]:
        """Where it may lie below a folder of FUSEQ_PRESETS; a revision counts as part of it."""
        return (str(self).removeprefix("hf://"),)

    @property
    def page(self) -> str:
        """The repository's page."""
        return f"https://huggingface.co/{self.repository}"

    def __str__(self) -> str:
        """The handle as the user writes it."""
        revision = "" if self.revision is None else f"@{self.revision}"
        return f"hf://{self.repository}{revision}"


Handle = KaggleHandle | HuggingFaceHandle


def parse_handle(preset: str) -> Handle:
    """Reads a handle.

    Args:
        preset: `kaggle://org/model/framework/variant[/version]` or `hf://[org/]name[@revision]`.

    Returns:
        The handle in parts. No part can lead out of a folder.

    Raises:
        ValueError: The scheme is another one, or the handle is malformed.

    Example:
        >>> parse_handle("hf://facebook/bart-base@main")
        HuggingFaceHandle(repository='facebook/bart-base', revision='main')
    """
    scheme, _, rest = preset.partition("://")
    if scheme == "kaggle":
        return _parse_kaggle(preset, rest)
    if scheme == "hf":
        return _parse_hugging_face(preset, rest)
    hint = ""
    if rest.startswith("huggingface.co/"):
        hint = f' Say "hf://{rest.removeprefix("huggingface.co/").rstrip("/")}".'
    raise ValueError(f'preset "{preset}": must be {KINDS}, got the scheme {scheme}://.{hint}')


def _parse_kaggle(preset: str, rest: str) -> KaggleHandle:
    segments = rest.split("/")
    if len(segments) not in (4, 5):
        raise _malformed(
            preset,
            "kaggle://org/model/framework/variant[/version]",
            f"{len(segments)} parts",
        )
    _check_segments(preset, segments[:4], "kaggle://org/model/framework/variant[/version]")
    version = None
    if len(segments) == 5:
        if not _VERSION.fullmatch(segments[4]):
            raise _malformed(preset, "a whole number from 1 as its version", repr(segments[4]))
        version = int(segments[4])
    org, model, framework, variant = segments[:4]
    return KaggleHandle(org, model, framework, variant, version)


def _parse_hugging_face(preset: str, rest: str) -> HuggingFaceHandle:
    repository, at, revision = rest.partition("@")
    segments = repository.split("/")
    if len(segments) > 2:
        raise _malformed(preset, "hf://org/name[@revision]", f"{len(segments)} parts")
    _check_segments(preset, segments, "hf://org/name[@revision]")
    if at:
        _check_segments(preset, revision.split("/"), "hf://org/name[@revision]")
    return HuggingFaceHandle(repository, revision if at else None)


def _check_segments(preset: str, segments: list[str], shape: str) -> None:
    """Each part is a plain name: no "..", no separator of Windows, nothing empty."""
    for segment in segments:
        if not _SEGMENT.fullmatch(segment) or ".." in segment:
            what = f"letters, digits, '.', '_' and '-' in each part of {shape}"
            raise _malformed(preset, what, repr(segment))


def _malformed(preset: str, must: str, got: str) -> ValueError:
    return ValueError(f'preset "{preset}": must have {must}, got {got}')
