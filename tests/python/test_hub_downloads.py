# SPDX-License-Identifier: Apache-2.0
"""Presets of both hubs, played by a local server, in health and in trouble."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fuseq import hub
from loopback_hub import (
    COMMIT,
    HF,
    KAGGLE,
    PRESET,
    WEIGHTS,
    LoopbackHub,
    closed_url,
    contents,
    use_hugging_face,
    use_kaggle,
)

pytest_plugins = ("hub_fixtures",)
pytestmark = pytest.mark.usefixtures("alone")


# Both hubs


def test_a_preset_is_downloaded_whole_and_once(either: tuple[str, LoopbackHub]) -> None:
    handle, server = either
    folder = hub.locate(handle)
    assert contents(folder) == PRESET
    assert server.fetched() == set(PRESET)
    server.requests.clear()
    assert hub.locate(handle) == folder
    assert not server.fetched()


@pytest.mark.parametrize(
    ("status", "code", "kind", "message"),
    [
        (401, "", PermissionError, "got 401 .not logged in, or a token that does not hold.*Set "),
        (403, "", PermissionError, "got 403 .forbidden.*accept its terms"),
        (403, "GatedRepo", PermissionError, "got 403 .forbidden.*accept its terms"),
        (404, "RepoNotFound", FileNotFoundError, "got 404 .no such (repository|model)"),
        (429, "", ConnectionError, "got 429 .too many requests.*Wait"),
        (500, "", ConnectionError, "got 500 .trouble of the server.*later"),
        (503, "", ConnectionError, "got 503 .trouble of the server.*later"),
        (418, "", ConnectionError, "got 418. Look at https://"),
    ],
)
@pytest.mark.parametrize("where", ["status", "file_status"])
def test_answers_are_told_apart(
    either: tuple[str, LoopbackHub],
    where: str,
    status: int,
    code: str,
    kind: type[Exception],
    message: str,
) -> None:
    handle, server = either
    setattr(server, where, status)
    server.error_code = code
    with pytest.raises(
        kind, match=f'preset "{handle}": the hub must give its files, {message}'
    ) as info:
        hub.locate(handle)
    assert type(info.value) is kind
    assert info.value.__cause__ is not None


def test_a_revision_that_is_not_there_is_told_from_a_repository(hugging_face: LoopbackHub) -> None:
    hugging_face.status, hugging_face.error_code = 404, "RevisionNotFound"
    with pytest.raises(FileNotFoundError, match=r"name@v9.*no such revision"):
        hub.locate("hf://org/name@v9")


@pytest.mark.parametrize(("handle", "use"), [(HF, use_hugging_face), (KAGGLE, use_kaggle)])
def test_a_hub_that_is_not_reached_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, handle: str, use: Callable[..., None]
) -> None:
    use(monkeypatch, closed_url(), tmp_path / "cache")
    with pytest.raises(
        ConnectionError, match=r"the hub must be reachable, got .*FUSEQ_PRESETS"
    ) as info:
        hub.locate(handle)
    assert info.value.__cause__ is not None


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_breaks_off_is_an_error_and_the_next_call_completes_it(
    either: tuple[str, LoopbackHub], tmp_path: Path, ranges: bool
) -> None:
    handle, server = either
    server.ranges = ranges
    server.break_at = len(WEIGHTS) // 2
    with pytest.raises(
        ConnectionError, match=r"the download must run to its end, got .*Call again"
    ):
        hub.locate(handle)
    marker = list((tmp_path / "cache").rglob("*.complete"))
    assert not marker  # by which kagglehub tells a whole variant
    if handle == HF:
        assert not list((tmp_path / "cache").rglob("model.weights.h5"))
    server.break_at = None
    assert contents(hub.locate(handle)) == PRESET


@pytest.mark.parametrize("handle", [HF, KAGGLE])
def test_a_full_disk_is_what_it_is(monkeypatch: pytest.MonkeyPatch, handle: str) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("kagglehub.model_download", fail)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", fail)
    with pytest.raises(OSError, match="No space left on device") as info:
        hub.locate(handle)
    assert info.value.errno == errno.ENOSPC


@pytest.mark.parametrize(("handle", "package"), [(HF, "huggingface_hub"), (KAGGLE, "kagglehub")])
def test_a_missing_package_is_told_its_install_line(
    monkeypatch: pytest.MonkeyPatch, handle: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=f'{package} must be installed.*pip install "{package}>='):
        hub.locate(handle)


# Hugging Face


def test_only_files_that_are_read_are_fetched(hugging_face: LoopbackHub) -> None:
    wanted = {"config.json", "model.safetensors", "vocab.txt", "spiece.model", "tokenizer.json"}
    rest = {
        "README.md",
        ".gitattributes",
        "flax_model.msgpack",
        "onnx/model.onnx",
        "onnx/config.json",
        "model.onnx",
        "pytorch_model.bin",
        "rust_model.ot",
        "tf_model.h5",
        "training_args.bin",
    }
    hugging_face.files = {name: name.encode() for name in wanted | rest}
    assert set(contents(hub.locate(HF))) == wanted
    assert hugging_face.fetched() == wanted


def test_pickled_weights_are_fetched_where_there_are_no_others(hugging_face: LoopbackHub) -> None:
    wanted = {
        "config.json",
        "pytorch_model-00001-of-00002.bin",
        "pytorch_model-00002-of-00002.bin",
        "pytorch_model.bin.index.json",
    }
    hugging_face.files = {name: b"x" for name in wanted | {"tf_model.h5", "training_args.bin"}}
    assert set(contents(hub.locate(HF))) == wanted


def test_the_revision_is_asked_for(hugging_face: LoopbackHub) -> None:
    assert hub.locate("hf://org/name@v1.0").name == COMMIT
    asked = [
        path for _, path, _ in hugging_face.requests if path.startswith("/api/models/org/name")
    ]
    assert asked[0] == "/api/models/org/name/revision/v1.0"


def test_a_name_without_an_organisation_is_asked_for(hugging_face: LoopbackHub) -> None:
    hugging_face.status = 404
    with pytest.raises(FileNotFoundError):
        hub.locate("hf://gpt2")
    assert hugging_face.requests[0][1] == "/api/models/gpt2"


def test_a_repository_without_files_of_a_preset_says_what_it_holds(
    hugging_face: LoopbackHub,
) -> None:
    hugging_face.files = {"README.md": b"x"}
    with pytest.raises(FileNotFoundError, match=r"must hold a preset's files .*, got README\.md"):
        hub.locate(HF)


def test_a_handle_that_hugging_face_refuses_is_a_wrong_value(hugging_face: LoopbackHub) -> None:
    with pytest.raises(ValueError, match='preset "hf://a--b": must be a handle of a model, got'):
        hub.locate("hf://a--b")


@pytest.mark.parametrize("broken", ["unreachable", "in trouble"])
def test_the_cache_is_used_with_a_warning_where_the_hub_does_not_work(
    monkeypatch: pytest.MonkeyPatch, hugging_face: LoopbackHub, tmp_path: Path, broken: str
) -> None:
    folder = hub.locate(HF)
    if broken == "unreachable":
        use_hugging_face(monkeypatch, closed_url(), tmp_path / "cache")
    else:
        hugging_face.status = 503
    with pytest.warns(UserWarning, match="The files of the cache are used"):
        assert hub.locate(HF) == folder


def test_offline_without_the_files_says_offline(
    monkeypatch: pytest.MonkeyPatch, hugging_face: LoopbackHub
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match="while HF_HUB_OFFLINE is set, got none"):
        hub.locate(HF)
    assert not hugging_face.requests


def test_offline_with_half_the_files_says_offline(
    monkeypatch: pytest.MonkeyPatch, hugging_face: LoopbackHub
) -> None:
    hugging_face.break_at = len(WEIGHTS) // 2
    with pytest.raises(ConnectionError):
        hub.locate(HF)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match="as a whole while HF_HUB_OFFLINE is set"):
        hub.locate(HF)


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_the_settings_of_the_environment_hold_and_the_cache_serves_offline(
    server: LoopbackHub, tmp_path: Path, weights: str
) -> None:
    server.files = {"config.json": b"{}", weights: WEIGHTS}
    if weights == "model.safetensors":
        server.files["pytorch_model.bin"] = b"not wanted"
    script = "from fuseq import hub; print(hub.locate('hf://org/name'))"
    settings = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "HF_HOME": str(tmp_path / "hf"),
        "HF_ENDPOINT": server.url,
    }

    def run(**more: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", script],
            env={**settings, **more},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    folder = run()
    assert contents(Path(folder)) == {"config.json": b"{}", weights: WEIGHTS}
    assert Path(folder).is_relative_to(tmp_path / "hf")
    asked = len(server.requests)
    assert run(HF_HUB_OFFLINE="1") == folder
    assert len(server.requests) == asked


# Kaggle


def test_a_name_is_fetched_by_its_handle(kaggle: LoopbackHub, tmp_path: Path) -> None:
    folder = hub.locate("bart_base_en")
    assert (
        folder == tmp_path / "cache" / "models" / "keras" / "bart" / "keras" / "bart_base_en" / "3"
    )
    assert contents(folder) == PRESET


def test_a_variant_of_many_files_comes_as_an_archive(kaggle: LoopbackHub) -> None:
    kaggle.has_more = True
    assert contents(hub.locate(KAGGLE)) == PRESET
    assert kaggle.fetched() == {"archive.tar.gz"}


def test_a_handle_without_a_version_is_the_newest(kaggle: LoopbackHub) -> None:
    assert hub.locate("kaggle://keras/bart/keras/bart_base_en").name == "7"


def test_a_version_in_the_cache_needs_no_network(
    monkeypatch: pytest.MonkeyPatch, kaggle: LoopbackHub, tmp_path: Path
) -> None:
    folder = hub.locate(KAGGLE)
    use_kaggle(monkeypatch, closed_url(), tmp_path / "cache")
    assert hub.locate(KAGGLE) == folder


def test_a_download_goes_on_where_it_broke_off(kaggle: LoopbackHub, tmp_path: Path) -> None:
    written = 2**21  # kagglehub writes 1 MiB at a time
    kaggle.files["model.weights.h5"] = WEIGHTS * 40
    kaggle.break_at = written + 1000
    with pytest.raises(ConnectionError):
        hub.locate(KAGGLE)
    assert not list((tmp_path / "cache").rglob("*.complete"))
    kaggle.break_at = None
    assert contents(hub.locate(KAGGLE)) == kaggle.files
    ranges = {path: asked for _, path, asked in kaggle.requests if asked}
    assert ranges == {"/kaggle-files/model.weights.h5": f"bytes={written}-"}


def test_a_file_that_is_damaged_on_the_way_is_an_error(kaggle: LoopbackHub) -> None:
    kaggle.wrong_hash = True
    with pytest.raises(ConnectionError, match="must run to its end, got DataCorruptionError"):
        hub.locate(KAGGLE)


def test_a_framework_that_kaggle_does_not_have_is_a_wrong_value(kaggle: LoopbackHub) -> None:
    with pytest.raises(
        ValueError, match="must be a handle of a model, got: 'abacus' is not a valid"
    ):
        hub.locate("kaggle://keras/bart/abacus/bart_base_en/3")
