# SPDX-License-Identifier: Apache-2.0
"""ContrastiveSampler: likely ids whose hidden states are unlike those before."""

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fuseq.samplers import protocol
from fuseq.samplers.checks import changed, is_between, is_whole, require
from fuseq.samplers.protocol import Call, Floats, Ids, Next, take_rows, to_floats
from fuseq.samplers.sampler import Sampler


class ContrastiveSampler(Sampler):
    """Balances how likely an id is against how like what was before it makes the row.

    Of the k best ids it takes the one with the largest (1 - alpha) * probability - alpha *
    (largest cosine of its hidden state with any before). Source: https://arxiv.org/abs/2202.06417

    Args:
        k: How many ids are tried at every step.
        alpha: The weight of likeness, from 0 to 1; 0 takes the best id, and so does k = 1.
        temperature: Divides the logits.

    Raises:
        ValueError: An argument does not fit.

    Example:
        >>> ContrastiveSampler(k=4, alpha=0.5).generation_fields()
        {'penalty_alpha': 0.5, 'top_k': 4}
    """

    _arguments: ClassVar[tuple[str, ...]] = ("k", "alpha")

    def __init__(self, k: int = 5, alpha: float = 0.6, *, temperature: float = 1.0) -> None:
        """Checks and keeps the arguments."""
        super().__init__(temperature=temperature)
        require(is_whole(k), self, "k must be a positive whole number", k)
        require(is_between(alpha, 0, 1), self, "alpha must be from 0 to 1", alpha)
        self.k = k
        self.alpha = alpha

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
        """Fills the cells of prompts, with logits and hidden states that a function computes.

        Args:
            next: As `Sampler` says; after the first call it gets the k candidates of all rows,
                side by side, at the cell before `index`, and its hidden states [B * k, D] count.
            prompt: Ids [B, T].
            cache: As `Sampler` says.
            index: The first cell to fill.
            mask: Bool [B, T], True for the cells that are given and stay.
            stop_token_ids: Ids that end a row; None: every row is filled.
            hidden_states: Of the prompt [B, T, D]; those before `index` count.
            model: Not used.

        Returns:
            The filled rows [B, T].

        Raises:
            ValueError: A shape or a number does not fit, or there are no hidden states.
        """
        if self._is_greedy():
            return super().__call__(next, prompt, cache, index, mask, stop_token_ids)
        call = protocol.read_call(next, prompt, cache, index, mask, stop_token_ids)
        shape = list(call.prompt.shape)
        states = np.zeros(0, np.float32) if hidden_states is None else to_floats(hidden_states)
        require(
            states.ndim == 3 and list(states.shape[:2]) == shape,
            self,
            f"hidden_states must be those of the prompt, {[*shape, 'D']}",
            None if hidden_states is None else list(states.shape),
        )
        return self._fill(call, _normalized(states))

    def generation_fields(self) -> dict[str, Any]:  # noqa: D102 - the base says it
        if self._is_greedy():
            return {}
        return changed(
            {"penalty_alpha": self.alpha, "top_k": self.k, "temperature": self.temperature}
        )

    def _is_greedy(self) -> bool:
        return self.k == 1 or self.alpha == 0

    def _fill(self, call: Call, states: Floats) -> Ids:
        """The loop over cells; states [B, T, D] have length 1."""
        prompt, cache = call.prompt, call.cache
        batch, length = prompt.shape
        done = call.starts == length
        if done.all():
            return prompt
        logits, _, cache = call.next(prompt, cache, call.index)
        scores = protocol.returned(logits, batch)
        k = min(self.k, scores.shape[1])
        for index in range(call.index, length):
            probabilities = self.compute_probabilities(scores)
            ids = np.argsort(-probabilities, axis=-1, kind="stable")[:, :k]
            keeps = done | call.given[:, index]
            tried = np.repeat(prompt, k, 0)
            tried[:, index] = np.where(keeps[:, None], prompt[:, index, None], ids).reshape(-1)
            cache = take_rows(cache, np.repeat(np.arange(batch), k))
            logits, hidden, cache = call.next(tried, cache, index + 1)
            hidden = protocol.returned(hidden, batch * k, "hidden states")
            new = _normalized(hidden).reshape(batch, k, -1)
            best = self._best(np.take_along_axis(probabilities, ids, -1), new, states[:, :index])
            lanes = np.arange(batch) * k + best
            prompt, cache = tried[lanes], take_rows(cache, lanes)
            scores = protocol.returned(logits, batch * k)[lanes]
            states[:, index] = new[np.arange(batch), best]
            done |= ~keeps & np.isin(prompt[:, index], call.stop_ids)
            if done.all():
                break
        return prompt

    def _best(self, chances: Floats, new: Floats, seen: Floats) -> npt.NDArray[np.intp]:
        """The best candidates [B] by chances [B, k] and states [B, k, D] and [B, index, D]."""
        likeness = (new @ seen.transpose(0, 2, 1)).max(-1, initial=-1.0)
        scores = (1 - self.alpha) * chances - self.alpha * likeness
        return np.asarray(scores.argmax(-1), np.intp)


def _normalized(states: Floats) -> Floats:
    """A copy with vectors of length 1; those of length 0 stay."""
    lengths = np.sqrt((states * states).sum(-1, keepdims=True))
    return np.asarray(states / np.where(lengths > 0, lengths, 1), np.float32)
