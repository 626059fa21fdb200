"""What the schedules share: the warm-up and the checks of their settings."""

from __future__ import annotations

from core.errors import ConfigError


def warmup_factor(step: int, warmup_steps: int) -> float:
    """Rise linearly from ``1 / warmup_steps`` at step 1 to 1 at ``warmup_steps``, then stay."""
    return 1.0 if step >= warmup_steps else step / warmup_steps


def check_warmup(name: str, warmup_steps: int, *, least: int = 0) -> None:
    """Raise ConfigError unless ``warmup_steps`` is at least ``least``."""
    if warmup_steps < least:
        raise ConfigError(
            f"scheduler/{name}: warmup_steps must be at least {least}, but is {warmup_steps}"
        )


def check_share(name: str, field: str, value: float) -> None:
    """Raise ConfigError unless ``value`` lies in [0, 1]."""
    if not 0.0 <= value <= 1.0:
        raise ConfigError(f"scheduler/{name}: {field} must lie in [0, 1], but is {value}")


def known_total(name: str, total_steps: int | None) -> int:
    """Return the length of the run, or raise ConfigError saying where to set it."""
    if total_steps is None:
        raise ConfigError(
            f"scheduler/{name} decays towards the end of training and must know where that is: "
            "set trainer.max_steps, or take a schedule without an end, such as "
            "@scheduler/inverse_sqrt or @scheduler/constant"
        )
    return total_steps
