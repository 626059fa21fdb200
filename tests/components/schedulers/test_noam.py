from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file

from components.schedulers.inverse_sqrt import InverseSqrt
from components.schedulers.noam import Noam
from core.errors import ConfigError

GOLDEN = Path(__file__).parents[4] / "shared/golden/nest/mini_train.safetensors"


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


def test_offset_lags_and_repeats_the_first_factor() -> None:
    plain, late = (Noam(d_model=64, warmup_steps=5, offset=offset) for offset in (0, 3))
    assert [late.factor(step, None) for step in range(1, 5)] == [plain.factor(1, None)] * 4
    for step in range(1, 30):
        assert late.factor(step + 3, None) == plain.factor(step, None)


def test_floor_holds_after_the_warm_up_only() -> None:
    plain = Noam(d_model=16, warmup_steps=4)  # its peak is 1/8
    floored = Noam(d_model=16, warmup_steps=4, min_factor=0.1)
    found = [floored.factor(step, None) for step in range(1, 12)]
    assert found[:6] == [plain.factor(step, None) for step in range(1, 7)]  # 6**-0.5 / 4 > 0.1
    assert found[6:] == [0.1] * 5
    assert found[0] < 0.1


def rate_of_nemo(n: int, *, base: float, width: int, warmup: int, floor: float) -> float:
    """The rate of NeMo's optimizer step n = 0, 1, 2, ..., by its formula."""
    s = max(1, n)
    rate = base * width**-0.5 * min(s**-0.5, s * warmup**-1.5)
    return float(max(rate, floor) if s > warmup else rate)


def test_offset_one_is_nemo_at_every_step() -> None:
    noam = Noam(d_model=512, warmup_steps=20, offset=1, min_factor=3e-2 / 5.0)
    for n in range(200):
        expected = rate_of_nemo(n, base=5.0, width=512, warmup=20, floor=3e-2)
        assert 5.0 * noam.factor(n + 1, None) == pytest.approx(expected, rel=1e-12)
    assert 5.0 * noam.factor(200, None) == 3e-2  # the floor was reached


def test_published_rates_of_nest_large() -> None:
    noam = Noam(d_model=512, warmup_steps=25000, offset=1, min_factor=1e-6 / 5.0)
    assert 5.0 * noam.factor(25001, None) == pytest.approx(1.3975e-3, rel=1e-4)
    assert 5.0 * noam.factor(500001, None) == pytest.approx(3.125e-4, rel=1e-4)
    rates = [noam.factor(step, None) for step in (25000, 25001, 25002)]
    assert max(rates) == rates[1]


@pytest.mark.skipif(not GOLDEN.exists(), reason="golden tensors are not here")
def test_rates_of_a_run_of_nemo() -> None:
    rates = load_file(GOLDEN)["lrs"].tolist()
    # Four steps within the warm-up tell base * warmup**-1.5 = 1/160 and no more: any pair will do.
    noam = Noam(d_model=32, warmup_steps=100, offset=1, min_factor=1e-6 / 6.25)
    for step, rate in enumerate(rates, start=1):
        assert 6.25 * noam.factor(step, None) == pytest.approx(rate, rel=1e-12)
    assert rates[0] == rates[1]


def test_needs_a_warmup_and_a_width() -> None:
    with pytest.raises(ConfigError, match="scheduler/noam: warmup_steps must be at least 1"):
        Noam(d_model=512, warmup_steps=0)
    with pytest.raises(ConfigError, match="scheduler/noam: d_model must be at least 1"):
        Noam(d_model=0, warmup_steps=1)
    with pytest.raises(ConfigError, match="scheduler/noam: offset must not be negative, but is -1"):
        Noam(d_model=1, warmup_steps=1, offset=-1)
    with pytest.raises(ConfigError, match="scheduler/noam: min_factor must lie in"):
        Noam(d_model=1, warmup_steps=1, min_factor=-0.5)
