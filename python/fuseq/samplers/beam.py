# SPDX-License-Identifier: Apache-2.0
"""BeamSampler: keeps several hypotheses and returns the likeliest."""

from typing import Any, ClassVar, Literal

from fuseq.samplers import protocol
from fuseq.samplers.checks import changed, is_number, is_whole, require
from fuseq.samplers.protocol import Floats, Ids, Next
from fuseq.samplers.sampler import Sampler


class BeamSampler(Sampler):
    """Searches with beams for the likeliest row.

    A finished beam leaves the race with score = sum of log-probabilities / new ids **
    length_penalty. Prompts count neither in the sum nor in the length. The meaning of
    length_penalty and early_stopping is that of transformers.

    Args:
        num_beams: Hypotheses that are kept.
        return_all_beams: Whether all of them are returned.
        length_penalty: 0: the sum alone, as KerasHub; the larger, the longer the rows.
        early_stopping: True: stop once num_beams hypotheses are finished; False: stop when the
            best running one, scored at its present length, cannot win; "never": when none can win
            at any length.
        temperature: Divides the logits.

    Raises:
        ValueError: An argument does not fit.

    Example:
        >>> BeamSampler(num_beams=4, length_penalty=0.0).generation_fields()
        {'num_beams': 4, 'length_penalty': 0.0}
    """

    _arguments: ClassVar[tuple[str, ...]] = (
        "num_beams",
        "return_all_beams",
        "length_penalty",
        "early_stopping",
    )

    def __init__(
        self,
        num_beams: int = 5,
        return_all_beams: bool = False,
        *,
        length_penalty: float = 1.0,
        early_stopping: bool | Literal["never"] = False,
        temperature: float = 1.0,
    ) -> None:
        """Checks and keeps the arguments."""
        super().__init__(temperature=temperature)
        require(is_whole(num_beams), self, "num_beams must be a positive whole number", num_beams)
        require(
            is_number(length_penalty),
            self,
            "length_penalty must be a finite number",
            length_penalty,
        )
        require(
            isinstance(early_stopping, bool) or early_stopping == "never",
            self,
            'early_stopping must be True, False or "never"',
            early_stopping,
        )
        self.num_beams = num_beams
        self.return_all_beams = return_all_beams
        self.length_penalty = length_penalty
        self.early_stopping = early_stopping

    def __call__(  # type: ignore[override]
        self,
        next: Next,
        prompt: object,
        cache: object = None,
        index: object = 0,
        mask: object | None = None,
        stop_token_ids: object | None = None,
        hidden_states: object | None = None,
        model: object | None = None,
    ) -> Ids | tuple[Ids, Floats]:
        """Fills the cells of prompts, with logits that a function computes.

        Args:
            next: As `Sampler` says, for all beams of all rows: prompts [B * W, T], a row's beams
                side by side. Of a cache it gets the rows that the beams go on from.
            prompt: Ids [B, T].
            cache: As `Sampler` says, for the rows of the batch.
            index: The first cell to fill.
            mask: Bool [B, T], True for the cells that are given and stay.
            stop_token_ids: Ids that end a beam; None: every row is filled.
            hidden_states: Not used.
            model: Not used.

        Returns:
            The best rows [B, T]; with return_all_beams, all rows [B, W, T], best first, and their
            scores [B, W]. One beam has the score that it would have with temperature 1.

        Raises:
            ValueError: A shape or a number does not fit.
        """
        call = protocol.read_call(next, prompt, cache, index, mask, stop_token_ids)
        fields = self.generation_fields()
        if self.return_all_beams:
            fields["return_scores"] = True  # one beam would have no score
        filled = protocol.fill(call, fields, *self.next_draws(0))
        return (filled.rows, filled.scores) if self.return_all_beams else filled.rows[:, 0]

    def generation_fields(self) -> dict[str, Any]:  # noqa: D102 - the base says it
        return changed(
            {
                "num_beams": self.num_beams,
                "num_return_sequences": self.num_beams if self.return_all_beams else 1,
                "length_penalty": self.length_penalty,
                "early_stopping": self.early_stopping,
                "temperature": self.temperature,
            }
        )

    def get_config(self) -> dict[str, Any]:
        """As `Sampler` says; what KerasHub's lacks is left out where it has its default.

        Returns:
            Values by the arguments' names.
        """
        config = super().get_config()
        ours = {"length_penalty": 1.0, "early_stopping": False}
        return {name: value for name, value in config.items() if ours.get(name) != value}
