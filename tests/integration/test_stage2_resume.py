"""Stage 2 may be killed at any instant, also while its adversary changes, and ends bit for bit."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from core.checkpoint.format import read_state
from tests.integration.command import kill_at_step, sori
from tests.integration.stage2 import (
    ROWS,
    STAGE2,
    STEPS,
    dying_at,
    make_mels,
    make_pairs,
    newest,
    same_end,
    series,
    tokens,
    train,
)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    make_pairs(folder)
    return folder


@pytest.fixture(scope="module")
def whole(pairs: Path) -> Path:
    outcome, _ = train(pairs, place=pairs / "whole")
    assert outcome.status == "finished"
    return pairs / "whole"


def test_the_run_goes_through_all_phases_of_its_adversary(whole: Path) -> None:
    factor = series(whole, "train/grl_lambda")
    assert [factor[step] for step in range(1, 6)] == [0.0] * 5
    assert 0.0 < factor[6] < factor[7] < factor[8] < factor[9]
    assert [factor[step] for step in range(9, 13)] == [pytest.approx(1.0, abs=1e-3)] * 4
    state = read_state(newest(whole))
    assert state["progress"]["step"] == STEPS
    assert state["progress"]["utterances"] == ROWS


# Pre-training ends with step 3; members are made anew after steps 4, 8 and 12; the ramp is 6 to 9.
@pytest.mark.parametrize(
    ("step", "saved"),
    [*((step, False) for step in (1, 3, 4, 5, 6, 8, 9, 12)), *((s, True) for s in (4, 5, 8))],
)
def test_killed_anywhere_it_ends_bit_identical(
    step: int, saved: bool, pairs: Path, whole: Path, tmp_path: Path
) -> None:
    with dying_at(step, saved=saved):
        train(pairs, place=tmp_path / "run")
    train(pairs, place=tmp_path / "run")
    same_end(whole, tmp_path / "run")


@pytest.mark.slow
def test_a_real_kill_is_survived_by_the_same_command(
    pairs: Path, whole: Path, tmp_path: Path
) -> None:
    place = tmp_path / "run"
    command = (STAGE2, *tokens(pairs), "--run-dir", place)
    for step in (4, 7):
        kill_at_step(step, *command, cwd=tmp_path, run=place, number=signal.SIGKILL)
    done = sori("core.run", *command, cwd=tmp_path)
    assert "resume  step_" in done.stdout
    same_end(whole, place)


def test_used_up_mel_ends_the_run_well_and_more_mel_lets_it_go_on(
    whole: Path, tmp_path: Path
) -> None:
    make_pairs(tmp_path, mels=18)
    outcome, said = train(tmp_path)
    assert (outcome.status, outcome.exit_code) == ("stopped", 0)
    assert f"all 18 rows that can be used are consumed, of {ROWS}" in said
    assert "python -m core.prepare mel" in said
    assert "stopped at step 5 and saved; the same command goes on from it" in said
    assert series(tmp_path / "run", "val/loss").keys() == {5}
    shutil.copytree(tmp_path / "run", tmp_path / "killed")

    make_mels(tmp_path, ROWS)
    outcome, said = train(tmp_path)
    assert outcome.status == "finished"
    assert "resume  step_00000005" in said
    assert read_state(newest(tmp_path / "run"))["progress"]["utterances"] == ROWS
    # The schedule is that of the whole manifest from the start, so mel may come when it will.
    rates = series(tmp_path / "run", "train/lr")
    assert {step: rates[step] for step in range(1, 13)} == series(whole, "train/lr")

    with dying_at(8, saved=False):
        train(tmp_path, place=tmp_path / "killed")
    train(tmp_path, place=tmp_path / "killed")
    same_end(tmp_path / "run", tmp_path / "killed")
