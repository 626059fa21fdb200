"""How strongly gradients are reversed, by the adversary's own steps."""

from __future__ import annotations

import math
from typing import Protocol

from core.errors import ConfigError
from core.registry import register


class LambdaSchedule(Protocol):
    """Factor of a gradient reversal as a pure function of its step (kind ``lambda``)."""

    @property
    def settled_from(self) -> int:
        """Step from which the factor stays as it is."""

    def __call__(self, step: int) -> float:
        """Return the factor for ``step``, counted from 0, where it is 0."""


@register("lambda", "constant")
class ConstantLambda:
    """Hold one factor after a wait.

    Args:
        value: the factor.
        hold_steps: steps with factor 0 after step 0.
    """

    def __init__(self, *, value: float = 1.0, hold_steps: int = 0) -> None:
        _check("constant", value=value, hold_steps=hold_steps)
        self.value = value
        self.hold_steps = hold_steps

    @property
    def settled_from(self) -> int:
        """Step from which the factor stays as it is."""
        return self.hold_steps + 1

    def __call__(self, step: int) -> float:
        """Return the factor for ``step``."""
        return self.value if step > self.hold_steps else 0.0


@register("lambda", "linear")
class LinearLambda:
    """Rise linearly from 0.

    Args:
        value: the factor at the end of the ramp and after it.
        ramp_steps: length of the ramp.
        hold_steps: steps with factor 0 before it.
    """

    def __init__(self, *, value: float = 1.0, ramp_steps: int = 1000, hold_steps: int = 0) -> None:
        _check("linear", value=value, hold_steps=hold_steps, ramp_steps=ramp_steps)
        self.value = value
        self.ramp_steps = ramp_steps
        self.hold_steps = hold_steps

    @property
    def settled_from(self) -> int:
        """Step from which the factor stays as it is."""
        return self.hold_steps + self.ramp_steps

    def __call__(self, step: int) -> float:
        """Return the factor for ``step``."""
        return self.value * _progress(step, self.hold_steps, self.ramp_steps)


@register("lambda", "ganin")
class GaninLambda:
    """Rise as ``2 / (1 + exp(-gamma p)) - 1`` with the progress p of the ramp (Ganin 2016).

    The curve is concave from 0: with gamma 10 it is 0.46 at a tenth of the ramp and 0.99 at half.

    Args:
        value: factor of the curve, whose end is 0.9999 with gamma 10.
        ramp_steps: length of the ramp. The paper takes the whole training; a length of its own
            keeps the factor independent of how many rows a manifest has.
        hold_steps: steps with factor 0 before the ramp.
        gamma: steepness.
    """

    def __init__(
        self,
        *,
        value: float = 1.0,
        ramp_steps: int = 5000,
        hold_steps: int = 0,
        gamma: float = 10.0,
    ) -> None:
        _check("ganin", value=value, hold_steps=hold_steps, ramp_steps=ramp_steps)
        if gamma <= 0.0:
            raise ConfigError(f"lambda/ganin: gamma must be positive, but is {gamma}")
        self.value = value
        self.ramp_steps = ramp_steps
        self.hold_steps = hold_steps
        self.gamma = gamma

    @property
    def settled_from(self) -> int:
        """Step from which the factor stays as it is."""
        return self.hold_steps + self.ramp_steps

    def __call__(self, step: int) -> float:
        """Return the factor for ``step``."""
        progress = _progress(step, self.hold_steps, self.ramp_steps)
        return self.value * (2.0 / (1.0 + math.exp(-self.gamma * progress)) - 1.0)


def _progress(step: int, hold_steps: int, ramp_steps: int) -> float:
    return min(max(step - hold_steps, 0) / ramp_steps, 1.0)


def _check(name: str, *, value: float, hold_steps: int, ramp_steps: int = 1) -> None:
    if not (math.isfinite(value) and value >= 0.0):
        raise ConfigError(
            f"lambda/{name}: value must be 0 or more, but is {value}; a negative factor would make "
            "the representation tell more, not less"
        )
    if hold_steps < 0:
        raise ConfigError(f"lambda/{name}: hold_steps must not be negative, but is {hold_steps}")
    if ramp_steps < 1:
        raise ConfigError(f"lambda/{name}: ramp_steps must be at least 1, but is {ramp_steps}")
