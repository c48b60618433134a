# SPDX-License-Identifier: Apache-2.0
"""CausalLM: the base of tasks that generate, with KerasHub's methods."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from fuseq import _core
from fuseq.models import engine_loop, scoring, stepping
from fuseq.models.call_options import Stops, check_seed, draws_of, read_options
from fuseq.models.compiling import read_compile, read_sampler
from fuseq.models.generation import (
    OnToken,
    Request,
    check_lengths,
    read_biases,
    read_ids,
    read_seed,
)
from fuseq.models.inputs import Keys, Texts, prompts_of
from fuseq.models.overriding import is_overridden
from fuseq.models.preprocessor import Preprocessor
from fuseq.models.trainable_task import TrainableTask
from fuseq.samplers import Sampler
from fuseq.samplers.drawing import drawing_with

Floats = npt.NDArray[np.float32]
Arrays = dict[str, npt.NDArray[Any]]


class CausalLM(TrainableTask):
    """A model that predicts the next token, with a sampler that chooses it.

    Load one with `from_preset`. `compile` sets the sampler, `generate` does the work: text in, text
    out.

    Attributes:
        sampler: What `compile` has set; None before.
        generate_function: The function that generates from arrays; None until `generate` has been
            called after the last `compile`.

    Example:
        >>> import fuseq
        >>> lm = fuseq.models.CausalLM.from_preset("tests/golden/keras_presets/gpt2_032")
        >>> lm.compile(sampler="greedy")
        >>> isinstance(lm.generate("the quick", max_length=8), str)
        True
    """

    keys: ClassVar[Keys] = Keys(("text",), ("token_ids",), ("padding_mask",))
    # The method that computes logits step by step; overriding it on a task changes `generate`.
    step_method: ClassVar[str] = "call_with_cache"

    _padded: tuple[_core.TokenBytes, _core.TokenBytes] | None = None  # a table, and it made longer
    generate_function: Callable[..., Any] | None = None

    # ---- compile ----

    def compile(
        self,
        optimizer: object = "auto",
        loss: object = "auto",
        weighted_metrics: object = "auto",
        sampler: object = "top_k",
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """Sets how the task generates, and later trains.

        Args:
            optimizer: "auto": KerasHub's, Adam with a rate of 2e-5; a Keras name; a dict
                `{"class_name", "config"}`; a function from parameters to a torch optimizer, such as
                `partial(torch.optim.AdamW, lr=1e-4)`; or a torch optimizer over
                `torch_module().parameters()`.
            loss: "auto": the cross entropy of the logits; its Keras name or dict; or a function
                `f(y_true [B, T], y_pred [B, T, V]) -> [B, T]` on tensors.
            weighted_metrics: "auto": the accuracy; or a list of Keras' names, dicts and functions
                as `loss` takes them.
            sampler: "beam", "contrastive", "greedy", "min_p", "preset", "random", "top_k" or
                "top_p"; a `fuseq.samplers.Sampler`, whose draws start again; or a function with a
                sampler's protocol.
            **kwargs: `loss_reduction`: "batch", KerasHub's, or "tokens": sums are divided by the
                weights' sum; `metrics`: as weighted_metrics, padding counts; Keras' `jit_compile`,
                `run_eagerly`, `steps_per_execution` and `auto_scale_loss` have no effect.

        Raises:
            TypeError: A keyword is not known.
            ValueError: There is no such sampler.
        """
        self._compiled = read_compile(
            type(self), optimizer, loss, weighted_metrics, sampler, kwargs
        )
        self.generate_function = None
        self.training = None

    @property
    def sampler(self) -> Sampler | Callable[..., Any] | None:
        """Chooses ids; None before `compile`."""
        return None if self._compiled is None else self._compiled.sampler

    def _compiled_state(self) -> dict[str, Any] | None:
        if self._compiled is None:
            return None
        return {
            "optimizer": self._compiled.optimizer,
            "loss": self._compiled.loss,
            "weighted_metrics": self._compiled.weighted_metrics,
            "sampler": self._compiled.sampler,
            **self._compiled.others,
        }

    # ---- generate ----

    def generate(
        self,
        inputs: object,
        max_length: int | None = None,
        stop_token_ids: Stops = "auto",
        strip_prompt: bool = False,
        *,
        max_new_tokens: int | None = None,
        min_length: int | None = None,
        min_new_tokens: int | None = None,
        num_return_sequences: int | None = None,
        repetition_penalty: float | None = None,
        no_repeat_ngram_size: int | None = None,
        forced_bos_token_id: int | None = None,
        forced_eos_token_id: int | None = None,
        suppress_token_ids: Iterable[int] | None = None,
        logit_bias: Mapping[int, float] | None = None,
        stop_strings: str | Iterable[str] | None = None,
        seed: int | Sequence[int] | None = None,
        on_token: OnToken | None = None,
        return_scores: bool = False,
        sampler: object = None,
        encoder_sequence_length: int | None = None,
        max_batch_size: int | None = None,
        progress_bar: bool | None = None,
    ) -> Any:  # noqa: ANN401
        """Generates from texts or ids.

        Args:
            inputs: A str; a list, tuple or array of str; a dict of `encoder_text` and
                `decoder_text` (models with an encoder); a dict of arrays of ids and masks as the
                backbone takes them; or an iterable of batches of these, read as they are needed,
                where a str is a batch of one. Dicts are not changed.
            max_length: The longest row in tokens, prompt and special tokens with it. None: the
                preprocessor's `sequence_length`, or what the "preset" sampler's settings say. Not
                used with arrays of ids, whose columns are the length.
            stop_token_ids: "auto": the end id of the tokenizer or of the preset's settings; ids; or
                None: every row is filled.
            strip_prompt: Whether to return the new text alone.
            max_new_tokens: The longest row without its prompt; excludes max_length.
            min_length: Rows may not end before, in tokens.
            min_new_tokens: The same without the prompt.
            num_return_sequences: Rows for each input.
            repetition_penalty: As in transformers, over the row with its prompt.
            no_repeat_ngram_size: As in transformers.
            forced_bos_token_id: The first id after a decoder's start id, in place of what KerasHub
                puts there. A decoder's row must have no text and no ids of its own.
            forced_eos_token_id: The last id of a row that has become as long as it may.
            suppress_token_ids: Ids that never come.
            logit_bias: Added to the logits of ids.
            stop_strings: Texts that end a row, wherever tokens begin and end.
            seed: Of the draws: one number, or one for each input. It does not go on from call to
                call; the sampler's own seed does. A `get_next_token` of yours draws with it, one
                number, where it calls fuseq's; a sampler that fills rows in its own way cannot.
            on_token: Called as `on_token(row, token_id, text)` for every new token, text being the
                characters it completes; returning True ends the row. Not with beams.
            return_scores: Whether each text becomes a `Generation`, and dicts of ids gain `scores`
                and `token_log_probs`.
            sampler: As in `compile`, for this call only.
            encoder_sequence_length: The longest source in tokens; longer ones are cut. None: the
                preprocessor's.
            max_batch_size: Inputs at a time. None: as many as make 32 rows.
            progress_bar: None: for long lists, where standard error is a terminal.

        Returns:
            A str for a single text, else a list of them in the order of the inputs; lists of
            `num_return_sequences` where that is given and above 1. For dicts of ids a dict of
            arrays: ids [B * n, T] int32, padded on the right, and their mask; new tokens up to and
            with the stop id are True.

        Raises:
            ValueError: An argument does not fit, or the task is not compiled.
            TypeError: An input is of another type.
        """
        if max_length is not None and max_new_tokens is not None:
            raise ValueError(
                f"generate: max_length and max_new_tokens exclude each other, got {max_length} and "
                f"{max_new_tokens}"
            )
        check_lengths(
            max_length=max_length,
            max_new_tokens=max_new_tokens,
            encoder_sequence_length=encoder_sequence_length,
            max_batch_size=max_batch_size,
        )
        if is_overridden(self, "generate_step"):
            raise ValueError(
                f"generate: generate_step must be fuseq's own, got one of yours. Override "
                f"{self.step_method}, or give a sampler"
            )
        fields = {
            "max_length": max_length,
            "max_new_tokens": max_new_tokens,
            "min_length": min_length,
            "min_new_tokens": min_new_tokens,
            "num_return_sequences": num_return_sequences,
            "repetition_penalty": repetition_penalty,
            "no_repeat_ngram_size": no_repeat_ngram_size,
            "forced_bos_token_id": forced_bos_token_id,
            "forced_eos_token_id": forced_eos_token_id,
            "suppress_token_ids": read_ids("suppress_token_ids", suppress_token_ids),
            "logit_bias": read_biases(logit_bias),
            "stop_strings": [stop_strings] if isinstance(stop_strings, str) else stop_strings,
            "return_scores": return_scores or None,
        }
        chosen = self._sampler_of(sampler)
        seed = read_seed(seed)
        options = read_options(self, chosen, fields, stop_token_ids)
        check_seed(chosen, options, seed)
        if on_token is not None and options.num_beams > 1:
            raise ValueError("generate: on_token must come without beams, got both")
        if options.stop_strings or on_token is not None:
            options.token_bytes = self._token_bytes(bool(options.stop_strings))
        request = Request(
            options=options,
            draws=draws_of(chosen, seed, options.seed),
            seeds=None if seed is None or isinstance(seed, int) else seed,
            strip_prompt=strip_prompt,
            return_scores=return_scores,
            given=frozenset(name for name, value in fields.items() if value is not None),
            encoder_sequence_length=encoder_sequence_length,
            max_batch_size=max_batch_size,
            on_token=on_token,
        )
        self.make_generate_function()
        steps = stepping.loop_of(self, chosen)
        if steps is not None:
            stepping.check_request(request)
        with drawing_with(seed if isinstance(seed, int) else None):
            return engine_loop.generate(self, inputs, request, progress_bar, steps)

    def make_generate_function(self) -> Callable[..., Any]:
        """The function that generates from arrays; kept until `compile`.

        Returns:
            `generate_step`.
        """
        if self.generate_function is None:
            self.generate_function = self.generate_step
        return self.generate_function

    def generate_step(
        self, inputs: Mapping[str, npt.ArrayLike], stop_token_ids: Stops = None
    ) -> Arrays:
        """Generates from one batch of ids.

        Args:
            inputs: Ids and masks, as `generate` takes them.
            stop_token_ids: As in `generate`.

        Returns:
            A dict of arrays, as `generate` returns.
        """
        result: Arrays = self.generate(dict(inputs), stop_token_ids=stop_token_ids)
        return result

    def _sampler_of(self, sampler: object) -> Sampler | Callable[..., Any]:
        if sampler is not None:
            return read_sampler(sampler, restarts=False)
        return self.compiled("generate").sampler

    def end_token_ids(self) -> list[int]:
        """The ids that end a row when `stop_token_ids` is "auto".

        Returns:
            Those of the preset's settings (transformers) or the tokenizer's (KerasHub).

        Raises:
            ValueError: The model was built by hand and nothing says which.
        """
        known = [int(id) for id in self.backbone.spec["eos_ids"]]
        if self.preprocessor is not None and (self.backbone.rules == "keras_hub" or not known):
            return [self.preprocessor.end_id]
        if not known:
            raise ValueError(
                'stop_token_ids: "auto" needs a preprocessor or a preset that knows the end id, '
                "got neither. Give ids, or None to fill every row"
            )
        return known

    def pad_token_id(self) -> int:
        """The id that fills rows on the right."""
        spec = self.backbone.spec
        known = int(spec["pad_id"])
        if self.preprocessor is not None and (self.backbone.rules == "keras_hub" or known < 0):
            return self.preprocessor.pad_id
        return known if known >= 0 else int((spec["eos_ids"] or [0])[0])

    def _token_bytes(self, is_needed: bool) -> _core.TokenBytes | None:
        if self.preprocessor is not None:
            table = self.preprocessor.tokenizer.token_bytes()
            missing = self.backbone.vocabulary_size - len(table)
            if missing <= 0:
                return table
            # Ids of the model that the vocabulary does not have stand for nothing.
            if self._padded is None or self._padded[0] is not table:
                known = [table[id] for id in range(len(table))]
                self._padded = (table, _core.TokenBytes([*known, *[b""] * missing]))
            return self._padded[1]
        if is_needed:
            raise ValueError("stop_strings: must come with a preprocessor, got none")
        return None

    def text_preprocessor(self, call: str = "generate") -> Preprocessor:
        """The preprocessor, which texts need.

        Args:
            call: Names the call in the error.

        Raises:
            ValueError: There is none.
        """
        if self.preprocessor is None:
            raise ValueError(
                f"{call}: texts must come with a preprocessor, got none. Give arrays of ids"
            )
        return self.preprocessor

    def text_prompts(self, texts: Texts, request: Request) -> list[_core.Prompt]:
        """What the engine starts from for texts."""
        preprocessor = self.text_preprocessor()
        if request.encoder_sequence_length is not None:
            raise ValueError(
                "generate: encoder_sequence_length must come with a model that has an encoder, got "
                f"{type(self).__name__}"
            )
        if is_overridden(preprocessor, "generate_preprocess"):
            return self._own_prompts(preprocessor, texts, request)
        return preprocessor.prompts(texts)

    def array_prompts(self, arrays: Mapping[str, Any], request: Request) -> list[_core.Prompt]:
        """What the engine starts from for arrays of ids."""
        return prompts_of(arrays, self.keys)

    def _own_prompts(
        self,
        preprocessor: Any,  # noqa: ANN401
        texts: Texts,
        request: Request,
        **lengths: int,
    ) -> list[_core.Prompt]:
        """Prompts from a `generate_preprocess` of the user's."""
        inputs: Any = texts if len(texts) > 1 else next(iter(texts.values()))
        length = request.options.max_length or preprocessor.sequence_length
        return prompts_of(
            preprocessor.generate_preprocess(inputs, sequence_length=length, **lengths), self.keys
        )

    # ---- logits ----

    def score(
        self,
        token_ids: npt.ArrayLike,
        padding_mask: npt.ArrayLike | None = None,
        scoring_mode: Literal["logits", "loss"] = "logits",
        layer_intercept_fn: object = None,
        target_ids: npt.ArrayLike | None = None,
    ) -> Floats:
        """Scores rows of ids.

        Args:
            token_ids: [B, T].
            padding_mask: [B, T]; None: all are real.
            scoring_mode: "logits", or "loss": the cross entropy of each target.
            layer_intercept_fn: None: the engine does not stop between layers.
            target_ids: [B, T], the id that should follow each; needed for "loss".

        Returns:
            float32: logits [B, T, V], or losses [B, T]; 0 at padding.

        Raises:
            ValueError: An argument does not fit.
        """
        inputs = scoring.without_none({"token_ids": token_ids, "padding_mask": padding_mask})
        return scoring.score(
            self.backbone, inputs, padding_mask, scoring_mode, layer_intercept_fn, target_ids
        )

    def call_with_cache(
        self,
        token_ids: npt.ArrayLike,
        cache: Floats | None,
        cache_update_index: int = 0,
    ) -> tuple[Floats, Floats, Floats]:
        """Computes logits of the next ids with the keys and values of those before.

        Args:
            token_ids: [B, T], the ids at cells cache_update_index … + T - 1.
            cache: float32 [B, L, 2, S, H, E], S cells; it is not changed.
            cache_update_index: The first cell to fill.

        Returns:
            Logits [B, T, V], last hidden states [B, T, D], and the cache with those cells filled.

        Raises:
            ValueError: Shapes do not fit.
        """
        return stepping.call_with_cache(self.backbone, token_ids, cache, cache_update_index)
