# SPDX-License-Identifier: Apache-2.0
"""Callbacks of `fit`, `evaluate` and `predict`, with the names, arguments and behaviour of Keras.

A callback is any object that has some of Keras' hooks; `Callback` is a convenient base class.
"""

from fuseq.callbacks.callback import Callback, LambdaCallback
from fuseq.callbacks.callback_list import CallbackList
from fuseq.callbacks.csv_logger import CSVLogger
from fuseq.callbacks.early_stopping import EarlyStopping, TerminateOnNaN
from fuseq.callbacks.history import History
from fuseq.callbacks.learning_rate import LearningRateScheduler, ReduceLROnPlateau
from fuseq.callbacks.model_checkpoint import ModelCheckpoint
from fuseq.callbacks.progress import ProgressBar
from fuseq.callbacks.tensorboard import TensorBoard
from fuseq.callbacks.text_metrics import TextMetrics

__all__ = [
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "ProgressBar",
    "ReduceLROnPlateau",
    "TensorBoard",
    "TerminateOnNaN",
    "TextMetrics",
]
