"""A decay branches from a stable checkpoint, as often as wanted; the run it leaves is unmoved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from core.checkpoint.format import read_meta, read_model
from core.checkpoint.locate import resolve_checkpoint
from tests.integration.command import SMALL, STAGE1, sori

SCHEDULE = (
    STAGE1,
    *SMALL,
    "trainer.max_steps=6",
    "scheduler=@scheduler/wsd",
    "scheduler.warmup_steps=2",
    "scheduler.decay_share=0.5",
    "scheduler.shape=linear",
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six steps with checkpoints at steps 3 and 6, of which 3 is stable."""
    folder = tmp_path_factory.mktemp("whole")
    sori("core.run", *SCHEDULE, "--run-dir", folder / "run", cwd=folder)
    return folder / "run"


def stable(run: Path) -> Path:
    (found,) = (run / "checkpoints").glob("step_00000003*")
    return found


def rates(run: Path) -> dict[int, float]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row["train/lr"] for row in rows if "train/lr" in row}


def test_a_decay_branches_into_a_run_of_its_own(whole: Path, tmp_path: Path) -> None:
    before = (whole / "metrics.jsonl").read_text()
    command = (*SCHEDULE, "--branch-from", stable(whole), "scheduler.decay_now=2")
    done = sori("core.run", *command, "--run-dir", tmp_path / "branch", cwd=tmp_path)
    assert "schedule: decays from step 3 to step 5" in done.stdout
    peak = rates(whole)[3]
    assert rates(tmp_path / "branch") == {4: pytest.approx(peak / 2), 5: 0.0}
    end = resolve_checkpoint(tmp_path / "branch", prefer="latest")
    assert read_meta(end)["step"] == 5
    assert (whole / "metrics.jsonl").read_text() == before

    again = sori("core.run", *command, "--run-dir", tmp_path / "branch", cwd=tmp_path)
    assert "this run is finished" in again.stdout


def test_a_branch_with_the_same_schedule_ends_bit_identical(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "twin"
    sori("core.run", *SCHEDULE, "--branch-from", stable(whole), "--run-dir", run, cwd=tmp_path)
    ends = [read_model(resolve_checkpoint(each, prefer="latest")) for each in (whole, run)]
    assert ends[0].keys() == ends[1].keys()
    for name, value in ends[0].items():
        assert torch.equal(value, ends[1][name]), name


def test_a_checkpoint_that_decays_already_is_refused(whole: Path, tmp_path: Path) -> None:
    command = (*SCHEDULE, "scheduler.decay_now=2", "--branch-from", whole)
    done = sori("core.run", *command, "--run-dir", tmp_path / "run", cwd=tmp_path, expect=2)
    assert "the checkpoint of step 6 is not of the stable phase" in done.stderr


def test_an_ordinary_run_is_not_taken_for_a_branch(whole: Path, tmp_path: Path) -> None:
    command = (*SCHEDULE, "--branch-from", stable(whole), "--run-dir", whole)
    done = sori("core.run", *command, cwd=tmp_path, expect=2)
    assert "exists and was started from fresh weights" in done.stderr
