# SPDX-License-Identifier: Apache-2.0
"""A server on 127.0.0.1 that stands in for Hugging Face and Kaggle, in health and in trouble."""

import base64
import hashlib
import io
import json
import socket
import tarfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ERROR_TEXTS = {"RevisionNotFound": "Invalid rev id", "RepoNotFound": "Repository not found"}

KAGGLE = "kaggle://keras/bart/keras/bart_base_en/3"
HF = "hf://org/name"
WEIGHTS = bytes(range(256)) * 300
PRESET = {
    "config.json": b'{"class_name": "BartBackbone"}',
    "model.weights.h5": WEIGHTS,
    "assets/tokenizer/vocabulary.json": b'{"a": 0}',
    "assets/tokenizer/merges.txt": b"a b",
}


@dataclass
class LoopbackHub:
    """One repository, which is also one variant of a model on Kaggle.

    Attributes:
        files: What it holds, by path.
        status: What every answer is, where it is not 0.
        file_status: The same for files only; the lists are answered well.
        error_code: The word by which Hugging Face tells errors of one status apart.
        break_at: Files end at this byte, and the connection closes; None: they are whole.
        ranges: Whether parts of files can be asked for.
        wrong_hash: Whether Kaggle's hash is that of another file.
        has_more: Whether Kaggle's list of files says that there are more, so that an archive is
            fetched.
        requests: What was asked: the method, the path, and the range of a file.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    status: int = 0
    file_status: int = 0
    error_code: str = ""
    break_at: int | None = None
    ranges: bool = True
    wrong_hash: bool = False
    has_more: bool = False
    requests: list[tuple[str, str, str]] = field(default_factory=list)

    def __enter__(self) -> "LoopbackHub":
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def fetched(self) -> set[str]:
        """The files that were sent, at least in part."""
        marks = ("/resolve/", "/kaggle-files/")
        return {
            unquote(path.split("/", 5)[5] if "/resolve/" in path else path.split("/", 2)[2])
            for method, path, _ in self.requests
            if method == "GET" and any(mark in path for mark in marks)
        }

    def archive(self) -> bytes:
        """All files as Kaggle packs them."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as tar:
            for path, content in self.files.items():
                member = tarfile.TarInfo(path)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        return packed.getvalue()


def closed_url() -> str:
    """An address on which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def use_hugging_face(monkeypatch: pytest.MonkeyPatch, url: str, cache: Path) -> None:
    """What HF_ENDPOINT and HF_HUB_CACHE say, for a package that has read them already."""
    from huggingface_hub import constants, file_download

    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    for module in (constants, file_download):  # older releases read it there
        monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(time, "sleep", lambda _: None)  # between the attempts of the package


def use_kaggle(monkeypatch: pytest.MonkeyPatch, url: str, cache: Path) -> None:
    from kagglesdk import kaggle_env

    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.LOCAL, url)
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(cache))
    monkeypatch.setenv("KAGGLE_USERNAME", "somebody")
    monkeypatch.setenv("KAGGLE_KEY", "secret")


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None: ...

    def handle(self) -> None:
        with suppress(ConnectionError):  # the caller went away
            super().handle()

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        self._answer(json.loads(self.rfile.read(length) or b"{}"))

    def _answer(self, asked: dict[str, Any] | None = None) -> None:
        path = urlsplit(self.path).path
        self.hub.requests.append((self.command, path, self.headers.get("Range", "")))
        is_file = "/resolve/" in path or path.startswith("/kaggle-files/")
        status = self.hub.status or (self.hub.file_status if is_file else 0)
        if status:
            self._refuse(status, self.hub.error_code)
        elif path.startswith("/api/v1/models.ModelApiService/"):
            self._kaggle(path.rpartition("/")[2], asked or {})
        elif path.startswith("/kaggle-files/"):
            self._file(unquote(path.removeprefix("/kaggle-files/")))
        elif path.startswith("/api/models/"):
            self._hugging_face(path)
        elif "/resolve/" in path:
            self._file(unquote(path.split("/", 5)[5]))
        else:
            self._refuse(404, "")

    def _hugging_face(self, path: str) -> None:
        """Facts of the repository, or its files with their sizes."""
        if "/tree/" in path:
            self._json(
                [
                    {"type": "file", "path": name, "size": len(content), "oid": _hash(content)}
                    for name, content in self.hub.files.items()
                ]
            )
        else:
            siblings = [{"rfilename": name} for name in self.hub.files]
            self._json({"id": "org/name", "sha": COMMIT, "siblings": siblings})

    def _kaggle(self, call: str, asked: dict[str, Any]) -> None:
        """The three calls of a model's download."""
        if call == "GetModelInstance":
            self._json({"versionNumber": 7})
        elif call == "ListModelInstanceVersionFiles":
            files = [{"name": name} for name in self.hub.files]
            more = {"nextPageToken": "more"} if self.hub.has_more else {}
            self._json({"files": files, **more})
        elif call == "DownloadModelInstanceVersion":
            self.send_response(302)
            path = asked.get("path", "archive.tar.gz")
            self.send_header("Location", f"/kaggle-files/{path}")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self._refuse(404, "")

    def _file(self, name: str) -> None:
        """A file or the part that is asked for, with what both hubs say about it."""
        if name == "archive.tar.gz":
            content = self.hub.archive()
        elif name in self.hub.files:
            content = self.hub.files[name]
        else:
            self._refuse(404, "EntryNotFound")
            return
        asked = self.headers.get("Range", "") if self.hub.ranges else ""
        start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if self.hub.ranges:
            self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{_hash(content)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        digest = hashlib.md5(b"another" if self.hub.wrong_hash else content).digest()
        self.send_header("x-goog-hash", f"md5={base64.b64encode(digest).decode()}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if self.command != "HEAD":
            end = len(content) if self.hub.break_at is None else self.hub.break_at
            self.wfile.write(content[start:end])
            self.close_connection = end < len(content)

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {})

    def _refuse(self, status: int, code: str) -> None:
        text = ERROR_TEXTS.get(code, "no")
        self._send(status, b'{"error": "no"}', {"X-Error-Code": code, "X-Error-Message": text})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _hash(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def make_preset(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
