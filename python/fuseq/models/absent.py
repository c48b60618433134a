# SPDX-License-Identifier: Apache-2.0
"""Names that KerasHub has and fuseq has not: one sentence that says so."""

# How KerasHub's class names of a family begin; the longest first.
_FAMILIES = {
    "TextClassifier": "BERT (text classification)",
    "MaskedLM": "BERT (masked language models)",
    "Albert": "ALBERT",
    "Bert": "BERT",
    "Bloom": "BLOOM",
    "Deberta": "DeBERTa",
    "DistilBert": "DistilBERT",
    "Electra": "ELECTRA",
    "FNet": "FNet",
    "Falcon": "Falcon",
    "Gemma": "Gemma",
    "Llama": "Llama",
    "Mistral": "Mistral",
    "Mixtral": "Mixtral",
    "OPT": "OPT",
    "Phi3": "Phi-3",
    "Qwen": "Qwen",
    "Roberta": "RoBERTa",
    "T5": "T5",
    "Whisper": "Whisper",
    "XLMRoberta": "XLM-RoBERTa",
}


def absent_class(name: str) -> str:
    """What to say of a class that is not there.

    Args:
        name: The class that was asked for.

    Returns:
        A sentence, with the family if KerasHub has the class.
    """
    family = next((word for start, word in _FAMILIES.items() if name.startswith(start)), None)
    if family is None:
        return f"module 'fuseq.models' has no attribute {name!r}"
    return (
        f"fuseq.models.{name}: the family must be BART or GPT-2, got {family}, which fuseq does "
        "not have yet"
    )
