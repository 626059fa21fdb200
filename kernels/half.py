"""Room for gradients in float16, which holds nothing below 6e-8.

The gradient of a mean would vanish in it, and so would most softmax values over a large
vocabulary. So gradients of logits are carried multiplied by a factor, and their float32 sums are
divided by it.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

HALF_RANGE: Final = 1024.0
"""Largest weight of a gradient in float16."""


def half_factor(weights: Tensor) -> Tensor:
    """Return () what makes the largest finite weight :data:`HALF_RANGE`, whatever their scale."""
    largest = weights.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).abs().amax()
    return torch.where(largest > 0, HALF_RANGE / largest, 1.0)
