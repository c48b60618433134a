# SPDX-License-Identifier: Apache-2.0
"""Where presets come from: folders, names and handles."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuseq import hub
from fuseq.hub import folders
from loopback_hub import KAGGLE, make_preset

pytest_plugins = ("hub_fixtures",)
pytestmark = pytest.mark.usefixtures("alone")

NOT_HERE = {
    "Gemma": """gemma_2b_en gemma_instruct_2b_en gemma_1.1_instruct_2b_en gemma_7b_en
        gemma_instruct_7b_en gemma_1.1_instruct_7b_en gemma2_2b_en gemma2_instruct_2b_en
        gemma2_9b_en gemma2_instruct_9b_en gemma2_27b_en gemma2_instruct_27b_en code_gemma_2b_en
        code_gemma_7b_en code_gemma_1.1_2b_en code_gemma_instruct_7b_en vault_gemma_1b_en
        code_gemma_1.1_instruct_7b_en shieldgemma_2b_en shieldgemma_9b_en shieldgemma_27b_en
        c2s_scale_gemma_2_2b_en c2s_scale_gemma_2_27b_en""",
    "Mistral": """mistral_7b_en mistral_instruct_7b_en mistral_0.2_instruct_7b_en
        mistral_0.3_7b_en mistral_0.3_instruct_7b_en magistral_small_2506_en
        magistral_small_2507_en""",
    "BERT": """bert_tiny_en_uncased bert_small_en_uncased bert_medium_en_uncased
        bert_base_en_uncased bert_base_en bert_base_zh bert_base_multi bert_large_en_uncased
        bert_large_en bert_tiny_en_uncased_sst2 all_minilm_l6_v2_en bge_small_v1.5_en
        mxbai_embed_large_v1_en multilingual_e5_small""",
    "T5": """t5_small_multi t5_base_multi t5_large_multi t5_1.1_xxl flan_small_multi
        flan_base_multi flan_large_multi""",
    "XLM-RoBERTa": "bge_m3 multilingual_e5_base",
    "Gemma 3": "gemma3_1b",
    "T5Gemma": "t5gemma_b_b_ul2",
    "OPT": "opt_125m_en",
}


def listed_presets() -> dict[str, Path]:
    """Those that are here, without the shipped one."""
    return {name: folder for name, folder in hub.available().items() if name != "g2p_en"}


# Folders


@pytest.mark.parametrize("as_path", [str, Path])
def test_a_folder_is_itself(tmp_path: Path, as_path: type[str] | type[Path]) -> None:
    assert hub.locate(as_path(tmp_path)) == tmp_path


def test_a_folder_may_be_relative_or_at_home(tmp_path: Path) -> None:
    make_preset(tmp_path / "mine")
    home = make_preset(tmp_path / "home" / "mine")
    assert hub.locate("./mine") == Path("mine")
    assert hub.locate("mine") == Path("mine")
    assert hub.locate("~/mine") == home


@pytest.mark.parametrize("preset", ["./nothing", "some/where/else", "/no/folder", "C:\\models\\x"])
def test_a_path_that_is_not_there_is_named(preset: str) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"must be a folder that exists, got none\.$"
    ) as info:
        hub.locate(preset)
    assert f'preset "{preset}"' in str(info.value)


def test_a_path_object_that_is_not_there_is_never_a_name() -> None:
    with pytest.raises(FileNotFoundError, match="must be a folder that exists"):
        hub.locate(Path("bart_base_en"))


def test_a_path_like_a_repository_is_told_the_scheme() -> None:
    with pytest.raises(FileNotFoundError, match='If you mean Hugging Face, say "hf://org/name"'):
        hub.locate("org/name")


def test_a_file_is_no_preset(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(NotADirectoryError, match="must be a folder, got a file"):
        hub.locate(tmp_path / "config.json")


def test_a_preset_is_text_or_a_path() -> None:
    with pytest.raises(TypeError, match=r"preset: must be a folder, a name .*, got int"):
        hub.locate(3)  # type: ignore[arg-type]


# FUSEQ_PRESETS


@pytest.mark.parametrize(
    ("preset", "sub_path"),
    [
        ("bart_base_en", "bart_base_en"),
        ("bart_base_en", "keras/bart/keras/bart_base_en/3"),
        ("of_our_own", "of_our_own"),
        ("gemma_2b_en", "gemma_2b_en"),
        (KAGGLE, "keras/bart/keras/bart_base_en/3"),
        (KAGGLE, "bart_base_en"),
        ("kaggle://keras/gemma/keras/gemma_2b_en/3", "gemma_2b_en"),
        ("hf://org/name", "org/name"),
        ("hf://name", "name"),
        ("hf://org/name@v1.0", "org/name@v1.0"),
    ],
)
def test_the_listed_folders_serve_names_and_handles(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, preset: str, sub_path: str
) -> None:
    folder = make_preset(tmp_path / "listed" / sub_path)
    monkeypatch.setenv(
        "FUSEQ_PRESETS", os.pathsep.join(["", "/no/folder", str(tmp_path / "listed")])
    )
    assert hub.locate(preset) == folder


def test_the_first_listed_folder_wins_over_the_next_one_and_over_one_right_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first, second = (make_preset(tmp_path / part / "bart_base_en") for part in ("one", "two"))
    make_preset(tmp_path / "bart_base_en")
    monkeypatch.setenv("FUSEQ_PRESETS", os.pathsep.join([str(first.parent), str(second.parent)]))
    assert hub.locate("bart_base_en") == first
    assert hub.available()["bart_base_en"] == first


def test_a_listed_folder_without_json_files_is_no_preset(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "listed" / "of_our_own").mkdir(parents=True)
    monkeypatch.setenv("FUSEQ_PRESETS", str(tmp_path / "listed"))
    with pytest.raises(ValueError, match=f"FUSEQ_PRESETS is {tmp_path / 'listed'}"):
        hub.locate("of_our_own")


def test_a_listed_folder_that_cannot_be_read_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    good = make_preset(tmp_path / "listed" / "tiny")
    closed = make_preset(tmp_path / "listed" / "closed")
    read = Path.iterdir

    def refuse(path: Path) -> Iterator[Path]:
        if path == closed:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    too_long = tmp_path / ("x" * 300)
    monkeypatch.setenv("FUSEQ_PRESETS", os.pathsep.join([str(too_long), str(good.parent)]))
    assert hub.locate("tiny") == good
    assert listed_presets() == {"tiny": good}
    with pytest.raises(ValueError, match=r"got no known name\. Did you mean tiny\?"):
        hub.locate("tinny")
    with pytest.raises(ValueError, match="got no known name"):
        hub.locate("closed")


def test_the_home_of_an_unknown_user_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=r'"~nosuchuser/x": must be .* an unknown user'):
        hub.locate("~nosuchuser/x")
    monkeypatch.setenv("FUSEQ_PRESETS", "~nosuchuser/x")
    for call in (hub.available, lambda: hub.locate("tiny")):
        with pytest.raises(ValueError, match=r'FUSEQ_PRESETS: must .*, got "~nosuchuser/x"'):
            call()


def test_names_and_paths_that_are_too_long_are_told() -> None:
    with pytest.raises(ValueError, match=r'preset "x{300}": must be .* got no known name'):
        hub.locate("x" * 300)
    with pytest.raises(FileNotFoundError, match=r"/x{300}\": must be .*, got: File name too long"):
        hub.locate("./" + "x" * 300)


def test_a_path_that_may_not_be_looked_at_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_dir", refuse)
    with pytest.raises(PermissionError, match=r'"\./x": must be .*, got: Permission denied'):
        hub.locate("./x")


def test_the_presets_of_the_folders_have_the_names_of_their_handles(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = make_preset(tmp_path / "one" / "keras/bart/keras/bart_base_en/3")
    make_preset(tmp_path / "two" / "bart_base_en")
    listed = [str(tmp_path / "one"), str(tmp_path / "two")]
    monkeypatch.setenv("FUSEQ_PRESETS", os.pathsep.join(listed))
    assert listed_presets() == {"bart_base_en": first}
    assert hub.locate("bart_base_en") == first
    direct = make_preset(tmp_path / "one" / "bart_base_en")
    assert listed_presets() == {"bart_base_en": direct}
    assert hub.locate("bart_base_en") == direct


def test_shipped_presets_come_after_the_listed_ones(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shipped = make_preset(tmp_path / "shipped" / "tiny")
    monkeypatch.setattr("fuseq.hub.folders.shipped_folder", lambda: shipped.parent)
    assert hub.locate("tiny") == shipped
    assert hub.available() == {"tiny": shipped}
    listed = make_preset(tmp_path / "listed" / "tiny")
    monkeypatch.setenv("FUSEQ_PRESETS", str(listed.parent))
    assert hub.locate("tiny") == listed
    assert hub.available() == {"tiny": listed}


def test_a_folder_here_hides_a_built_in_name_only_if_it_holds_a_preset(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shipped = make_preset(tmp_path / "shipped" / "g2p_en")
    monkeypatch.setattr("fuseq.hub.folders.shipped_folder", lambda: shipped.parent)
    (tmp_path / "here" / "g2p_en").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    assert hub.locate("g2p_en") == shipped
    (tmp_path / "here" / "g2p_en" / "spec.json").write_text("{}")
    assert hub.locate("g2p_en") == Path("g2p_en")


def test_a_shipped_preset_that_is_not_there_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("fuseq.hub.folders.shipped_folder", lambda: tmp_path)
    with pytest.raises(FileNotFoundError, match=r'"g2p_en": must lie in the package, got none'):
        hub.locate("g2p_en")


def test_shipped_presets_lie_in_the_package() -> None:
    assert folders.shipped_folder() == Path(folders.__file__).parents[1] / "shipped"


# Names


def test_the_names_are_the_shipped_one_and_those_of_keras_hub() -> None:
    rows = hub.presets()
    assert {name: (row.params, row.kaggle_handle) for name, row in rows.items()} == {
        "g2p_en": (1_992_032, None),
        "bart_base_en": (139_417_344, KAGGLE),
        "bart_large_en": (406_287_360, KAGGLE.replace("base", "large")),
        "bart_large_en_cnn": (406_287_360, "kaggle://keras/bart/keras/bart_large_en_cnn/3"),
        "gpt2_base_en": (124_439_808, "kaggle://keras/gpt2/keras/gpt2_base_en/3"),
        "gpt2_medium_en": (354_823_168, "kaggle://keras/gpt2/keras/gpt2_medium_en/3"),
        "gpt2_large_en": (774_030_080, "kaggle://keras/gpt2/keras/gpt2_large_en/3"),
        "gpt2_extra_large_en": (1_557_611_200, "kaggle://keras/gpt2/keras/gpt2_extra_large_en/3"),
        "gpt2_base_en_cnn_dailymail": (
            124_439_808,
            "kaggle://keras/gpt2/keras/gpt2_base_en_cnn_dailymail/3",
        ),
    }
    assert {**hub.presets("bart"), **hub.presets("gpt2")} == rows
    assert len(hub.presets("bart")) == 4


def test_rows_have_the_shape_of_keras_hub() -> None:
    row = hub.keras_hub_rows("bart")["bart_base_en"]
    description = row["metadata"]["description"]
    assert row == {
        "metadata": {"description": description, "params": 139_417_344, "path": "bart"},
        "kaggle_handle": KAGGLE,
    }
    assert set(hub.keras_hub_rows()["g2p_en"]) == {"metadata"}
    row["metadata"].clear()
    assert hub.keras_hub_rows()["bart_base_en"]["metadata"]["description"] == description


def test_a_family_without_names_is_refused() -> None:
    with pytest.raises(ValueError, match="family: must be one of bart, gpt2, got 'gemma'"):
        hub.presets("gemma")


@pytest.mark.parametrize(
    ("family", "name"),
    [(family, name) for family, names in NOT_HERE.items() for name in names.split()],
)
def test_a_name_of_another_family_names_it(family: str, name: str) -> None:
    message = rf"library has \(BART, GPT-2\), got one of {family}\. Choose one of bart_base_en"
    with pytest.raises(ValueError, match=message):
        hub.locate(name)


def test_a_handle_of_another_family_is_refused_before_gigabytes_are_fetched() -> None:
    with pytest.raises(ValueError, match="got one of Gemma"):
        hub.locate("kaggle://keras/gemma/keras/gemma_2b_en/3")


def test_an_unknown_name_is_told_the_close_ones(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"Did you mean bart_base_en or .*FUSEQ_PRESETS names no"):
        hub.locate("bart_bse_en")
    make_preset(tmp_path / "listed" / "of_our_own")
    monkeypatch.setenv("FUSEQ_PRESETS", str(tmp_path / "listed"))
    with pytest.raises(ValueError, match=r"Did you mean of_our_own\?"):
        hub.locate("of_our_onw")


@pytest.mark.parametrize("name", ["", "zzz", "bartender", "optimum"])
def test_an_unknown_name_is_told_what_a_preset_can_be(name: str) -> None:
    message = r"must be a folder, a name .*kaggle://org.*hf://org/name.*, got no known name"
    with pytest.raises(ValueError, match=message):
        hub.locate(name)


# Handles


@pytest.mark.parametrize(
    "handle",
    [
        "kaggle://",
        "kaggle://keras/bart/keras",
        "kaggle://keras/bart/keras/bart_base_en/3/4",
        "kaggle://keras/bart/keras/bart_base_en/",
        "kaggle://keras/bart/keras/bart_base_en/latest",
        "kaggle://keras/bart/keras/bart_base_en/0",
        "kaggle://keras/../keras/bart_base_en",
        "kaggle://keras/bart/keras/..\\..",
        "kaggle://C:/bart/keras/bart_base_en",
        "hf://",
        "hf://org/name/file",
        "hf:///name",
        "hf://..",
        "hf://org/..",
        "hf://org/.hidden",
        "hf://org/a..b",
        "hf://org\\name",
        "hf://C:/name",
        "hf://org/name@",
        "hf://org/name@../main",
        "hf://org/name@v1/../../x",
        "hf://org/na me",
        "hf://org/name\n",
    ],
)
def test_malformed_handles_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, handle: str
) -> None:
    monkeypatch.setenv("FUSEQ_PRESETS", str(make_preset(tmp_path / "org")))
    with pytest.raises(ValueError, match=r'preset "(.|\n)*": must have .*, got '):
        hub.locate(handle)


@pytest.mark.parametrize("scheme", ["gs", "modelscope", "http", "https", "s3", ""])
def test_other_schemes_are_told_those_there_are(scheme: str) -> None:
    with pytest.raises(ValueError, match=rf"kaggle://.*hf://.*, got the scheme {scheme}://"):
        hub.locate(f"{scheme}://bucket/preset")


def test_a_link_to_hugging_face_is_told_its_handle() -> None:
    with pytest.raises(ValueError, match='Say "hf://org/name"'):
        hub.locate("https://huggingface.co/org/name/")


@pytest.mark.parametrize(
    "handle", [KAGGLE, KAGGLE[:-2], "hf://a/b", "hf://a", "hf://a/b@refs/pr/1"]
)
def test_a_handle_is_read_and_written_back(handle: str) -> None:
    assert str(hub.parse_handle(handle)) == handle
