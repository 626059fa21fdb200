"""The schedule of the Transformer paper."""

from __future__ import annotations

from components.schedulers.ramp import check_share, check_warmup
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
        offset: steps by which the schedule lags behind; those before it have the factor of its
            first. 1 is NeMo's behaviour: it counts from 0, and the first two steps share a rate.
        min_factor: least factor after the warm-up. NeMo's ``min_lr`` of 1e-6 with a base rate of
            5.0 is a factor of 2e-7.
    """

    def __init__(
        self, *, d_model: int, warmup_steps: int, offset: int = 0, min_factor: float = 0.0
    ) -> None:
        if d_model < 1:
            raise ConfigError(f"scheduler/noam: d_model must be at least 1, but is {d_model}")
        check_warmup("noam", warmup_steps, least=1)
        if offset < 0:
            raise ConfigError(f"scheduler/noam: offset must not be negative, but is {offset}")
        check_share("noam", "min_factor", min_factor)
        self.d_model = d_model
        self.warmup_steps = warmup_steps
        self.offset = offset
        self.min_factor = min_factor

    def factor(self, step: int, total_steps: int | None) -> float:
        """Return the factor of 1-based ``step``; ``total_steps`` is not needed."""
        lagging = max(step - self.offset, 1)
        shape = min(lagging**-0.5, lagging * self.warmup_steps**-1.5)
        factor = float(self.d_model**-0.5 * shape)
        return max(factor, self.min_factor) if lagging > self.warmup_steps else factor
