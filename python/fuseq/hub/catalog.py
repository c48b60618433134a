# SPDX-License-Identifier: Apache-2.0
"""The presets that have a name: those in the package, those of KerasHub; families not here."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

FAMILY_TITLES: Mapping[str, str] = MappingProxyType({"bart": "BART", "gpt2": "GPT-2"})


@dataclass(frozen=True)
class PresetInfo:
    """One named preset.

    Attributes:
        name: Its name, as `from_preset` takes it.
        family: "bart" or "gpt2".
        params: The number of weights.
        description: What it is, in a sentence or two.
        kaggle_handle: Where its files are; None: in the package.
    """

    name: str
    family: str
    params: int
    description: str
    kaggle_handle: str | None

    def as_keras_hub(self) -> dict[str, Any]:
        """The preset as KerasHub's `presets` shows it.

        Returns:
            A dict of metadata (description, params, path) and, if it has one, kaggle_handle.

        Example:
            >>> presets("bart")["bart_base_en"].as_keras_hub()["kaggle_handle"]
            'kaggle://keras/bart/keras/bart_base_en/3'
        """
        row: dict[str, Any] = {
            "metadata": {
                "description": self.description,
                "params": self.params,
                "path": self.family,
            },
        }
        if self.kaggle_handle is not None:
            row["kaggle_handle"] = self.kaggle_handle
        return row


def _row(name: str, params: int, description: str, *, version: int = 3) -> PresetInfo:
    """A row whose family is the first word of its name."""
    family = name.partition("_")[0]
    handle = f"kaggle://keras/{family}/keras/{name}/{version}"
    return PresetInfo(name, family, params, description, handle)


_ROWS = (
    _row(
        "bart_base_en",
        139_417_344,
        "BART with 6 layers on each side, case kept. Trained on BookCorpus, English Wikipedia and "
        "CommonCrawl.",
    ),
    _row(
        "bart_large_en",
        406_287_360,
        "BART with 12 layers on each side, case kept. Trained on BookCorpus, English Wikipedia and "
        "CommonCrawl.",
    ),
    _row(
        "bart_large_en_cnn",
        406_287_360,
        "bart_large_en, further trained to summarise on the CNN and Daily Mail articles.",
    ),
    _row(
        "gpt2_base_en",
        124_439_808,
        "GPT-2 with 12 layers, case kept. Trained on WebText.",
    ),
    _row(
        "gpt2_medium_en",
        354_823_168,
        "GPT-2 with 24 layers, case kept. Trained on WebText.",
    ),
    _row(
        "gpt2_large_en",
        774_030_080,
        "GPT-2 with 36 layers, case kept. Trained on WebText.",
    ),
    _row(
        "gpt2_extra_large_en",
        1_557_611_200,
        "GPT-2 with 48 layers, case kept. Trained on WebText.",
    ),
    _row(
        "gpt2_base_en_cnn_dailymail",
        124_439_808,
        "gpt2_base_en, further trained to summarise on the CNN and Daily Mail articles.",
    ),
    PresetInfo(
        "g2p_en",
        "bart",
        1_992_032,
        "A small BART that turns English words into phonemes, ARPAbet with stress. Comes with "
        "fuseq, trained on the CMU Pronouncing Dictionary.",
        kaggle_handle=None,
    ),
)

# How the names of a family's presets begin in KerasHub 0.32; the longest that fits counts.
KNOWN_FAMILIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "ALBERT": ("albert",),
        "BERT": (
            "bert",
            "all_minilm",
            "paraphrase_minilm",
            "multi_qa_minilm",
            "msmarco_minilm",
            "bge",
            "multilingual_e5",
            "mxbai_embed",
        ),
        "BLOOM": ("bloom", "bloomz"),
        "DeBERTaV3": ("deberta_v3",),
        "DistilBERT": ("distil_bert",),
        "ELECTRA": ("electra",),
        "ESM": ("esm",),
        "FNet": ("f_net",),
        "Falcon": ("falcon",),
        "Gemma": ("gemma", "code_gemma", "shieldgemma", "vault_gemma", "c2s_scale_gemma"),
        "Gemma 3": (
            "gemma3",
            "gemma3n",
            "medgemma",
            "function_gemma",
            "translategemma",
            "embedding_gemma",
            "harrier_embedding_oss_270m",
        ),
        "Gemma 4": ("gemma4",),
        "GPT-OSS": ("gpt_oss",),
        "Llama": ("llama", "vicuna"),
        "Mistral": ("mistral", "magistral"),
        "Mixtral": ("mixtral",),
        "Moonshine": ("moonshine",),
        "OPT": ("opt",),
        "PaliGemma": ("pali_gemma",),
        "Phi-3": ("phi3",),
        "Qwen": ("qwen", "qwen_agent_world", "harrier_embedding_oss_0.6b"),
        "RWKV-7": ("rwkv7",),
        "RoBERTa": ("roberta",),
        "SmolLM3": ("smollm3",),
        "T5": ("t5", "flan"),
        "T5Gemma": ("t5gemma",),
        "Whisper": ("whisper",),
        "XLM-RoBERTa": (
            "xlm_roberta",
            "bge_m3",
            "multilingual_e5_base",
            "multilingual_e5_large",
        ),
    }
)


def presets(family: str | None = None) -> dict[str, PresetInfo]:
    """The presets that have a name.

    Args:
        family: "bart" or "gpt2"; None: both.

    Returns:
        Their rows by name: KerasHub's in its order, then those in the package.

    Raises:
        ValueError: There is no such family.

    Example:
        >>> list(presets("bart"))
        ['bart_base_en', 'bart_large_en', 'bart_large_en_cnn', 'g2p_en']
    """
    if family is not None and family not in FAMILY_TITLES:
        raise ValueError(f"family: must be one of {', '.join(FAMILY_TITLES)}, got {family!r}")
    return {row.name: row for row in _ROWS if family in (None, row.family)}


def keras_hub_rows(family: str | None = None) -> dict[str, dict[str, Any]]:
    """The presets that have a name, as the property `presets` of KerasHub's classes shows them.

    Args:
        family: "bart" or "gpt2"; None: both.

    Returns:
        New dicts of metadata and, but for presets in the package, kaggle_handle, by name.

    Raises:
        ValueError: There is no such family.

    Example:
        >>> keras_hub_rows("gpt2")["gpt2_base_en"]["metadata"]["params"]
        124439808
    """
    return {name: row.as_keras_hub() for name, row in presets(family).items()}


def family_not_here(name: str) -> str | None:
    """The family of a preset of KerasHub that this library does not have.

    Args:
        name: A preset's name.

    Returns:
        The family's title, or None where the name belongs to none.

    Example:
        >>> family_not_here("gemma2_instruct_9b_en")
        'Gemma'
    """
    best = max(
        (
            (len(prefix), title)
            for title, prefixes in KNOWN_FAMILIES.items()
            for prefix in prefixes
            if name.startswith(prefix) and not name[len(prefix) : len(prefix) + 1].isalpha()
        ),
        default=None,
    )
    return best[1] if best is not None else None
