"""Two processes train Stage 2, its adversary included, as one process does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from core.checkpoint.format import read_model
from tests.integration.command import environment, repeatable_metrics
from tests.integration.stage2 import STAGE2, STEPS, make_pairs, newest, tokens, train

# Each rank draws numbers of its own, so nothing is drawn.
ALIKE = {
    "task.model.dropout": 0,
    "task.emotion_noise": 0,
    "task.adversary.classifier.dropout": 0,
    "task.adversary.noise": 0,
}


def test_two_ranks_equal_one_process_with_twice_the_accumulation(tmp_path: Path) -> None:
    make_pairs(tmp_path)
    one, two = tmp_path / "one", tmp_path / "two"
    train(tmp_path, place=one, **ALIKE)
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    settings = (*tokens(tmp_path, grad_acc=1, **ALIKE), "--run-dir", str(two))
    done = subprocess.run(
        [sys.executable, *launch, "-m", "core.run", STAGE2, *settings],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    left, right = repeatable_metrics(one), repeatable_metrics(two)
    assert [step for step, _ in left] == [step for step, _ in right]
    assert {step for step, _ in left} == set(range(1, STEPS + 1))
    for (step, alone), (_, together) in zip(left, right, strict=True):
        assert alone.keys() == together.keys(), step
        for name, value in alone.items():
            assert together[name] == pytest.approx(value, rel=1e-3, abs=1e-5), (step, name)
    weights = [read_model(newest(run)) for run in (one, two)]
    for name, value in weights[0].items():
        if name in ("adversary.monitor.recent", "adversary.monitor.written"):  # a rank's own
            continue
        # Small differences from a mean, brought to full size with their rounding errors.
        atol = 1e-3 if name == "adversary.recent.vectors" else 1e-4
        torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=atol, msg=name)
