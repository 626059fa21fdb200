"""A run may be killed at any instant; what resumes is what was never killed, bit for bit."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch

from core.checkpoint.format import read_model, read_optimizer
from core.checkpoint.locate import resolve_checkpoint
from tests.integration.command import (
    SMALL,
    STAGE1,
    kill_at_step,
    repeatable_metrics,
    sori,
)

STEPS = 8


@pytest.fixture(scope="module", params=[0, 2], ids=["workers0", "workers2"])
def workers(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def arguments(workers: int) -> tuple[str, ...]:
    return (
        STAGE1,
        *SMALL,
        f"trainer.max_steps={STEPS}",
        "trainer.accumulation=2",
        "trainer.ema_decay=0.9",
        f"data.workers={workers}",
    )


@pytest.fixture(scope="module")
def whole(workers: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    sori("core.run", *arguments(workers), "--run-dir", folder / "run", cwd=folder)
    return folder / "run"


def same_end(left: Path, right: Path) -> None:
    ends = [resolve_checkpoint(run, prefer="latest") for run in (left, right)]
    assert ends[0].name == ends[1].name
    assert ends[0].name.startswith(f"step_{STEPS:08d}")
    weights = [read_model(end) for end in ends]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name
    moments = [read_optimizer(end)["state"] for end in ends]
    for index, state in moments[0].items():
        for name, value in state.items():
            assert torch.equal(value, moments[1][index][name]), (index, name)
    assert repeatable_metrics(left) == repeatable_metrics(right)


@pytest.mark.parametrize("step", [1, 3, 4, 7])
def test_sigkill_then_the_same_command_ends_bit_identical(
    step: int, workers: int, whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command = (*arguments(workers), "--run-dir", run)
    status = kill_at_step(step, *command, cwd=tmp_path, run=run, number=signal.SIGKILL)
    assert status == -signal.SIGKILL
    done = sori("core.run", *command, cwd=tmp_path)
    if step > 3:
        assert "resume  step_0000000" in done.stdout
    same_end(whole, run)


def test_sigterm_saves_says_so_and_resumes(workers: int, whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = (*arguments(workers), "--run-dir", run)
    status = kill_at_step(2, *command, cwd=tmp_path, run=run, number=signal.SIGTERM)
    assert status == 128 + signal.SIGTERM
    assert "the same command goes on from it" in (run / "log.txt").read_text()
    sori("core.run", *command, cwd=tmp_path)
    same_end(whole, run)


def test_a_finished_run_says_so_and_trains_no_further(workers: int, whole: Path) -> None:
    before = repeatable_metrics(whole)
    done = sori("core.run", *arguments(workers), "--run-dir", whole, cwd=whole.parent)
    assert "this run is finished" in done.stdout
    assert repeatable_metrics(whole) == before


def test_a_signal_to_the_whole_process_group_still_saves(
    workers: int, whole: Path, tmp_path: Path
) -> None:
    """Launchers signal groups: loader workers get it too and must not take the save with them."""
    run = tmp_path / "run"
    command = (*arguments(workers), "--run-dir", run)
    status = kill_at_step(
        2, *command, cwd=tmp_path, run=run, number=signal.SIGTERM, whole_group=True
    )
    assert status == 128 + signal.SIGTERM
    sori("core.run", *command, cwd=tmp_path)
    same_end(whole, run)
