from __future__ import annotations

from pathlib import Path

import pytest
import torch

from core.checkpoint.format import MODEL
from core.checkpoint.locate import resolve_checkpoint
from core.checkpoint.store import CheckpointStore
from core.errors import CheckpointError


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose best checkpoint is not its latest."""
    store = CheckpointStore(tmp_path / "run-one" / "checkpoints")
    for step, loss in ((1, 0.1), (2, 0.9)):
        store.save(
            step=step,
            epoch=0,
            metrics={"val/loss": loss},
            model={"weight": torch.ones(3)},
            state={},
        )
    return tmp_path / "run-one"


def test_a_run_its_checkpoints_and_one_checkpoint_are_understood(run: Path) -> None:
    best, latest = sorted((run / "checkpoints").glob("step_*"))

    for target in (run, run / "checkpoints"):
        assert resolve_checkpoint(target, "best", pytest.fail) == best
        assert resolve_checkpoint(target, "latest", pytest.fail) == latest
    assert resolve_checkpoint(latest, "best", pytest.fail) == latest


def test_without_a_best_the_latest_is_taken_and_said(run: Path) -> None:
    (run / "checkpoints" / "BEST").unlink()
    said: list[str] = []

    found = resolve_checkpoint(run, "best", said.append)

    assert found.name.startswith("step_00000002")
    assert "has no BEST" in said[0]


def test_a_single_damaged_checkpoint_is_refused(run: Path) -> None:
    latest = max((run / "checkpoints").glob("step_*"))
    content = (latest / MODEL).read_bytes()
    (latest / MODEL).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    with pytest.raises(CheckpointError, match=r"model\.safetensors was altered"):
        resolve_checkpoint(latest, "best")


def test_a_run_without_a_complete_checkpoint_is_refused(run: Path) -> None:
    for path in (run / "checkpoints").glob("step_*"):
        (path / MODEL).unlink()

    with pytest.raises(CheckpointError, match=r"no checkpoint in .* is complete"):
        resolve_checkpoint(run, "latest", lambda text: None)


def test_wrong_targets_get_a_helpful_answer(run: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="did you mean 'run-one'"):
        resolve_checkpoint(tmp_path / "run-onw", "best")
    with pytest.raises(CheckpointError, match="is a file; expected a run directory"):
        resolve_checkpoint(run / "checkpoints" / "LATEST", "best")
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        resolve_checkpoint(tmp_path, "best")
