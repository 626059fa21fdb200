from __future__ import annotations

import pytest

from components.schedulers.inverse_sqrt import InverseSqrt
from components.schedulers.noam import Noam
from core.errors import ConfigError


def test_values_of_the_paper() -> None:
    noam = Noam(d_model=512, warmup_steps=4000)
    assert noam.factor(1, None) == pytest.approx(512**-0.5 * 4000**-1.5)
    assert noam.factor(4000, None) == pytest.approx((512 * 4000) ** -0.5)
    assert noam.factor(16000, None) == pytest.approx((512 * 4000) ** -0.5 / 2)


def test_is_inverse_sqrt_times_its_peak() -> None:
    noam, other = Noam(d_model=256, warmup_steps=50), InverseSqrt(warmup_steps=50)
    peak = (256 * 50) ** -0.5
    for step in range(1, 500):
        assert noam.factor(step, None) == pytest.approx(peak * other.factor(step, None))


def test_needs_a_warmup_and_a_width() -> None:
    with pytest.raises(ConfigError, match="scheduler/noam: warmup_steps must be at least 1"):
        Noam(d_model=512, warmup_steps=0)
    with pytest.raises(ConfigError, match="scheduler/noam: d_model must be at least 1"):
        Noam(d_model=0, warmup_steps=1)
