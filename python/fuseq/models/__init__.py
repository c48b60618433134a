# SPDX-License-Identifier: Apache-2.0
"""Tasks, backbones, preprocessors and tokenizers, under KerasHub's names; and models of ids."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fuseq.models.backbone import Backbone
    from fuseq.models.bart import BartBackbone, BartSeq2SeqLM, BartSeq2SeqLMPreprocessor
    from fuseq.models.causal_lm import CausalLM
    from fuseq.models.causal_lm_preprocessor import CausalLMPreprocessor
    from fuseq.models.folders import (
        export_transformers,
        load_generation_options,
        load_model,
        save_model,
    )
    from fuseq.models.generation import Generation
    from fuseq.models.gpt2 import GPT2Backbone, GPT2CausalLM, GPT2CausalLMPreprocessor
    from fuseq.models.preprocessor import Preprocessor
    from fuseq.models.seq2seq_lm import Seq2SeqLM
    from fuseq.models.seq2seq_lm_preprocessor import Seq2SeqLMPreprocessor
    from fuseq.models.task import Task
    from fuseq.tokenizers import BartTokenizer, GPT2Tokenizer, Tokenizer

_HOMES = {
    "Backbone": "fuseq.models.backbone",
    "BartBackbone": "fuseq.models.bart",
    "BartSeq2SeqLM": "fuseq.models.bart",
    "BartSeq2SeqLMPreprocessor": "fuseq.models.bart",
    "BartTokenizer": "fuseq.tokenizers",
    "CausalLM": "fuseq.models.causal_lm",
    "CausalLMPreprocessor": "fuseq.models.causal_lm_preprocessor",
    "GPT2Backbone": "fuseq.models.gpt2",
    "GPT2CausalLM": "fuseq.models.gpt2",
    "GPT2CausalLMPreprocessor": "fuseq.models.gpt2",
    "GPT2Tokenizer": "fuseq.tokenizers",
    "Generation": "fuseq.models.generation",
    "Preprocessor": "fuseq.models.preprocessor",
    "Seq2SeqLM": "fuseq.models.seq2seq_lm",
    "Seq2SeqLMPreprocessor": "fuseq.models.seq2seq_lm_preprocessor",
    "Task": "fuseq.models.task",
    "Tokenizer": "fuseq.tokenizers",
    "export_transformers": "fuseq.models.folders",
    "load_generation_options": "fuseq.models.folders",
    "load_model": "fuseq.models.folders",
    "save_model": "fuseq.models.folders",
}

__all__ = [
    "Backbone",
    "BartBackbone",
    "BartSeq2SeqLM",
    "BartSeq2SeqLMPreprocessor",
    "BartTokenizer",
    "CausalLM",
    "CausalLMPreprocessor",
    "GPT2Backbone",
    "GPT2CausalLM",
    "GPT2CausalLMPreprocessor",
    "GPT2Tokenizer",
    "Generation",
    "Preprocessor",
    "Seq2SeqLM",
    "Seq2SeqLMPreprocessor",
    "Task",
    "Tokenizer",
    "export_transformers",
    "load_generation_options",
    "load_model",
    "save_model",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    from fuseq.models.absent import absent_class

    raise AttributeError(absent_class(name))


def __dir__() -> list[str]:
    return __all__
