# SPDX-License-Identifier: Apache-2.0
"""`python -m fuseq.cli` is the command too."""

import sys

from fuseq.cli import main

sys.exit(main())
