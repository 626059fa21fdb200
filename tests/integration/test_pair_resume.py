"""Training on pairs stops where the mel ends, goes on behind it, and may be killed at any instant.

Mel is made in three generations. A run that nothing interrupts takes as many commands; one that is
interrupted in any of them ends bit for bit like it.
"""

from __future__ import annotations

import importlib
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from core.checkpoint.format import read_meta, read_model, read_optimizer, read_state
from core.checkpoint.locate import resolve_checkpoint
from core.config.compose import compose_target
from core.errors import DataError
from core.prepare import main as prepare
from core.train.runner import Outcome, RunOptions, run
from tests.fixtures import pairs_experiment
from tests.fixtures.pair_files import read_rows, write_mel, write_pairs
from tests.fixtures.plugins import declare_plugin
from tests.integration.command import REPO, kill_at_step, repeatable_metrics, sori

EXPERIMENT = str(REPO / "tests" / "fixtures" / "pairs_experiment.py")
ROWS = 44
GENERATIONS = ((0, 3, 9, 20, 21, 22, 30, 31, 32, 33), tuple(range(10, 30)), tuple(range(44)))
"""Targets that have mel at the latest in each generation."""
SIZES = (10, 27, 44)
ENDS = (3, 8, 13)
"""Steps after which each generation is used up: of 4 rows, but for the last of each."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Let a saved configuration refer to the task in the test's own package."""
    folder = tmp_path_factory.mktemp("site")
    declare_plugin(folder, distribution="sori-pairs-test", module="tests.fixtures.pairs_experiment")
    return folder


@pytest.fixture(autouse=True, scope="module")
def _declared(site: Path) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        importlib.invalidate_caches()
        yield


def make_generation(folder: Path, number: int) -> None:
    for target in GENERATIONS[number]:
        write_mel(folder, f"T{target}")
    assert prepare(["order", str(folder / "pairs.jsonl")]) == 0


def tokens(folder: Path, **knobs: object) -> list[str]:
    settings = {"train": folder / "pairs.jsonl", **knobs}
    return [f"{name}={value}" for name, value in settings.items()]


def train(
    folder: Path, *, said: list[str] | None = None, anyway: bool = False, **knobs: object
) -> Outcome:
    """Run the command; with ``anyway`` the run goes on although its configuration changed."""
    composed = compose_target(EXPERIMENT, tokens(folder, **knobs))
    place = folder / "run"
    options = RunOptions(resume=str(place)) if anyway else RunOptions(directory=place)
    return run(composed, options, (said if said is not None else []).append)


def newest(run_folder: Path) -> Path:
    return resolve_checkpoint(run_folder, prefer="latest")


def same_end(left: Path, right: Path) -> None:
    ends = [newest(each) for each in (left, right)]
    assert ends[0].name.split("-")[0] == ends[1].name.split("-")[0]
    weights = [read_model(end) for end in ends]
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name
    moments = [read_optimizer(end)["state"] for end in ends]
    for index, state in moments[0].items():
        for name, value in state.items():
            assert torch.equal(value, moments[1][index][name]), (index, name)
    assert read_state(ends[0])["stream"] == read_state(ends[1])["stream"]
    assert repeatable_metrics(left) == repeatable_metrics(right)


@pytest.fixture(scope="module", params=[0, 2], ids=["workers0", "workers2"])
def workers(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def whole(workers: int, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Run all generations without interruption; return copies of the run after each."""
    folder = tmp_path_factory.mktemp("whole")
    write_pairs(folder, ROWS)
    kept = []
    for number, (size, end) in enumerate(zip(SIZES, ENDS, strict=True)):
        make_generation(folder, number)
        said: list[str] = []
        outcome = train(folder, said=said, workers=workers)
        assert outcome.exit_code == 0
        assert outcome.status == ("finished" if number == 2 else "stopped")
        if number < 2:
            text = "\n".join(said)
            assert f"all {size} rows that can be used are consumed, of {ROWS}" in text
            assert f"stopped at step {end} and saved; the same command goes on" in text
        kept.append(folder / f"kept{number}")
        shutil.copytree(folder / "run", kept[-1])
    return kept


@pytest.mark.parametrize(
    ("workers", "step", "saved"),
    [
        *((0, step, False) for step in range(1, 14)),
        *((0, step, True) for step in (3, 4, 8)),
        *((2, step, False) for step in (2, 6, 8, 11)),
    ],
    indirect=["workers"],
)
def test_interrupted_anywhere_it_ends_bit_identical(
    step: int, saved: bool, workers: int, whole: list[Path], tmp_path: Path
) -> None:
    write_pairs(tmp_path, ROWS)
    for number, end in enumerate(ENDS):
        make_generation(tmp_path, number)
        if step <= end:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(pairs_experiment, "DEATH", {"step": step, "saved": saved})
                with pytest.raises(pairs_experiment.Dead):
                    train(tmp_path, workers=workers)
            train(tmp_path, workers=workers)
            same_end(whole[number], tmp_path / "run")
            return
        train(tmp_path, workers=workers)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2], indirect=True)
def test_a_real_kill_between_generations_is_survived(
    site: Path, whole: list[Path], workers: int, tmp_path: Path
) -> None:
    write_pairs(tmp_path, ROWS)
    make_generation(tmp_path, 0)
    command = (EXPERIMENT, *tokens(tmp_path, workers=workers), "--run-dir", tmp_path / "run")
    path = f"{site}:{REPO}"
    done = sori("core.run", *command, cwd=tmp_path, PYTHONPATH=path)
    assert "python -m core.prepare mel" in done.stdout
    make_generation(tmp_path, 1)
    options: dict[str, Any] = {"cwd": tmp_path, "run": tmp_path / "run", "PYTHONPATH": path}
    kill_at_step(5, *command, number=signal.SIGKILL, **options)
    sori("core.run", *command, cwd=tmp_path, PYTHONPATH=path)
    same_end(whole[1], tmp_path / "run")


def test_the_same_command_without_new_mel_says_so_again_and_changes_nothing(
    tmp_path: Path,
) -> None:
    write_pairs(tmp_path, ROWS)
    make_generation(tmp_path, 0)
    for attempt in range(2):
        said: list[str] = []
        outcome = train(tmp_path, said=said)
        assert (outcome.status, outcome.exit_code) == ("stopped", 0)
        text = "\n".join(said)
        assert "all 10 rows that can be used are consumed, of 44" in text
        assert "python -m core.prepare order" in text
        assert "the same command goes on at row 11" in text
        end = newest(tmp_path / "run")
        written = end, {path.name: path.stat().st_mtime_ns for path in end.iterdir()}
        if attempt == 0:
            before = written
    assert written == before
    assert "val/loss" in read_meta(end)["metrics"], "the end of a generation is validated"
    assert not (tmp_path / "run" / "results.json").exists()


def test_the_run_is_finished_when_all_rows_are(whole: list[Path]) -> None:
    assert (whole[2] / "results.json").exists()
    state = read_state(newest(whole[2]))
    assert (state["stream"]["epoch"], state["stream"]["row"]) == (1, 0)
    assert (state["progress"]["utterances"], state["progress"]["step"]) == (ROWS, ENDS[2])


def test_another_batch_size_goes_on_at_the_same_row(tmp_path: Path) -> None:
    write_pairs(tmp_path, ROWS)
    make_generation(tmp_path, 0)
    train(tmp_path)
    make_generation(tmp_path, 2)
    train(tmp_path, anyway=True, batch=4, accumulation=1)
    assert read_state(newest(tmp_path / "run"))["progress"]["utterances"] == ROWS


def test_consumed_rows_that_lost_their_mel_are_refused(tmp_path: Path) -> None:
    write_pairs(tmp_path, ROWS)
    make_generation(tmp_path, 0)
    train(tmp_path)
    consumed = read_rows(tmp_path / "pairs.jsonl")[4]["target_id"]
    (tmp_path / "mel" / f"{consumed}.npy").unlink()
    assert prepare(["order", str(tmp_path / "pairs.jsonl"), "--rebase"]) == 0
    with pytest.raises(DataError, match="mel was removed or the order changed"):
        train(tmp_path)
    for target in (40, 41, 42):
        write_mel(tmp_path, f"T{target}")
    assert prepare(["order", str(tmp_path / "pairs.jsonl")]) == 0
    with pytest.raises(DataError, match="rows 1 to 10: the manifest changed"):
        train(tmp_path)


def test_the_guides_troubles_meet_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    write_pairs(tmp_path, ROWS)
    with pytest.raises(DataError, match=r"mel not found[^$]*python -m core\.prepare mel"):
        train(tmp_path)
    make_generation(tmp_path, 0)
    (tmp_path / "m.json").write_text('{"KO_SPEAKER_00": 0}')
    with pytest.raises(DataError, match=r"0 of 10 rows[^$]*its accuracy stay 0"):
        train(tmp_path, speakers=tmp_path / "m.json")
