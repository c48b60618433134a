# SPDX-License-Identifier: Apache-2.0
"""PresetSampler: as a preset's own settings say."""

from collections.abc import Mapping
from typing import Any, ClassVar

from fuseq.samplers.checks import changed
from fuseq.samplers.sampler import Sampler


class PresetSampler(Sampler):
    """Generates as the settings of a preset's folder say; a task fills them in.

    Args:
        fields: Fields of GenerationOptions; None: not known yet.
        temperature: Other than 1, it takes the place of the folder's.

    Raises:
        ValueError: An argument does not fit.

    Example:
        >>> PresetSampler({"num_beams": 4, "min_length": 10}).generation_fields()
        {'num_beams': 4, 'min_length': 10}
    """

    _arguments: ClassVar[tuple[str, ...]] = ("fields",)

    def __init__(
        self, fields: Mapping[str, Any] | None = None, *, temperature: float = 1.0
    ) -> None:
        """Checks and keeps the arguments."""
        super().__init__(temperature=temperature)
        self.fields = None if fields is None else dict(fields)

    def generation_fields(self) -> dict[str, Any]:
        """The fields that were given.

        Returns:
            Fields of GenerationOptions.

        Raises:
            ValueError: There are none.
        """
        if self.fields is None:
            raise ValueError(
                "PresetSampler: needs the settings of a preset's folder, got none. Give it to the "
                "task of a folder with generation settings, or pass fields"
            )
        return {**self.fields, **changed({"temperature": self.temperature})}
