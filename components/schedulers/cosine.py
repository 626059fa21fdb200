"""Linear warm-up, then half a cosine down to a floor."""

from __future__ import annotations

import math

from components.schedulers.ramp import check_share, check_warmup, known_total, warmup_factor
from core.registry import register


@register("scheduler", "cosine")
class Cosine:
    """Rise linearly to the base rate, then fall along half a cosine (Loshchilov and Hutter 2017).

    The peak factor is 1, at step ``warmup_steps``; the factor is ``floor`` at the last step and
    after it. A run that ends within the warm-up never decays.

    Args:
        warmup_steps: steps until the peak; 0 for none.
        floor: factor at the end.
    """

    def __init__(self, *, warmup_steps: int = 0, floor: float = 0.0) -> None:
        check_warmup("cosine", warmup_steps)
        check_share("cosine", "floor", floor)
        self.warmup_steps = warmup_steps
        self.floor = floor

    def factor(self, step: int, total_steps: int | None) -> float:
        """Return the factor of 1-based ``step``. Raises ConfigError if the end is not known."""
        total = known_total("cosine", total_steps)
        if step <= self.warmup_steps:
            return warmup_factor(step, self.warmup_steps)
        if step >= total:
            return self.floor
        done = (step - self.warmup_steps) / (total - self.warmup_steps)
        return self.floor + (1.0 - self.floor) * (1.0 + math.cos(math.pi * done)) / 2.0
