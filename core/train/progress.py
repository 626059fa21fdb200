"""How far a run is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Progress:
    """How far a run is, over all its processes in time; saved with every checkpoint.

    Args:
        step: optimiser steps taken, skipped ones included.
        epoch: of the next batch, counted from 0.
        utterances: that this rank has trained on.
        seconds: of audio that this rank has trained on.
        nonfinite_in_a_row: steps skipped since the last one that was taken.
    """

    step: int = 0
    epoch: int = 0
    utterances: int = 0
    seconds: float = 0.0
    nonfinite_in_a_row: int = 0
