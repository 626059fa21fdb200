"""Where the phases of a warm-up, stable, decay schedule end."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, assert_never

from components.schedulers.ramp import warmup_factor
from core.errors import ConfigError

Shape = Literal["linear", "cosine", "one_minus_sqrt", "square"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Corners:
    """Everything that the factor of a step depends on.

    Args:
        warmup: last step of the warm-up.
        decay_from: last step of the stable phase.
        total: last step of the decay.
        shape: of the decay.
        floor: factor from ``total`` on.
        rows_per_step: rows of the data in one step; None where steps differ.
        branched: the decay was begun by hand, not where it was planned.
        warmup_from: last step before the warm-up, up to which the factor is 0.
    """

    warmup: int
    decay_from: int
    total: int
    shape: Shape
    floor: float
    rows_per_step: int | None = None
    branched: bool = False
    warmup_from: int = 0

    def factor(self, step: int) -> float:
        """Return the factor of 1-based ``step``."""
        if step <= self.warmup_from:
            return 0.0
        if step <= self.decay_from:
            return warmup_factor(step - self.warmup_from, self.warmup - self.warmup_from)
        if step >= self.total:
            return self.floor
        done = (step - self.decay_from) / (self.total - self.decay_from)
        return self.floor + (1.0 - self.floor) * decay_factor(self.shape, done)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, for JSON."""
        return asdict(self)

    def same_phases(self, other: Corners) -> bool:
        """Return whether the factors are the same at every step."""
        return replace(self, rows_per_step=None) == replace(other, rows_per_step=None)

    def differences(self, configured: Corners) -> list[str]:
        """Say in which fields the configuration differs from these corners."""
        names = {
            "warmup_from": "warm-up after step",
            "warmup": "warm-up until step",
            "decay_from": "decay from step",
            "total": "end at step",
            "shape": "shape",
            "floor": "floor",
        }
        return [
            f"{text} {getattr(self, name)}; the configuration now gives {getattr(configured, name)}"
            for name, text in names.items()
            if getattr(self, name) != getattr(configured, name)
        ]

    def rebased(self, step: int, rows_per_step: int) -> Corners:
        """Measure what lies after ``step`` in steps of another number of rows."""
        assert self.rows_per_step is not None
        scale = self.rows_per_step / rows_per_step

        def moved(corner: int) -> int:
            return corner if corner <= step else step + math.ceil((corner - step) * scale)

        return replace(
            self,
            warmup_from=moved(self.warmup_from),
            warmup=moved(self.warmup),
            decay_from=moved(self.decay_from),
            total=moved(self.total),
            rows_per_step=rows_per_step,
        )

    def branch(self, step: int, decay_steps: int) -> Corners:
        """Decay from ``step`` on. Raises ConfigError where the rate is not at its peak."""
        if not self.warmup <= step <= self.decay_from:
            phase = (
                f"warms up until step {self.warmup}"
                if step < self.warmup
                else f"decays since step {self.decay_from}"
            )
            raise ConfigError(
                f"scheduler.decay_now={decay_steps}: the checkpoint of step {step} is not of the "
                f"stable phase: its run {phase}. Take one of steps {self.warmup} to "
                f"{self.decay_from}"
            )
        return replace(self, decay_from=step, total=step + decay_steps, branched=True)


def decay_factor(shape: Shape, done: float) -> float:
    """Return the factor of a decay to zero, of which the share ``done`` has passed."""
    match shape:
        case "linear":
            return 1.0 - done
        case "cosine":
            return (1.0 + math.cos(math.pi * done)) / 2.0
        case "one_minus_sqrt":
            return 1.0 - math.sqrt(done)
        case "square":
            return 1.0 - done * done
        case _:
            assert_never(shape)
