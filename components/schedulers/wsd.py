"""Warm-up, stable rate, decay."""

from __future__ import annotations

import math
from typing import Literal, assert_never, get_args

from components.schedulers.ramp import check_share, check_warmup, known_total, warmup_factor
from core.errors import ConfigError, suggest
from core.registry import register

Shape = Literal["linear", "cosine", "sqrt", "square"]


@register("scheduler", "wsd")
class WSD:
    """Rise linearly to the base rate, hold it, and decay over the last share of the run.

    The schedule of MiniCPM (Hu et al. 2024, arXiv 2404.06395). The peak factor is 1; the factor is
    ``floor`` at the last step and after it. A checkpoint of the stable phase can be continued with
    any end. With q rising from 0 to 1 over the decay, the factor is ``floor + (1 - floor) * f(q)``:

        linear  1 - q                        cosine  (1 + cos(pi q)) / 2
        sqrt    1 - sqrt(q)                  square  1 - q**2

    ``sqrt`` is the shape that Hägele et al. 2024 (arXiv 2405.18392) find best. A run that ends
    within the warm-up never decays.

    Args:
        warmup_steps: steps until the peak; 0 for none.
        decay_share: share of the steps after the warm-up that decays, rounded up to whole steps.
        shape: of the decay.
        floor: factor at the end.
    """

    def __init__(
        self,
        *,
        warmup_steps: int = 0,
        decay_share: float = 0.1,
        shape: Shape = "sqrt",
        floor: float = 0.0,
    ) -> None:
        check_warmup("wsd", warmup_steps)
        check_share("wsd", "decay_share", decay_share)
        check_share("wsd", "floor", floor)
        if shape not in get_args(Shape):
            hint = suggest(shape, get_args(Shape), noun="shapes")
            raise ConfigError(f"scheduler/wsd: there is no shape {shape!r}; {hint}")
        self.warmup_steps = warmup_steps
        self.decay_share = decay_share
        self.shape: Shape = shape
        self.floor = floor

    def factor(self, step: int, total_steps: int | None) -> float:
        """Return the factor of 1-based ``step``. Raises ConfigError if the end is not known."""
        total = known_total("wsd", total_steps)
        decay_steps = self.decay_steps(total)
        if step <= max(self.warmup_steps, total - decay_steps):
            return warmup_factor(step, self.warmup_steps)
        if step >= total:
            return self.floor
        done = (step - (total - decay_steps)) / decay_steps
        return self.floor + (1.0 - self.floor) * _decay(self.shape, done)

    def decay_steps(self, total_steps: int) -> int:
        """Return how many of the last steps decay."""
        after_warmup = max(total_steps - self.warmup_steps, 0)
        # 0.1 * 30 is 3.0000000000000004, which must not become 4.
        return math.ceil(round(self.decay_share * after_warmup, 6))


def _decay(shape: Shape, done: float) -> float:
    match shape:
        case "linear":
            return 1.0 - done
        case "cosine":
            return (1.0 + math.cos(math.pi * done)) / 2.0
        case "sqrt":
            return 1.0 - math.sqrt(done)
        case "square":
            return 1.0 - done * done
        case _:
            assert_never(shape)
