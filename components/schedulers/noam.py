"""The schedule of the Transformer paper."""

from __future__ import annotations

from components.schedulers.ramp import check_warmup
from core.errors import ConfigError
from core.registry import register


@register("scheduler", "noam")
class Noam:
    """Scale by ``d_model**-0.5 * min(step**-0.5, step * warmup_steps**-1.5)``.

    This is Vaswani et al. 2017, eq. 3, in the factor form that speech recipes use: the base rate is
    a multiplier such as 5.0, not a rate. Unlike that of the other schedules, the peak factor is not
    1 but ``(d_model * warmup_steps)**-0.5``, reached at step ``warmup_steps``. To set the peak rate
    itself, take ``inverse_sqrt``, which has the same shape.

    Args:
        d_model: width of the model.
        warmup_steps: steps until the peak, at least 1.
    """

    def __init__(self, *, d_model: int, warmup_steps: int) -> None:
        if d_model < 1:
            raise ConfigError(f"scheduler/noam: d_model must be at least 1, but is {d_model}")
        check_warmup("noam", warmup_steps, least=1)
        self.d_model = d_model
        self.warmup_steps = warmup_steps

    def factor(self, step: int, total_steps: int | None) -> float:
        """Return the factor of 1-based ``step``; ``total_steps`` is not needed."""
        return float(self.d_model**-0.5 * min(step**-0.5, step * self.warmup_steps**-1.5))
