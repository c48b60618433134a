# SPDX-License-Identifier: Apache-2.0
"""What the programs of this recipe share."""

from importlib.util import find_spec
from pathlib import Path


def output_folder(*, small: bool) -> Path:
    """Where a run is written if `--output` is not given: a try-out apart from the full run."""
    return Path("translation_small" if small else "translation_run")


def missing(*packages: str) -> list[str]:
    """Those of some packages that are not installed."""
    return [name for name in packages if find_spec(name) is None]


def require(*packages: str) -> None:
    """Ends the program with the install line if one of its packages is missing."""
    if absent := missing(*packages):
        raise SystemExit(
            f"{', '.join(packages)} must be installed, got no {' and no '.join(absent)}. "
            'Run: pip install "fuseq[train,metrics]"'
        )
