"""Dropout that is cheap on CPU."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.errors import ConfigError

LEVELS = 1 << 16
"""Values of the 16 random bits that decide over one element."""


class Dropout(nn.Module):
    """Zero elements at random in training and scale the others to keep the mean.

    Args:
        probability: of zeroing an element, at least 0 and below 1.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        if not 0.0 <= probability < 1.0:
            raise ConfigError(f"dropout must be in [0, 1), found {probability}")
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """Map a tensor to one of the same shape and dtype."""
        return dropout(x, self.probability) if self.training else x

    def extra_repr(self) -> str:
        """Show the probability where the module is printed."""
        return f"{self.probability}"


def dropout(x: Tensor, probability: float) -> Tensor:
    """Apply dropout, drawing from torch's global generator.

    On CPU torch's own operator draws one Bernoulli variable an element, a seventh of a Conformer's
    training step. Here each 64-bit draw decides over four elements, which halves the cost; the
    probability is rounded to a multiple of 2**-16.
    """
    if probability == 0.0:
        return x
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.dropout(x, probability)
    dropped = min(round(probability * LEVELS), LEVELS - 1)
    words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    keep = words.view(torch.int16)[: x.numel()].view(x.shape) >= dropped - LEVELS // 2
    kept: Tensor = _Drop.apply(x, keep, LEVELS / (LEVELS - dropped))
    return kept


class _Drop(torch.autograd.Function):
    """Multiply by a mask and a scale in one new tensor, forward and backward."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        x: Tensor,
        keep: Tensor,
        scale: float,
    ) -> Tensor:
        ctx.save_for_backward(keep)
        ctx.scale = scale
        return _masked(x, keep, scale)

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        grad: Tensor,
    ) -> tuple[Tensor, None, None]:
        (keep,) = ctx.saved_tensors
        return _masked(grad, keep, ctx.scale), None, None


def _masked(x: Tensor, keep: Tensor, scale: float) -> Tensor:
    # torch converts bytes to floating point eight times as fast as booleans.
    return keep.view(torch.uint8).to(x.dtype).mul_(scale).mul_(x)
