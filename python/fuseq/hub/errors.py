# SPDX-License-Identifier: Apache-2.0
"""Tells apart what goes wrong while a preset is downloaded, in one sentence each."""

import socket
from collections.abc import Iterator

from fuseq.hub.handles import Handle, HuggingFaceHandle

_NETWORK_PACKAGES = frozenset(
    {"hf_xet", "httpcore", "httpcore2", "httpx", "httpx2", "huggingface_hub", "requests", "urllib3"}
)
_NOT_REACHED = frozenset(
    {
        "ConnectError",
        "ConnectTimeout",
        "ConnectTimeoutError",
        "ConnectionRefusedError",
        "NameResolutionError",
        "NewConnectionError",
        "ProxyError",
        "gaierror",
    }
)
_NO_CREDENTIALS = frozenset({"CredentialError", "UnauthenticatedError", "XetAuthenticationError"})
_DAMAGED = "DataCorruptionError"


def explain(error: Exception, handle: Handle) -> Exception | None:
    """The error that says what to do about one that a hub's package raised.

    Args:
        error: What the package raised.
        handle: What was to be downloaded.

    Returns:
        PermissionError for 401 and 403, FileNotFoundError for 404, ConnectionError for other
        answers, a hub that is not reached and a download that broke off, ValueError for a handle
        that the package refuses; None where the error says all itself, such as a full disk.
    """
    chain = tuple(_chain(error))
    for link in chain:
        response = getattr(link, "response", None)
        status = getattr(response, "status_code", None)
        if isinstance(status, int):
            headers = getattr(response, "headers", None) or {}
            return _explain_status(status, headers.get("X-Error-Code", ""), handle)
    if any(type(link).__name__ in _NO_CREDENTIALS for link in chain):
        return _explain_status(401, "", handle)
    if isinstance(error, ValueError) and not isinstance(error, OSError):
        return ValueError(f'preset "{handle}": must be a handle of a model, got: {_line(error)}')
    if any(_is_network(link) for link in chain):
        return _explain_network(error, chain, handle)
    return None


def is_unreachable(error: Exception) -> bool:
    """Whether an error that `explain` made says that the hub does not work, not that it refuses.

    Args:
        error: From `explain`.

    Returns:
        Whether it does.
    """
    return isinstance(error, ConnectionError)


def _explain_status(status: int, code: str, handle: Handle) -> Exception:
    """One sentence for an answer of the server, and one on what to do."""
    on_hugging_face = isinstance(handle, HuggingFaceHandle)
    begin = f'preset "{handle}": the hub must give its files, got {status}'
    if status == 401:
        token = (
            "HF_TOKEN to a token of https://huggingface.co/settings/tokens"
            if on_hugging_face
            else "KAGGLE_API_TOKEN, or KAGGLE_USERNAME and KAGGLE_KEY, to those of "
            "https://www.kaggle.com/settings"
        )
        return PermissionError(
            f"{begin} (not logged in, or a token that does not hold). Set {token}, and check that "
            f"{handle.page} is there: a hub may answer so for a name that it does not have"
        )
    if status == 403:
        return PermissionError(
            f"{begin} (forbidden). If the model asks for consent, open {handle.page}, accept its "
            "terms with the account of your token, then call again"
        )
    if status == 404:
        if code == "RevisionNotFound":
            what = "revision"
        else:
            what = "repository" if on_hugging_face else "model, variant or version"
        return FileNotFoundError(f"{begin} (no such {what}). Look for it at {handle.page}")
    if status == 429:
        return ConnectionError(f"{begin} (too many requests). Wait a little, then call again")
    if status >= 500:
        return ConnectionError(f"{begin} (trouble of the server). Call again later")
    return ConnectionError(f"{begin}. Look at {handle.page}")


def _explain_network(
    error: Exception, chain: tuple[BaseException, ...], handle: Handle
) -> ConnectionError:
    """No answer at all, or one that broke off."""
    got = f"{type(error).__name__}: {_line(error)}"
    if any(type(link).__name__ in _NOT_REACHED for link in chain):
        return ConnectionError(
            f'preset "{handle}": the hub must be reachable, got {got}. Check the network, or put '
            "the preset into a folder that FUSEQ_PRESETS names"
        )
    return ConnectionError(
        f'preset "{handle}": the download must run to its end, got {got}. Call again: files that '
        "are whole are not fetched twice"
    )


def _is_network(error: BaseException) -> bool:
    """Whether the network is to blame, not this machine.

    `OSError` without a number is how huggingface_hub reports a file of the wrong size, and
    RuntimeError how its downloader in Rust reports anything.
    """
    kind = type(error)
    if isinstance(error, ConnectionError | TimeoutError | socket.gaierror | RuntimeError):
        return True
    if kind.__module__.partition(".")[0] in _NETWORK_PACKAGES or kind.__name__ == _DAMAGED:
        return True
    return type(error) is OSError and error.errno is None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, and what led to it."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _line(error: BaseException) -> str:
    """What an error says, in one line of modest length, without a full stop."""
    text = " ".join(str(error).split()) or "no message"
    return (text if len(text) <= 200 else f"{text[:200]}...").rstrip(".")
