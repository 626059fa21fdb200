from __future__ import annotations

import math
from typing import get_args

import pytest

from components.schedulers.wsd import WSD, Shape
from core.errors import ConfigError


def test_phases_of_a_long_run() -> None:
    scheduler = WSD(warmup_steps=1000)
    assert scheduler.decay_steps(85_685) == 8_469
    assert scheduler.factor(1, 85_685) == 0.001
    assert {scheduler.factor(step, 85_685) for step in (1000, 40_000, 77_216)} == {1.0}
    assert scheduler.factor(77_217, 85_685) < 1.0
    assert scheduler.factor(85_685, 85_685) == 0.0


@pytest.mark.parametrize(
    ("shape", "quarter", "half"),
    [
        ("linear", 0.75, 0.5),
        ("cosine", (1 + math.cos(math.pi / 4)) / 2, 0.5),
        ("sqrt", 0.5, 1 - math.sqrt(0.5)),
        ("square", 0.9375, 0.75),
    ],
)
def test_shapes(shape: Shape, quarter: float, half: float) -> None:
    scheduler = WSD(decay_share=0.4, shape=shape, floor=0.2)
    assert scheduler.factor(600, 1000) == 1.0
    assert scheduler.factor(700, 1000) == pytest.approx(0.2 + 0.8 * quarter)
    assert scheduler.factor(800, 1000) == pytest.approx(0.2 + 0.8 * half)
    assert scheduler.factor(1000, 1000) == scheduler.factor(2000, 1000) == 0.2


@pytest.mark.parametrize("shape", get_args(Shape))
def test_never_rises_after_the_warmup(shape: Shape) -> None:
    scheduler = WSD(warmup_steps=7, decay_share=0.35, shape=shape, floor=0.05)
    factors = [scheduler.factor(step, 311) for step in range(7, 330)]
    assert factors == sorted(factors, reverse=True)
    assert factors[0] == 1.0


@pytest.mark.parametrize(("total", "share", "steps"), [(30, 0.1, 3), (31, 0.1, 4), (10, 1.0, 10)])
def test_decay_is_rounded_up_to_whole_steps(total: int, share: float, steps: int) -> None:
    assert WSD(decay_share=share).decay_steps(total) == steps


def test_no_decay_and_a_run_within_the_warmup() -> None:
    assert WSD(decay_share=0.0).factor(100, 100) == 1.0
    assert [WSD(warmup_steps=10).factor(step, 2) for step in (1, 2)] == [0.1, 0.2]


def test_an_unknown_shape_is_refused() -> None:
    with pytest.raises(ConfigError, match="no shape 'cosin'; did you mean 'cosine'"):
        WSD(shape="cosin")  # type: ignore[arg-type]
