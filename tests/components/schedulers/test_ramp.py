from __future__ import annotations

import pytest

from components.schedulers.cosine import Cosine
from components.schedulers.ramp import warmup_factor
from components.schedulers.wsd import WSD
from core.errors import ConfigError


def test_warmup_starts_above_zero_and_ends_at_one() -> None:
    assert [warmup_factor(step, 4) for step in range(1, 7)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert warmup_factor(1, 0) == 1.0


@pytest.mark.parametrize("scheduler", [Cosine(), WSD()])
def test_an_unknown_end_is_refused(scheduler: Cosine | WSD) -> None:
    with pytest.raises(ConfigError, match=r"set trainer\.max_steps"):
        scheduler.factor(1, None)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="scheduler/cosine: warmup_steps must be at least 0"):
        Cosine(warmup_steps=-1)
    with pytest.raises(ConfigError, match=r"scheduler/wsd: decay_share must lie in \[0, 1\]"):
        WSD(decay_share=1.5)
