# SPDX-License-Identifier: Apache-2.0
"""The preset in the package is small, has its papers, and is as good as its card says."""

import json
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

import fuseq
import numpy as np
import pytest
from fuseq import hub

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "pronunciation"
LARGEST = 4_000_000  # bytes of a wheel

STRESSES = ("", "_without_stress")

# Words of the part of the dictionary that was kept apart, as it prints them.
SPOKEN = {
    "roadrunner": "R OW1 D R AH2 N ER0",
    "therapist": "TH EH1 R AH0 P IH0 S T",
    "flabbergast": "F L AE1 B ER0 G AE2 S T",
    "customize": "K AH1 S T AH0 M AY2 Z",
    "boutique": "B UW0 T IY1 K",
    "borderline": "B AO1 R D ER0 L AY2 N",
    "fortifications": "F AO2 R T AH0 F AH0 K EY1 SH AH0 N Z",
    "convocation": "K AA2 N V AH0 K EY1 SH AH0 N",
    "deduction": "D IH0 D AH1 K SH AH0 N",
    "estuary": "EH1 S CH UW0 EH2 R IY0",
    "cockney": "K AA1 K N IY0",
    "collide": "K AH0 L AY1 D",
    "exactly": "IH0 G Z AE1 K T L IY0",
    "conditional": "K AH0 N D IH1 SH AH0 N AH0 L",
    "blistering": "B L IH1 S T ER0 IH0 NG",
}


@pytest.fixture(autouse=True)
def no_other_presets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FUSEQ_PRESETS", raising=False)


@pytest.fixture
def folder() -> Path:
    return hub.locate("g2p_en")


@pytest.fixture
def g2p() -> fuseq.Seq2SeqLM:
    lm = fuseq.Seq2SeqLM.from_preset("g2p_en", dtype="float32")
    lm.compile(sampler="preset")
    return lm


@pytest.fixture
def dictionary(monkeypatch: pytest.MonkeyPatch, test_data: Path) -> Any:
    """The example's module, its words that were trained on, and those that were not."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    monkeypatch.delitem(sys.modules, "dictionary", raising=False)
    import dictionary

    return dictionary, *dictionary.read_parts(test_data / "corpora" / "cmudict")


def rows() -> list[dict[str, Any]]:
    """What examples/pronunciation/evaluate.py wrote."""
    found: list[dict[str, Any]] = json.loads((EXAMPLE / "errors.json").read_text())
    return found


def test_it_takes_little_of_a_wheel(folder: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "wheel", "w", zipfile.ZIP_DEFLATED) as wheel:
        for path in folder.rglob("*"):
            wheel.write(path, path.relative_to(folder))
    assert (tmp_path / "wheel").stat().st_size <= LARGEST
    backbone = fuseq.models.Backbone.from_preset("g2p_en")
    assert backbone.dtype == "bfloat16"
    assert backbone.count_params() == hub.presets()["g2p_en"].params <= 2_000_000


def test_it_says_what_it_is_made_of(folder: Path) -> None:
    card = (folder / "README.md").read_text(encoding="utf-8")
    for part in ("## Data", "## Training", "## Figures", "## Limits", "LICENSE.cmudict"):
        assert part in card
    assert "Carnegie Mellon University" in (folder / "LICENSE.cmudict").read_text()


def test_card_and_recipe_print_what_was_measured(folder: Path) -> None:
    pages = [folder / "README.md", ROOT / "docs" / "recipes.md"]
    texts = [page.read_text(encoding="utf-8") for page in pages]
    assert len(rows()) >= 8
    for row in rows():
        names = [f"{what}_error_rate{how}" for what in ("word", "phoneme") for how in STRESSES]
        rates = " | ".join(f"{row[name]:.2f}" for name in names)
        line = f"| {row['preset']} | {row['dtype']} | {row['num_beams']} | {rates} |"
        assert all(line in text for text in texts), line


def test_it_says_words_that_it_has_not_seen(g2p: fuseq.Seq2SeqLM) -> None:
    assert dict(zip(SPOKEN, g2p.generate(list(SPOKEN)), strict=True)) == SPOKEN


def test_capitals_are_letters(g2p: fuseq.Seq2SeqLM) -> None:
    words = list(SPOKEN)
    assert g2p.generate([word.capitalize() for word in words]) == g2p.generate(words)


def test_the_words_that_are_shown_were_kept_apart(dictionary: Any) -> None:
    _, trained, kept_apart = dictionary
    assert not set(trained) & set(kept_apart)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^pip install .* --preset g2p_en (.*)$", readme, re.MULTILINE)
    for word in (*SPOKEN, *shown.split()):
        assert word in kept_apart
        assert word not in trained
    for word, pronunciation in SPOKEN.items():
        assert pronunciation in kept_apart[word]


def test_its_errors_are_those_of_the_card(dictionary: Any) -> None:
    module, _, words = dictionary
    lm = fuseq.Seq2SeqLM.from_preset("g2p_en")
    some = dict(list(words.items())[::8])
    rates = module.error_rates(lm.generate(list(some), sampler="preset"), some.values())
    (row,) = (
        row
        for row in rows()
        if (row["preset"], row["dtype"], row["num_beams"]) == ("g2p_en", "bfloat16", 4)
    )
    assert row["words"] == len(words)
    for name, rate in rates.items():  # an eighth of the words: three deviations
        assert rate == pytest.approx(row[name], abs=4.0 if "word" in name else 1.5)


@pytest.mark.parametrize("num_beams", [1, 4])
def test_transformers_says_the_same(g2p: fuseq.Seq2SeqLM, tmp_path: Path, num_beams: int) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    g2p.save_to_preset(tmp_path / "hf", format="transformers")
    peer = transformers.BartForConditionalGeneration.from_pretrained(tmp_path / "hf").eval()
    peer.generation_config.forced_bos_token_id = None  # given below: it would count as new
    words = [*SPOKEN, "hello", "blockchain", "kubernetes", "o'clock"]
    inputs = g2p.preprocessor.generate_preprocess(words)
    with torch.no_grad():
        found = peer.generate(
            input_ids=torch.as_tensor(np.asarray(inputs["encoder_token_ids"])).long(),
            attention_mask=torch.as_tensor(np.asarray(inputs["encoder_padding_mask"])).long(),
            decoder_input_ids=torch.tensor([[2, 0]] * len(words)),
            num_beams=num_beams,
        ).tolist()
    made = g2p.generate(
        words, sampler=fuseq.samplers.BeamSampler(num_beams), max_length=64, return_scores=True
    )
    for ids, generation in zip(found, made, strict=True):
        length = len(generation.token_ids)
        assert ids[:length] == generation.token_ids
        assert set(ids[length:]) <= {1}  # padding
