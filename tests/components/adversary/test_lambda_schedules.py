from __future__ import annotations

from collections.abc import Callable

import pytest

from components.adversary.lambda_schedules import (
    ConstantLambda,
    GaninLambda,
    LambdaSchedule,
    LinearLambda,
)
from core.errors import ConfigError


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        (0.0, 0.0),
        (0.01, 0.050),
        (0.05, 0.245),
        (0.1, 0.462),
        (0.2, 0.762),
        (0.3, 0.905),
        (0.5, 0.987),
    ],
)
def test_ganin_has_the_published_values(progress: float, expected: float) -> None:
    schedule = GaninLambda(ramp_steps=1000)
    assert schedule(round(progress * 1000)) == pytest.approx(expected, abs=5e-4)
    assert GaninLambda(value=0.5, ramp_steps=1000)(100) == schedule(100) / 2


def test_linear_and_constant() -> None:
    linear = LinearLambda(value=0.8, ramp_steps=4, hold_steps=3)
    assert [linear(step) for step in (0, 3, 4, 5, 7, 100)] == [0.0, 0.0, 0.2, 0.4, 0.8, 0.8]
    constant = ConstantLambda(value=0.8, hold_steps=3)
    assert [constant(step) for step in (0, 3, 4, 100)] == [0.0, 0.0, 0.8, 0.8]


@pytest.mark.parametrize("make", [ConstantLambda, LinearLambda, GaninLambda])
def test_all_are_zero_at_step_zero_and_never_fall(
    make: Callable[[], LambdaSchedule],
) -> None:
    values = [make()(step) for step in range(0, 6000, 7)]
    assert values[0] == 0.0
    assert values == sorted(values)
    assert values[-1] == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ConstantLambda(value=-1.0), "lambda/constant: value must be 0 or more"),
        (lambda: LinearLambda(ramp_steps=0), "lambda/linear: ramp_steps must be at least 1"),
        (lambda: GaninLambda(hold_steps=-1), "lambda/ganin: hold_steps must not be negative"),
        (lambda: GaninLambda(gamma=0.0), "lambda/ganin: gamma must be positive"),
    ],
)
def test_settings_that_mean_nothing_are_refused(
    make: Callable[[], LambdaSchedule], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    "schedule",
    [
        ConstantLambda(value=0.5, hold_steps=3),
        LinearLambda(value=0.5, ramp_steps=7, hold_steps=3),
        GaninLambda(value=0.5, ramp_steps=7, hold_steps=3),
    ],
)
def test_it_says_from_where_it_stays_as_it_is(schedule: LambdaSchedule) -> None:
    settled = schedule.settled_from
    assert {schedule(step) for step in range(settled, settled + 20)} == {schedule(settled)}
    assert schedule(settled - 1) < schedule(settled)
