from __future__ import annotations

import pytest

from core.errors import ConfigErrors
from core.train.trainer import Trainer


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_steps": 1, "accumulation": 0}, r"trainer\.accumulation: expected at least 1, got 0"),
        ({"max_steps": 1, "log_every": 0}, r"trainer\.log_every"),
        ({"max_steps": 1, "clip_norm": 0.0}, r"trainer\.clip_norm: .* null leaves"),
        ({"max_steps": 1, "ema_decay": 1.5}, r"trainer\.ema_decay: .* between 0 and 1, got 1\.5"),
        ({}, r"exactly one of max_steps and max_epochs"),
        ({"max_steps": 1, "max_epochs": 1}, r"exactly one of max_steps and max_epochs"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigErrors, match=message):
        Trainer(**settings)
