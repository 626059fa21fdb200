from __future__ import annotations

import math
from typing import Any, get_args

import pytest

from components.schedulers.corners import Shape
from components.schedulers.wsd import WSD
from core.contracts import Extent, PlannedScheduler
from core.errors import ConfigError


def planned(total: int = 1000, rows: int | None = 64, **settings: Any) -> WSD:
    scheduler = WSD(**{"warmup_steps": 100, **settings})
    scheduler.plan(Extent(total_steps=total, rows_per_step=rows))
    return scheduler


def factors(scheduler: WSD, first: int = 1, last: int = 1100) -> list[float]:
    return [scheduler.factor(step, None) for step in range(first, last)]


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
        ("one_minus_sqrt", 0.5, 1 - math.sqrt(0.5)),
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
    found = [scheduler.factor(step, 311) for step in range(7, 330)]
    assert found == sorted(found, reverse=True)
    assert found[0] == 1.0


@pytest.mark.parametrize(("total", "share", "steps"), [(30, 0.1, 3), (31, 0.1, 4), (10, 1.0, 10)])
def test_decay_is_rounded_up_to_whole_steps(total: int, share: float, steps: int) -> None:
    assert WSD(decay_share=share).decay_steps(total) == steps


def test_it_waits_for_those_who_learn_first() -> None:
    """All phases come later by the wait, also after a restart, which keeps it."""
    plain, late = planned(900, warmup_steps=100), planned(1000, warmup_steps=100, wait_steps=100)
    assert factors(late, 1, 101) == [0.0] * 100
    assert factors(late, 101, 1050) == factors(plain, 1, 950)
    resumed = planned(1000, warmup_steps=100)
    lines = resumed.resume(late.state_dict(), step=50)
    assert factors(resumed) == factors(late)
    assert any("warm-up after step 100; the configuration now gives 0" in line for line in lines)


def test_no_decay_and_a_run_within_the_warmup() -> None:
    assert WSD(decay_share=0.0).factor(100, 100) == 1.0
    assert [WSD(warmup_steps=10).factor(step, 2) for step in (1, 2)] == [0.1, 0.2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shape": "cosin"}, "no shape 'cosin'; did you mean 'cosine'"),
        ({"wait_steps": -1}, "wait_steps must be at least 0"),
        ({"decay_now": 0}, "decay_now must be at least 1"),
        ({"on_resume": "rebas"}, "no on_resume 'rebas'; did you mean 'rebase'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        WSD(**settings)


def test_an_unknown_end_is_refused_when_a_run_starts() -> None:
    with pytest.raises(ConfigError, match=r"set trainer\.max_steps"):
        WSD().plan(Extent(total_steps=None))


# -------------------------------------------------------------------------- over restarts


def test_the_same_configuration_goes_on_without_a_word() -> None:
    first, second = planned(), planned()
    assert isinstance(first, PlannedScheduler)
    assert second.resume(first.state_dict(), step=500) == []
    assert factors(second) == factors(first)
    assert not second.binding
    assert second.total_steps == 1000


def test_a_step_of_as_many_rows_has_the_same_schedule_however_it_is_divided() -> None:
    # ceil(ceil(N / batch) / accumulation) is ceil(N / (batch * accumulation)).
    rows = 5_483_856

    def steps(batch: int, accumulation: int) -> int:
        return math.ceil(math.ceil(rows / batch) / accumulation)

    assert steps(16, 4) == steps(8, 8) == 85_686
    assert steps(24, 2) == 114_247
    by_four = planned(steps(16, 4), rows=16 * 4)
    by_eight = planned(steps(8, 8), rows=8 * 8)
    assert by_eight.resume(by_four.state_dict(), step=500) == []
    assert by_eight.state_dict() == by_four.state_dict()


@pytest.mark.parametrize(
    ("now", "told"),
    [
        ({"total": 1200}, ["decay from step 910", "end at step 1000"]),
        ({"warmup_steps": 200}, ["warm-up until step 100", "decay from step 910"]),
        ({"shape": "linear"}, ["shape one_minus_sqrt"]),
        ({"floor": 0.1}, ["floor 0.0"]),
        ({"decay_share": 0.2}, ["decay from step 910"]),
    ],
)
def test_what_was_laid_out_is_kept_and_differences_are_told(
    now: dict[str, Any], told: list[str]
) -> None:
    first, second = planned(), planned(**now)
    lines = second.resume(first.state_dict(), step=500)
    assert len(lines) == len(told)
    for line, text in zip(lines, told, strict=True):
        assert line.startswith(f"schedule: kept from the start of the run: {text}; the config")
        assert "scheduler.on_resume=replan" in line
    assert factors(second) == factors(first)
    assert second.total_steps == 1000
    assert second.binding, "training ends where the schedule does"
    assert second.state_dict() == first.state_dict()


def test_a_schedule_is_replanned_by_choice() -> None:
    first, second = planned(), planned(2000, rows=32, on_resume="replan")
    lines = second.resume(first.state_dict(), step=500)
    assert "schedule: replanned: end at step 1000; the configuration now gives 2000" in lines
    assert factors(second) == factors(planned(2000))
    assert not second.binding
    again = planned(2000, rows=32, on_resume="replan")
    assert again.resume(second.state_dict(), step=600) == []


def test_another_number_of_rows_a_step_is_refused() -> None:
    first, second = planned(85_686, rows=64), planned(114_247, rows=48)
    message = r"steps of 64 rows, and a step now has 48 .* product is 64, or .*on_resume=rebase"
    with pytest.raises(ConfigError, match=message):
        second.resume(first.state_dict(), step=500)


def test_it_is_rebased_by_choice_so_that_the_same_rows_remain() -> None:
    first = planned(85_686, rows=64)
    second = planned(114_247, rows=48, on_resume="rebase")
    (line,) = second.resume(first.state_dict(), step=10_000)
    assert line.startswith("schedule: rebased at step 10000 from 64 to 48 rows a step")
    total = second.total_steps
    assert total is not None
    assert 0 <= (total - 10_000) * 48 - (85_686 - 10_000) * 64 < 48
    before, after = first.state_dict(), second.state_dict()
    assert after["warmup"] == before["warmup"] == 100, "it is over"
    assert 0 <= (after["decay_from"] - 10_000) * 48 - (before["decay_from"] - 10_000) * 64 < 48
    assert second.binding
    again = planned(114_247, rows=48, on_resume="rebase")
    again.resume(second.state_dict(), step=11_000)
    assert again.state_dict() == after, "once"


def test_steps_of_unknown_size_are_not_compared() -> None:
    first, second = planned(rows=None), planned(rows=48)
    assert second.resume(first.state_dict(), step=500) == []


def test_a_checkpoint_without_a_schedule() -> None:
    scheduler = planned()
    (line,) = scheduler.resume({}, step=500)
    assert "laid out anew" in line
    assert factors(scheduler) == factors(planned())


# ------------------------------------------------------------------------------ decay now


@pytest.mark.parametrize("step", [100, 500, 910])
def test_a_decay_branches_from_any_step_of_the_stable_phase(step: int) -> None:
    stable = planned(floor=0.1, shape="linear")
    branch = planned(floor=0.1, shape="linear", decay_now=40)
    assert branch.resume(stable.state_dict(), step=step) == [
        f"schedule: decays from step {step} to step {step + 40}"
    ]
    assert branch.factor(step, None) == 1.0
    assert branch.factor(step + 10, None) == pytest.approx(0.1 + 0.9 * 0.75)
    assert branch.factor(step + 40, None) == 0.1
    assert branch.total_steps == step + 40
    assert branch.binding


def test_a_resumed_branch_goes_on_and_does_not_branch_again() -> None:
    first, second, plain = planned(decay_now=40), planned(decay_now=40), planned()
    first.resume(planned().state_dict(), step=500)
    assert second.resume(first.state_dict(), step=520) == []
    assert plain.resume(first.state_dict(), step=520) == []  # By --resume RUN alone.
    assert factors(second) == factors(first) == factors(plain)
    assert plain.binding
    with pytest.raises(ConfigError, match="decays since step 500, over 40 steps; another decay"):
        planned(decay_now=50).resume(first.state_dict(), step=520)


@pytest.mark.parametrize(
    ("step", "message"),
    [(99, "warms up until step 100"), (911, "decays since step 910. Take one of steps 100 to 910")],
)
def test_other_phases_cannot_branch(step: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        planned(decay_now=40).resume(planned().state_dict(), step=step)


def test_a_decay_without_a_checkpoint_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"add --branch-from RUN_OR_CHECKPOINT, or --resume RUN"):
        planned(decay_now=40).factor(1, None)
