# SPDX-License-Identifier: Apache-2.0
"""Sampler: what all samplers share, and what users extend."""

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np

from fuseq.samplers import protocol
from fuseq.samplers.checks import changed, check_temperature
from fuseq.samplers.protocol import Floats, Ids, Next

S = TypeVar("S", bound="Sampler")


class Sampler:
    """Chooses the next id of every row from probabilities.

    To choose in your own way, override `get_next_token`; it runs at Python's speed, once per step
    for all rows. Everything else is done by the engine.

    Args:
        temperature: Divides the logits; above 1 the choice is freer, below 1 narrower.

    Raises:
        ValueError: An argument does not fit.

    Example:
        >>> import numpy as np
        >>> class Forbidding(Sampler):
        ...     def __init__(self, forbidden, **kwargs):
        ...         super().__init__(**kwargs)
        ...         self.forbidden = forbidden
        ...
        ...     def get_next_token(self, probabilities):
        ...         probabilities[:, self.forbidden] = 0
        ...         return probabilities.argmax(-1)
        >>> def next(prompt, cache, index):
        ...     return np.array([[0.0, 1.0, 2.0]], "f"), None, cache
        >>> Forbidding([2])(next, np.zeros((1, 4), int), index=1)
        array([[0, 1, 1, 1]], dtype=int32)
    """

    # The constructor's arguments but for the temperature; they are attributes too.
    _arguments: ClassVar[tuple[str, ...]] = ()

    def __init__(self, temperature: float = 1.0) -> None:
        """Checks and keeps the argument."""
        check_temperature(self, temperature)
        self.temperature = temperature

    def __call__(
        self,
        next: Next,
        prompt: object,
        cache: object = None,
        index: object = 0,
        mask: object | None = None,
        stop_token_ids: object | None = None,
        hidden_states: object | None = None,
        model: object | None = None,
    ) -> Ids:
        """Fills the cells of prompts, with logits that a function computes.

        A row ends at the first stop id that was chosen; its later cells stay as they are.

        Args:
            next: Called as `next(prompt, cache, index)` for (logits [B, V], hidden states [B, D],
                cache): the logits choose the ids of the cells `index`. prompt is int32, numpy.
            prompt: Ids [B, T].
            cache: Handed to `next`, then what it returned: any nested tuples, lists and dicts of
                arrays whose first axis is the batch, or None.
            index: The first cell to fill.
            mask: Bool [B, T], True for the cells that are given and stay.
            stop_token_ids: Ids that end a row; None: every row is filled.
            hidden_states: Of the prompt [B, T, D]; only contrastive search needs them.
            model: Not used; KerasHub has it.

        Returns:
            The filled rows [B, T].

        Raises:
            ValueError: A shape or a number does not fit.
        """
        call = protocol.read_call(next, prompt, cache, index, mask, stop_token_ids)
        draws = self.next_draws(len(call.prompt))
        return protocol.fill(call, self.generation_fields(), *draws).rows[:, 0]

    def get_next_token(self, probabilities: Floats) -> Ids:
        """Chooses an id for every row.

        Args:
            probabilities: [B, V], float32; the function may write into them.

        Returns:
            Ids [B].
        """
        raise NotImplementedError(
            f"{type(self).__name__}: get_next_token must be overridden, got the base's"
        )

    def compute_probabilities(self, logits: object) -> Floats:
        """Computes softmax(logits / temperature) in float32.

        Args:
            logits: [..., V].

        Returns:
            Probabilities [..., V].

        Example:
            >>> Sampler(temperature=0.5).compute_probabilities([[3.0, 3.0]])
            array([[0.5, 0.5]], dtype=float32)
        """
        scores = protocol.to_floats(logits) / np.float32(self.temperature)
        exponentials = np.exp(scores - scores.max(-1, keepdims=True))
        return np.asarray(exponentials / exponentials.sum(-1, keepdims=True), np.float32)

    def generation_fields(self) -> dict[str, Any]:
        """The fields of GenerationOptions that the sampler stands for.

        Returns:
            Those that differ from their defaults.
        """
        return {"sampler": self.get_next_token, **changed({"temperature": self.temperature})}

    def next_draws(self, count: int) -> tuple[int | None, int]:
        """Takes the draws of so many sequences from what the sampler's seed gives.

        A sampler with a seed goes on from call to call and never repeats a draw.

        Args:
            count: How many sequences will draw.

        Returns:
            The seed, None for a fresh one, and the number of the first sequence.
        """
        return None, 0

    def restart_draws(self) -> None:
        """Lets a sampler with a seed draw from its start again, as `compile` does."""

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor that make an equal sampler.

        Returns:
            Values by the arguments' names.
        """
        names = ("temperature", *self._arguments)
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_config(cls: type[S], config: Mapping[str, Any]) -> S:
        """Makes a sampler from what `get_config` returned.

        Args:
            config: Arguments of the constructor.

        Returns:
            The sampler.
        """
        return cls(**config)

    def __eq__(self, other: object) -> bool:
        """Whether both are of one class of fuseq and choose alike; a user's equals only itself."""
        if self is other or type(self) is not type(other) or not is_built_in(type(self)):
            return self is other
        return self.get_config() == other.get_config()

    def __hash__(self) -> int:
        """The same for all of a class, since arguments may change."""
        return hash(type(self))

    def __repr__(self) -> str:
        """The call that makes an equal sampler."""
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


def is_built_in(sampler_class: type) -> bool:
    """Whether a class is one of fuseq's own samplers."""
    return sampler_class.__module__.startswith(f"{__package__}.")
