from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from core.contracts import Artifact, RunInfo
from core.track.fanout import Fanout


class Recorder:
    """Keeps the calls; fails where it is told to."""

    def __init__(self, failing: tuple[str, ...] = ()) -> None:
        self.failing = failing
        self.calls: list[str] = []

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if name in self.failing:
            raise OSError("the server is gone")

    def start(self, run: RunInfo) -> None:
        self._called("start")

    def metrics(self, values: Mapping[str, float], *, step: int, epoch: int) -> None:
        self._called("metrics")

    def artifacts(self, artifacts: Sequence[Artifact], *, step: int) -> None:
        self._called("artifacts")

    def finish(self, status: str) -> None:
        self._called("finish")


class Interrupting(Recorder):
    def metrics(self, values: Mapping[str, float], *, step: int, epoch: int) -> None:
        raise KeyboardInterrupt


INFO = RunInfo(directory=Path(), name="run", hparams={})


def test_every_tracker_gets_every_call_though_others_fail() -> None:
    good = Recorder()
    bad = Recorder(failing=("metrics", "artifacts", "finish"))
    fanout = Fanout([bad, good], say=lambda text: None)

    fanout.start(INFO)
    fanout.metrics({"a/b": 1.0}, step=1, epoch=0)
    fanout.artifacts([], step=1)
    fanout.finish("finished")

    assert good.calls == bad.calls == ["start", "metrics", "artifacts", "finish"]


def test_at_most_one_warning_a_minute_for_each_tracker() -> None:
    said: list[str] = []
    now = 0.0
    fanout = Fanout(
        [Recorder(failing=("metrics",))], say=said.append, patience=1000, clock=lambda: now
    )

    for second in range(130):
        now = float(second)
        fanout.metrics({}, step=second, epoch=0)
    fanout.finish("finished")

    assert said == [
        "Recorder failed, training goes on: OSError: the server is gone",
        *["Recorder failed, training goes on: OSError: the server is gone "
          "(59 more since the last warning)"] * 2,
        "Recorder failed 9 more times since the last warning",
    ]  # fmt: skip


def test_a_tracker_that_keeps_failing_is_switched_off_and_said() -> None:
    said: list[str] = []
    bad = Recorder(failing=("metrics",))
    fanout = Fanout([bad], say=said.append, patience=3)

    for step in range(10):
        fanout.metrics({}, step=step, epoch=0)
    fanout.finish("finished")

    assert bad.calls == ["metrics"] * 3 + ["finish"]
    assert "failed 3 times in a row and is off for the rest of this run" in said[-1]


def test_only_failures_in_a_row_count() -> None:
    bad = Recorder(failing=("metrics",))
    fanout = Fanout([bad], say=lambda text: None, patience=3)

    for step in range(10):
        fanout.metrics({}, step=step, epoch=0)
        if step % 2:
            fanout.artifacts([], step=step)

    assert bad.calls.count("metrics") == 10


def test_a_tracker_that_cannot_start_is_not_called_again() -> None:
    said: list[str] = []
    bad = Recorder(failing=("start",))
    fanout = Fanout([bad], say=said.append)

    fanout.start(INFO)
    fanout.metrics({}, step=1, epoch=0)
    fanout.finish("finished")

    assert bad.calls == ["start", "finish"]
    assert said == ["Recorder could not start and is off for this run: OSError: the server is gone"]


def test_an_interrupt_is_not_swallowed() -> None:
    fanout = Fanout([Interrupting()], say=lambda text: None)

    with pytest.raises(KeyboardInterrupt):
        fanout.metrics({}, step=1, epoch=0)
