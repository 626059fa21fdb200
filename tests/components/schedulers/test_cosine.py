from __future__ import annotations

import math

import pytest

from components.schedulers.cosine import Cosine


def test_closed_form() -> None:
    scheduler = Cosine(warmup_steps=100, floor=0.1)
    assert scheduler.factor(50, 1100) == 0.5
    assert scheduler.factor(100, 1100) == 1.0
    assert scheduler.factor(600, 1100) == pytest.approx(0.55)
    quarter = 0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2
    assert scheduler.factor(350, 1100) == pytest.approx(quarter)


@pytest.mark.parametrize(("warmup", "floor"), [(0, 0.0), (10, 0.0), (10, 0.3)])
def test_falls_to_the_floor_exactly_and_stays(warmup: int, floor: float) -> None:
    scheduler = Cosine(warmup_steps=warmup, floor=floor)
    factors = [scheduler.factor(step, 200) for step in range(max(warmup, 1), 260)]
    assert factors == sorted(factors, reverse=True)
    assert scheduler.factor(200, 200) == scheduler.factor(10**6, 200) == floor
    assert scheduler.factor(199, 200) > floor


def test_a_run_shorter_than_the_warmup_only_warms_up() -> None:
    assert [Cosine(warmup_steps=10).factor(step, 2) for step in (1, 2)] == [0.1, 0.2]
