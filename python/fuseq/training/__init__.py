# SPDX-License-Identifier: Apache-2.0
"""Training on torch's autograd: the one package of fuseq that imports torch."""

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError(
        'fuseq.training: torch must be installed, got none. Run: pip install "fuseq[train]"'
    ) from error

from fuseq.training.adapters import merge_lora
from fuseq.training.evaluating import evaluate
from fuseq.training.fit_options import FitOptions
from fuseq.training.fitting import FitArguments, fit
from fuseq.training.lora import enable_lora
from fuseq.training.lora_files import load_lora, save_lora
from fuseq.training.one_batch import set_parameters, test_on_batch, train_on_batch
from fuseq.training.peft_adapter import enable_peft
from fuseq.training.peft_format import load_peft, save_peft
from fuseq.training.setup import training_of
from fuseq.training.text_evaluation import read_text_evaluation
from fuseq.training.torch_module import TransformerModule
from fuseq.training.trainer import NonFiniteLossError
from fuseq.training.weights import module_of

__all__ = [
    "FitArguments",
    "FitOptions",
    "NonFiniteLossError",
    "TransformerModule",
    "enable_lora",
    "enable_peft",
    "evaluate",
    "fit",
    "load_lora",
    "load_peft",
    "merge_lora",
    "module_of",
    "read_text_evaluation",
    "save_lora",
    "save_peft",
    "set_parameters",
    "test_on_batch",
    "train_on_batch",
    "training_of",
]
