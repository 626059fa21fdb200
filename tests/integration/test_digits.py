"""Real recordings: connected digits from single ones, by the Stage 1 experiment and overrides."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from core.run import main
from tests.integration.command import REPO, STAGE1

RECORDINGS = REPO.parent / "shared" / "data" / "fsdd" / "recordings"


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason="the digit recordings are not here")
def test_digit_strings_of_one_speaker_are_learnt(tmp_path: Path) -> None:
    """A short form of the recipe: one speaker, a small model, a minute."""
    source = tmp_path / "source"
    source.mkdir()
    for path in RECORDINGS.glob("[0-4]_george_*.wav"):
        (source / path.name).symlink_to(path)
    out = tmp_path / "strings"
    build = [sys.executable, str(REPO / "benchmarks" / "connected_digits.py")]
    sizes = ["--strings", "400", "--validation-strings", "40", "--digits", "5"]
    subprocess.run([*build, "--source", source, "--out", out, *sizes], check=True, cwd=tmp_path)
    run = tmp_path / "run"
    status = main(
        [
            STAGE1,
            f"train=nemo:{out / 'train.json'}",
            f"validation=nemo:{out / 'validation.json'}",
            "+no_aim",
            "trainer.threads=1",
            "trainer.max_steps=500",
            "scheduler.warmup_steps=50",
            "data.batch_seconds=20",
            "task.encoder.dim=64",
            "task.encoder.layers=2",
            "task.encoder.subsampling_channels=16",
            "optimizer.lr=4e-3",
            "--run-dir",
            str(run),
        ]
    )
    assert status == 0
    results = json.loads((run / "results.json").read_text())
    assert results["val/wer"] < 0.25, "a model that learnt nothing has 1.0"
