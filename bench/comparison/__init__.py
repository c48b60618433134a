# SPDX-License-Identifier: Apache-2.0
"""The parts of `compare.py`: what is run, on which rivals, how it is checked, timed and told."""
