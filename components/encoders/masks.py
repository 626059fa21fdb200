"""Which frames are real and which keys a frame may attend to."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from core.errors import ConfigError

ContextStyle = Literal["regular", "chunked_limited"]

BLOCKED_SCORE = -1e4
"""Added to the score of a key that must not be seen. Beside any other key its softmax weight and
gradient are exactly 0, and it is finite in every dtype, so that a row without keys gives no NaN."""


def valid_frames(lengths: Tensor, size: int) -> Tensor:
    """Return a (B, size) bool mask that is true inside each of the (B,) lengths."""
    return torch.arange(size, device=lengths.device) < lengths.unsqueeze(1)


def check_context(context: tuple[int, int] | None, style: ContextStyle) -> None:
    """Raise ConfigError unless ``context`` says in ``style`` what a query sees."""
    if context is None:
        return
    left, right = context
    if min(left, right) < -1:
        raise ConfigError(
            "encoder: attention_context must not be negative, other than -1 for all frames of a "
            f"side, found {context}"
        )
    if style == "chunked_limited" and right >= 0 and left > 0 and left % (right + 1):
        chunk = right + 1
        raise ConfigError(
            f"encoder: a right context of {right} makes chunks of {chunk} frames, and the left "
            f"context of chunked_limited must be a multiple of that, such as {left - left % chunk} "
            f"or {left - left % chunk + chunk}; found attention_context={context}"
        )


def attention_mask(
    valid: Tensor,
    context: tuple[int, int] | None,
    dtype: torch.dtype,
    style: ContextStyle = "regular",
) -> Tensor:
    """Return what is added to attention scores: 0 for keys to see, BLOCKED_SCORE for others.

    Args:
        valid: (B, T) bool, true for real frames.
        context: frames that a query sees to its left and right, -1 for all of a side; None for
            all of both.
        dtype: of the result.
        style: ``regular`` counts the context from the query. ``chunked_limited`` cuts the sequence
            into chunks of ``right + 1`` frames: a query sees its own chunk and ``left // (right +
            1)`` chunks before it. Without an end on the right there are no chunks.

    Returns:
        (B, 1, T) where the context is unlimited and (B, T, T) where it is not; dimensions are
        batch, query, key.
    """
    blocked = ~valid.unsqueeze(1)
    if context is not None:
        left, right = context
        place = torch.arange(valid.shape[1], device=valid.device)
        if style == "chunked_limited" and right >= 0:  # the same band, counted in chunks
            chunk = right + 1
            place, left, right = place // chunk, left // chunk, 0  # -1 stays -1
        offset = place - place.unsqueeze(1)
        if left >= 0:
            blocked = blocked | (offset < -left)
        if right >= 0:
            blocked = blocked | (offset > right)
    return torch.zeros_like(blocked, dtype=dtype).masked_fill(blocked, BLOCKED_SCORE)
