"""Linear warm-up, then decay with the inverse square root of the step."""

from __future__ import annotations

import math

from components.schedulers.ramp import check_share, check_warmup, warmup_factor
from core.registry import register


@register("scheduler", "inverse_sqrt")
class InverseSqrt:
    """Rise linearly to the base rate, then scale by ``sqrt(warmup_steps / step)``.

    The peak factor is 1, at step ``warmup_steps``. It needs no end, so a run may be prolonged.

    Args:
        warmup_steps: steps until the peak; with 0 the decay starts at step 1.
        floor: least factor after the warm-up.
    """

    def __init__(self, *, warmup_steps: int, floor: float = 0.0) -> None:
        check_warmup("inverse_sqrt", warmup_steps)
        check_share("inverse_sqrt", "floor", floor)
        self.warmup_steps = warmup_steps
        self.floor = floor

    def factor(self, step: int, total_steps: int | None) -> float:
        """Return the factor of 1-based ``step``; ``total_steps`` is not needed."""
        if step <= self.warmup_steps:
            return warmup_factor(step, self.warmup_steps)
        return max(self.floor, math.sqrt(max(self.warmup_steps, 1) / step))
