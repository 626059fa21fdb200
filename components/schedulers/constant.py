"""A constant learning rate after a warm-up."""

from __future__ import annotations

from components.schedulers.ramp import check_warmup, warmup_factor
from core.registry import register


@register("scheduler", "constant")
class Constant:
    """Hold the base rate, after an optional linear warm-up; the peak factor is 1.

    Args:
        warmup_steps: steps over which the rate rises linearly to the base rate; 0 for none.
    """

    def __init__(self, *, warmup_steps: int = 0) -> None:
        check_warmup("constant", warmup_steps)
        self.warmup_steps = warmup_steps

    def factor(self, step: int, total_steps: int | None) -> float:
        """Return the factor of 1-based ``step``; ``total_steps`` is not needed."""
        return warmup_factor(step, self.warmup_steps)
