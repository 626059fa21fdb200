"""Which frames are real and which keys a frame may attend to."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCKED_SCORE = -1e4
"""Added to the score of a key that must not be seen. Beside any other key its softmax weight and
gradient are exactly 0, and it is finite in every dtype, so that a row without keys gives no NaN."""


def valid_frames(lengths: Tensor, size: int) -> Tensor:
    """Return a (B, size) bool mask that is true inside each of the (B,) lengths."""
    return torch.arange(size, device=lengths.device) < lengths.unsqueeze(1)


def attention_mask(valid: Tensor, context: tuple[int, int] | None, dtype: torch.dtype) -> Tensor:
    """Return what is added to attention scores: 0 for keys to see, BLOCKED_SCORE for others.

    Args:
        valid: (B, T) bool, true for real frames.
        context: frames that a query sees to its left and right; None for all.
        dtype: of the result.

    Returns:
        (B, 1, T) where the context is unlimited and (B, T, T) where it is not; dimensions are
        batch, query, key.
    """
    blocked = ~valid.unsqueeze(1)
    if context is not None:
        left, right = context
        index = torch.arange(valid.shape[1], device=valid.device)
        offset = index - index.unsqueeze(1)
        blocked = blocked | (offset < -left) | (offset > right)
    return torch.zeros_like(blocked, dtype=dtype).masked_fill(blocked, BLOCKED_SCORE)
