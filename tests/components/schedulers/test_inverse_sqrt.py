from __future__ import annotations

from itertools import pairwise

import pytest

from components.schedulers.inverse_sqrt import InverseSqrt


def test_closed_form() -> None:
    scheduler = InverseSqrt(warmup_steps=100)
    assert scheduler.factor(1, None) == 0.01
    assert scheduler.factor(100, None) == 1.0
    assert scheduler.factor(400, None) == 0.5
    assert scheduler.factor(10_000, None) == 0.1


def test_rises_then_falls_without_a_jump() -> None:
    factors = [InverseSqrt(warmup_steps=100).factor(step, None) for step in range(1, 1000)]
    assert factors[:100] == sorted(factors[:100])
    assert factors[99:] == sorted(factors[99:], reverse=True)
    steps = [abs(after - before) for before, after in pairwise(factors)]
    assert max(steps) == pytest.approx(0.01)


def test_without_warmup_and_with_a_floor() -> None:
    assert [InverseSqrt(warmup_steps=0).factor(step, None) for step in (1, 4)] == [1.0, 0.5]
    assert InverseSqrt(warmup_steps=1, floor=0.2).factor(10**6, None) == 0.2
