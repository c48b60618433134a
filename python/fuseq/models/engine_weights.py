# SPDX-License-Identifier: Apache-2.0
"""EngineWeights: the engine's model of a backbone, made when needed and when out of date."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from fuseq import _core
from fuseq.models.random_weights import random_weights
from fuseq.models.weight_stamp import WeightStamp
from fuseq.presets.family import Spec


class WeightHolder(Protocol):
    """Has weights that change while the engine does not look: those of a module in training."""

    def version(self) -> object:
        """Changes with the weights."""

    def weights(self) -> dict[str, Any]:
        """Arrays by our names."""

    def assign(self, model: _core.Model) -> None:
        """Takes the weights of a model over."""

    def set_trainable(self, value: bool) -> None:
        """Whether training changes the weights."""


class EngineWeights:
    """A packed model and a session, or what they can be made from.

    Attributes:
        spec: The spec, every field given.
        dtype: What the engine keeps matrices in; None: as stored, not known yet.
        num_threads: Threads of the engine; None: those of the machine.
        quantized_from: The dtype of the weights of `source`'s model before `quantize`; None: they
            are as they were read.
        is_trainable: Whether a module in training that is made of them may change them.
        seed: Of weights that are drawn; None: others every time.
        lock: One thread at a time makes the model, or uses the session.
    """

    def __init__(
        self, spec: Spec, model: _core.Model | None, dtype: str | None, num_threads: int | None
    ) -> None:
        """Keeps a model, or None: its weights are drawn when they are first needed."""
        self.spec = spec
        self.dtype = dtype if model is None else model.dtype
        self.num_threads = num_threads
        self.quantized_from: str | None = None
        self.is_trainable = True
        self.seed: int | None = None
        self.lock = threading.RLock()
        self._model = model
        self._session: _core.Session | None = None
        self._source: WeightStamp | None = None
        self._holder: WeightHolder | None = None
        self._held_version: object = None  # the holder's when the model was made
        self._running_fits = 0

    @property
    def is_quantized(self) -> bool:
        """Whether matrices are whole numbers of few bits, which cannot be trained."""
        return self.dtype == "int8"

    @property
    def model(self) -> _core.Model:
        """The engine's model; made when first asked for, and again when weights have changed."""
        with self.lock:
            self._drop_outdated()
            if self._model is None:
                text = json.dumps(self.spec)
                weights = (
                    random_weights(text, self.seed)
                    if self._holder is None
                    else self._holder.weights()
                )
                self._model = _core.Model.build(
                    text, weights, dtype=self.dtype or "float32", num_threads=self.num_threads
                )
                self.dtype = self._model.dtype
            return self._model

    @contextmanager
    def using_session(self) -> Iterator[_core.Session]:
        """A session that is kept; one thread at a time has it."""
        with self.lock:
            model = self.model
            if self._session is None:
                self._session = _core.Session(model, num_threads=self.num_threads)
            yield self._session

    @property
    def source(self) -> Path | None:
        """The folder that holds these weights; None where none does, or not any more."""
        with self.lock:
            self._drop_outdated()
        if self._source is None or not self._source.is_valid():
            return None
        return self._source.folder

    def stored_in(self, folder: Path) -> None:
        """Tells that a folder holds the weights as they are."""
        with self.lock:
            if self.source is None:
                self._source = WeightStamp.of(folder)
                self.quantized_from = None

    def replace(self, model: _core.Model) -> None:
        """Goes on with other weights."""
        with self.lock:
            self.spec = json.loads(model.spec)
            self.dtype = model.dtype
            self.quantized_from = None
            self._model, self._session, self._source = model, None, None
            if self._holder is not None:
                self._holder.assign(model)
                self._held_version = self._holder.version()

    def quantize(self, dtype: str) -> None:
        """Goes on with the same weights in few bits; a holder of floats has them no longer.

        Raises:
            ValueError: A fit is running: what it learns from then on would be lost.
        """
        with self.lock:
            if self._running_fits:
                raise ValueError("quantize: fit must have ended, got a call while it is running")
            model = self.model
            self._model, self._session, self._holder = model.to(dtype), None, None
            self.dtype, self.quantized_from = self._model.dtype, model.dtype

    @contextmanager
    def in_fit(self) -> Iterator[None]:
        """While it lasts, a fit changes the weights and they stay floats."""
        with self.lock:
            self._running_fits += 1
        try:
            yield
        finally:
            with self.lock:
                self._running_fits -= 1

    @property
    def holder(self) -> WeightHolder | None:
        """What changes the weights; None: nobody does."""
        return self._holder

    def share_with(self, holder: WeightHolder) -> None:
        """From now on the weights are the holder's, which has them as they are."""
        with self.lock:
            self._holder = holder
            self._held_version = holder.version()

    def set_trainable(self, value: bool) -> None:
        """Whether training changes the weights."""
        with self.lock:
            self.is_trainable = value
            if self._holder is not None:
                self._holder.set_trainable(value)

    def release_model(self) -> None:
        """Frees the engine's copy while a holder has the weights; it is made again when needed."""
        with self.lock:
            if self._holder is not None:
                self._model = self._session = None

    def _drop_outdated(self) -> None:
        if self._holder is not None and self._holder.version() != self._held_version:
            self._held_version = self._holder.version()
            self._model = self._session = self._source = None
