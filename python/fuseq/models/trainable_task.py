# SPDX-License-Identifier: Apache-2.0
"""TrainableTask: what tasks have of Keras' way to train, on torch's autograd."""

from collections.abc import Callable, Collection, Sequence
from os import PathLike
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from fuseq.models import predicting
from fuseq.models.compiling import Compiled
from fuseq.models.inputs import Keys
from fuseq.models.task import Task

Verbose = Literal["auto", 0, 1, 2]
Floats = npt.NDArray[np.float32]
TextMetric = str | Callable[[Sequence[str], Sequence[str]], Any]
TextMetrics = TextMetric | Sequence[TextMetric]


class TrainableTask(Task):
    """A task with `fit`, `evaluate` and `predict`.

    Training needs torch: `pip install "fuseq[train]"`.

    Attributes:
        history: The `History` of the last `fit`; None before.
        stop_training: Callbacks set it to end `fit` after a batch.
        is_main_process: Whether this process prints and writes files; False in all but one of
            those that torchrun started.
    """

    keys: ClassVar[Keys]
    history: Any = None
    stop_training: bool = False
    is_main_process: bool = True
    training: Any = None  # a fuseq.training.Training, made when first needed after `compile`

    _compiled: Compiled | None = None

    def compiled(self, call: str) -> Compiled:
        """What `compile` was given.

        Raises:
            ValueError: The task is not compiled.
        """
        if self._compiled is None:
            raise ValueError(
                f"{type(self).__name__}.{call}: the task must be compiled, got compile=False. "
                "Call compile()"
            )
        return self._compiled

    def torch_module(self) -> Any:  # noqa: ANN401
        """The model as a torch module, as `Backbone.torch_module` says.

        Returns:
            A `fuseq.training.TransformerModule`, float32; the same one in each call.
        """
        return self.backbone.torch_module()

    def quantize(
        self, mode: str | None = None, config: object = None, filters: object = None
    ) -> None:
        """Makes the matrices int8, as `Backbone.quantize` says; the optimizer's state is dropped.

        Args:
            mode: "int8".
            config: Not there; Keras has it.
            filters: Not there; Keras has it.

        Raises:
            ValueError: There is no such mode, the weights are int8 already, or `fit` is running.
            NotImplementedError: Keras has the mode or the argument, and fuseq has not.

        Example:
            >>> from fuseq.models import GPT2CausalLM
            >>> lm = GPT2CausalLM.from_preset("tests/golden/keras_presets/gpt2_032")
            >>> lm.quantize("int8")
            >>> lm.backbone.dtype
            'int8'
        """
        super().quantize(mode, config, filters)
        self.training = None

    @property
    def optimizer(self) -> Any:  # noqa: ANN401
        """The optimizer that `compile` has chosen, with `learning_rate` to read and set."""
        from fuseq import training

        return training.training_of(self).optimizer

    def fit(
        self,
        x: object = None,
        y: object = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Verbose = "auto",
        callbacks: object = None,
        validation_split: float = 0.0,
        validation_data: object = None,
        shuffle: bool = True,
        class_weight: None = None,
        sample_weight: object = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int | Collection[int] = 1,
        *,
        precision: Literal["float32", "bfloat16"] = "float32",
        gradient_accumulation_steps: int | None = None,
        clip_norm: float | None = None,
        activation_checkpointing: bool = False,
        seed: int | None = None,
        device: str | None = None,
        length_buckets: bool = True,
        checkpoint_dir: str | PathLike[str] | None = None,
        checkpoint_freq: int | Literal["epoch"] = "epoch",
        sharded: bool = False,
    ) -> Any:  # noqa: ANN401
        """Trains the task.

        The loss and what is reported are KerasHub's: sums are divided by rows x configured length,
        with padding, though padding is not computed. `compile(loss_reduction="tokens")` divides by
        the weights' sum. Under torchrun every process runs the same script; batch_size is that of
        one process.

        Args:
            x: Texts: a dict of lists by the preprocessor's keys (`encoder_text`, `decoder_text`),
                or a list of texts for a model without an encoder. Or a dict of ids and masks
                [N, T], as the backbone takes them, with y. Or a data set of the `datasets` package
                with such columns. Or an iterable of batches of these, each x, (x, y) or
                (x, y, sample_weight): a list, a generator, a DataLoader.
            y: Ids [N, T] that should follow; not used with texts.
            batch_size: Rows of a batch; None: 32. Not with an iterable of batches.
            epochs: The number of the last epoch.
            verbose: 0: silent; 1: a bar; 2: a line an epoch; "auto": 1 on a terminal, else 2.
            callbacks: Objects with Keras' hooks, such as those of `fuseq.callbacks`.
            validation_split: The share of the last rows that is kept for validation.
            validation_data: x, (x, y) or (x, y, sample_weight).
            shuffle: Whether rows in memory come in another order each epoch.
            class_weight: Keras has it; not for sequences.
            sample_weight: What positions count, [N, T], or rows, [N]; not used with texts.
            initial_epoch: Of the first epoch, from 0.
            steps_per_epoch: Batches of an epoch; None: all.
            validation_steps: Batches of a validation; None: all.
            validation_batch_size: None: batch_size.
            validation_freq: Epochs between validations, or a list of epochs from 1.
            precision: "bfloat16": matrix products in bfloat16; parameters stay float32.
            gradient_accumulation_steps: Batches to an update; None: as the optimizer says, or 1.
            clip_norm: The largest norm of all gradients together.
            activation_checkpointing: Whether to compute activations twice, for less memory.
            seed: Of the order and of dropout: a run with a seed can be repeated.
            device: "cpu" or "cuda"; None: a GPU where torch finds one.
            length_buckets: Whether rows of like length come together when they are shuffled.
            checkpoint_dir: A folder; a run that was killed goes on from its newest checkpoint when
                it is started again, and its curve is that of an unbroken one. A generator has to
                give the same batches from the first one on: those that were used are passed over.
            checkpoint_freq: Updates between checkpoints, or "epoch".
            sharded: Whether parameters, gradients and the optimizer's state are cut over the
                processes (FSDP), for models that do not fit one device. The optimizer is that of
                this one fit: its state, and a rate that was set before, are not taken over.

        Returns:
            A `fuseq.callbacks.History`: `history["loss"]` and so on, a number an epoch.

        Raises:
            ValueError: An argument does not fit; the task is not compiled.
            TypeError: An argument is of another type.
            ArithmeticError: The loss or the gradient is infinite or no number; that batch updates
                nothing.
            ImportError: torch is not installed.
        """
        from fuseq.training import FitArguments, FitOptions, fit

        _check_no_class_weight(class_weight)
        return fit(
            self,
            x,
            y,
            sample_weight,
            callbacks=callbacks,
            validation_split=validation_split,
            validation_data=validation_data,
            arguments=FitArguments(
                batch_size=batch_size,
                epochs=epochs,
                initial_epoch=initial_epoch,
                steps_per_epoch=steps_per_epoch,
                validation_steps=validation_steps,
                validation_batch_size=validation_batch_size,
                validation_freq=validation_freq,
                shuffle=shuffle,
                verbose=verbose,
            ),
            options=FitOptions(
                precision=precision,
                gradient_accumulation_steps=gradient_accumulation_steps,
                clip_norm=clip_norm,
                activation_checkpointing=activation_checkpointing,
                seed=seed,
                device=device,
                length_buckets=length_buckets,
                checkpoint_dir=checkpoint_dir,
                checkpoint_freq=checkpoint_freq,
                sharded=sharded,
            ),
        )

    def evaluate(
        self,
        x: object = None,
        y: object = None,
        batch_size: int | None = None,
        verbose: Verbose = "auto",
        sample_weight: object = None,
        steps: int | None = None,
        callbacks: object = None,
        return_dict: bool = False,
        *,
        precision: Literal["float32", "bfloat16"] = "float32",
        device: str | None = None,
        generate: bool = False,
        text_metrics: TextMetrics | None = None,
        max_length: int | None = None,
        sampler: object = None,
    ) -> Any:  # noqa: ANN401
        """Computes the loss and the metrics that `compile` has chosen.

        Args:
            x: As in `fit`.
            y: As in `fit`.
            batch_size: As in `fit`.
            verbose: As in `fit`.
            sample_weight: As in `fit`.
            steps: Batches; None: all.
            callbacks: As in `fit`; their `on_test_…` hooks are called.
            return_dict: Whether to return a dict.
            precision: As in `fit`.
            device: As in `fit`.
            generate: Whether to generate from the sources as well, and to add numbers on these
                texts, as `evaluate_texts` does.
            text_metrics: As `metrics` of `evaluate_texts`; None: "exact_match".
            max_length: As in `generate`.
            sampler: As in `generate`.

        Returns:
            A dict by names, or a list of the loss, the metrics and the numbers on texts; the loss
            alone where there is nothing else.

        Raises:
            ValueError: An argument does not fit; the task is not compiled.
            TypeError: An argument is of another type.
            ImportError: torch, or a package that a metric needs, is not installed.
        """
        from fuseq.training import FitOptions, evaluate, read_text_evaluation

        asked = {"text_metrics": text_metrics, "max_length": max_length, "sampler": sampler}
        alone = [name for name, value in asked.items() if value is not None]
        if alone and not generate:
            raise ValueError(
                f"evaluate: {', '.join(alone)} must come with generate=True, got generate=False"
            )
        if generate and steps is not None:
            raise ValueError(
                f"evaluate: steps must be None with generate=True, got {steps}. Give fewer rows"
            )
        texts = read_text_evaluation(self, x, text_metrics, call="evaluate") if generate else None
        logs = evaluate(
            self,
            x,
            y,
            sample_weight,
            batch_size=batch_size,
            verbose=verbose,
            steps=steps,
            callbacks=callbacks,
            options=FitOptions(precision=precision, device=device, call="evaluate"),
        )
        if texts is not None:
            numbers = texts.compute(self, {"max_length": max_length, "sampler": sampler})
            logs = {**logs, **numbers}
        return _shaped(logs, return_dict)

    def evaluate_texts(
        self,
        x: object,
        metrics: TextMetrics | None = None,
        **generate_arguments: Any,  # noqa: ANN401
    ) -> dict[str, float]:
        """Generates from sources and compares with the texts wanted for them.

        Draws begin with seed 0 unless a seed is given, so a call can be repeated. Under torchrun
        every process generates all texts.

        Args:
            x: A dict of lists of texts: `encoder_text`, and `decoder_text` to compare with.
            metrics: Names or functions: "exact_match"; "bleu", "chrf" and "rouge", which need
                `pip install "fuseq[metrics]"`; functions of predictions and references that return
                a float or a dict of floats. None: "exact_match".
            **generate_arguments: Of `generate`, such as `max_length` and `sampler`.

        Returns:
            The numbers by name.

        Raises:
            ValueError: The task has no encoder or no preprocessor, or x is no dict of texts.
            TypeError: A metric is neither a name nor a function.
            ImportError: torch, or a package that a metric needs, is not installed.
        """
        from fuseq.training import read_text_evaluation

        texts = read_text_evaluation(self, x, metrics, call="evaluate_texts")
        return texts.compute(self, generate_arguments)

    def predict(
        self,
        x: object,
        batch_size: int | None = None,
        verbose: Verbose = "auto",
        steps: int | None = None,
        callbacks: object = None,
    ) -> Floats:
        """Computes the logits of every position, on the engine; torch is not needed.

        Args:
            x: Texts or ids, or an iterable of batches of these, as in `fit`.
            batch_size: Rows at a time; None: 32.
            verbose: As in `fit`.
            steps: Batches; None: all.
            callbacks: As in `fit`; their `on_predict_…` hooks are called.

        Returns:
            float32 [N, T, V], T being the length that the preprocessor pads to; 0 at padding.

        Raises:
            ValueError: An argument does not fit.
            TypeError: An argument is of another type.
        """
        return predicting.predict(
            self, x, batch_size=batch_size, verbose=verbose, steps=steps, callbacks=callbacks
        )

    def train_on_batch(
        self,
        x: object,
        y: object = None,
        sample_weight: object = None,
        class_weight: None = None,
        return_dict: bool = False,
    ) -> Any:  # noqa: ANN401
        """Updates the weights once.

        Args:
            x: One batch, as in `fit`.
            y: As in `fit`.
            sample_weight: As in `fit`.
            class_weight: As in `fit`.
            return_dict: Whether to return a dict.

        Returns:
            As `evaluate` does, for the batch before the update.

        Raises:
            ValueError: As `fit`.
            TypeError: As `fit`.
        """
        from fuseq.training import train_on_batch

        _check_no_class_weight(class_weight)
        return _shaped(train_on_batch(self, x, y, sample_weight), return_dict)

    def test_on_batch(
        self,
        x: object,
        y: object = None,
        sample_weight: object = None,
        return_dict: bool = False,
    ) -> Any:  # noqa: ANN401
        """Computes the loss and the metrics of one batch.

        Args:
            x: As in `train_on_batch`.
            y: As in `train_on_batch`.
            sample_weight: As in `train_on_batch`.
            return_dict: As in `train_on_batch`.

        Returns:
            As `train_on_batch`.

        Raises:
            ValueError: As `fit`.
            TypeError: As `fit`.
        """
        from fuseq.training import test_on_batch

        return _shaped(test_on_batch(self, x, y, sample_weight), return_dict)

    # ---- weights, as Keras' callbacks move them ----

    def get_weights(self) -> list[Floats]:
        """All parameters of the torch module, float32, in its order; adapters are among them.

        Returns:
            Copies.
        """
        module = self.torch_module()
        return [value.detach().cpu().numpy().copy() for value in module.parameters()]

    def set_weights(self, weights: Sequence[npt.ArrayLike]) -> None:
        """Sets all weights.

        Args:
            weights: As `get_weights` returned them.

        Raises:
            ValueError: Their number or a shape is another one.
        """
        from fuseq.training import set_parameters

        set_parameters(self.torch_module(), weights)


def _check_no_class_weight(class_weight: object) -> None:
    if class_weight is not None:
        raise ValueError(
            "fit: class_weight must be None, got one: labels are sequences of ids. Give "
            "sample_weight [N, T]"
        )


def _shaped(logs: dict[str, float], return_dict: bool) -> Any:  # noqa: ANN401
    if return_dict:
        return dict(sorted(logs.items()))  # as Keras does
    values = list(logs.values())
    return values if len(values) > 1 else values[0]
