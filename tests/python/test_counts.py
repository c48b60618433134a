# SPDX-License-Identifier: Apache-2.0
"""Arguments that count something."""

from typing import Any

import numpy as np
import pytest
from fuseq.models.counts import check_count


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_whole_numbers_of_python_and_numpy_are_counts(value: Any) -> None:
    check_count("epochs", value, least=3)


@pytest.mark.parametrize("value", [2, True, 3.0, "3", None, np.float64(3), np.int64(2)])
def test_what_is_no_count_is_named_with_the_call(value: Any) -> None:
    message = r"^evaluate: steps must be None or a whole number >= 3, got "
    with pytest.raises(ValueError, match=message):
        check_count("steps", value, "None or ", least=3, call="evaluate")
