from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from core.checkpoint.branch import branch
from core.checkpoint.format import read_model, verify
from core.checkpoint.store import CheckpointStore
from core.errors import CheckpointError


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "words.txt").write_text("a b\n")
    store = CheckpointStore(tmp_path / "run" / "checkpoints")
    for step in (1, 2):
        model = {"w": torch.full((2,), float(step))}
        store.save(
            step=step, epoch=0, metrics={}, model=model, state={}, assets=tmp_path / "assets"
        )
    return tmp_path / "run"


def test_a_branch_owns_what_it_took(run: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    found = branch(run, checkpoints=new / "checkpoints", assets=new / "assets")
    assert found.name == "step_00000002-epoch00", "the latest"
    shutil.rmtree(run)
    verify(found, hashes=True)
    assert torch.equal(read_model(found)["w"], torch.full((2,), 2.0))
    assert (new / "assets" / "words.txt").read_text() == "a b\n"
    assert CheckpointStore(new / "checkpoints").latest() == found
    assert [path.name for path in (new / "checkpoints").iterdir()] == [found.name]


def test_a_single_checkpoint_can_be_named(run: Path, tmp_path: Path) -> None:
    named = run / "checkpoints" / "step_00000001-epoch00"
    found = branch(named, checkpoints=tmp_path / "c", assets=tmp_path / "a")
    assert found.name == named.name


def test_there_must_be_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        branch(tmp_path / "none", checkpoints=tmp_path / "c", assets=tmp_path / "a")
    assert not (tmp_path / "c").exists()
