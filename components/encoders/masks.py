"""Which frames are real and which keys a frame may attend to."""

from __future__ import annotations

import torch
from torch import Tensor


def valid_frames(lengths: Tensor, size: int) -> Tensor:
    """Return a (B, size) bool mask that is true inside each of the (B,) lengths."""
    return torch.arange(size, device=lengths.device) < lengths.unsqueeze(1)


def blocked_keys(valid: Tensor, context: tuple[int, int] | None) -> Tensor:
    """Return which keys each query must not see.

    Args:
        valid: (B, T) bool, true for real frames.
        context: frames that a query sees to its left and right; None for all.

    Returns:
        Bool, (B, 1, T) where the context is unlimited and (B, T, T) where it is not; dimensions
        are batch, query, key. A query past its length has a row like any other, so no row of an
        utterance with real frames is blocked altogether unless the query itself is padding.
    """
    padding = ~valid.unsqueeze(1)
    if context is None:
        return padding
    left, right = context
    index = torch.arange(valid.shape[1], device=valid.device)
    offset = index - index.unsqueeze(1)
    return padding | (offset < -left) | (offset > right)
