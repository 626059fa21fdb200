"""Which utterances have an alignment, by their lengths and labels alone."""

from __future__ import annotations

import torch
from torch import Tensor


def feasible(input_lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
    """Say which utterances have an alignment, unless their logits forbid it.

    CTC needs a frame for each target and one for the blank between equal neighbours.

    Args:
        input_lengths: (B,) valid frames.
        targets: (B, U), of which what lies beyond a length does not matter.
        target_lengths: (B,).

    Returns:
        (B,) bool; True for no targets, whatever the number of frames.
    """
    inside = torch.arange(targets.shape[1], device=targets.device) < target_lengths.unsqueeze(1)
    return input_lengths >= target_lengths + count_repeats(targets, inside)


def count_repeats(targets: Tensor, inside: Tensor) -> Tensor:
    """Return (B,) int64 labels that equal the one before, which a blank must separate.

    Args:
        targets: (B, U).
        inside: (B, U) bool, which of them are within a length.
    """
    return ((targets[:, 1:] == targets[:, :-1]) & inside[:, 1:]).sum(dim=1)
