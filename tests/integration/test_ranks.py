"""Two processes train what one process trains; a killed rank is restarted and goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from core.checkpoint.format import read_model
from core.checkpoint.locate import resolve_checkpoint
from tests.integration.command import (
    SMALL,
    STAGE1,
    environment,
    last_step,
    repeatable_metrics,
    sori,
)

STEPS = 6
# What differs between ranks by design is switched off: random numbers, and statistics of a batch.
COMPARABLE = (
    STAGE1,
    *SMALL,
    f"trainer.max_steps={STEPS}",
    "**.dropout=0",
    "**.attention_dropout=0",
    "task.augmentation=null",
    "task.encoder.conv_norm=layer_norm",
)


def torchrun(*arguments: str | Path, restarts: int = 0) -> list[str]:
    return [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
        f"--max-restarts={restarts}",
        "-m",
        "core.run",
        *map(str, arguments),
    ]


def test_two_ranks_equal_one_process_with_the_same_total_batch(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    sori("core.run", *COMPARABLE, "trainer.accumulation=2", "--run-dir", one, cwd=tmp_path)
    done = subprocess.run(
        torchrun(*COMPARABLE, "--run-dir", two),
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("device  cpu") == 1, "only the main rank speaks"
    assert "Warning" not in done.stderr
    left, right = repeatable_metrics(one), repeatable_metrics(two)
    assert [step for step, _ in left] == [step for step, _ in right]
    for (step, alone), (_, together) in zip(left, right, strict=True):
        assert alone.keys() == together.keys()
        for name, value in alone.items():
            assert together[name] == pytest.approx(value, rel=1e-4, abs=1e-6), (step, name)
    weights = [read_model(resolve_checkpoint(run, prefer="latest")) for run in (one, two)]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_a_killed_rank_is_restarted_and_the_run_ends(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = subprocess.Popen(
        torchrun(*COMPARABLE, "trainer.max_steps=30", "--run-dir", run, restarts=2),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 200
    while last_step(run) < 5 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    workers = [pid for pid in children(process.pid) if rank_of(pid) == "1"]
    assert len(workers) == 1
    os.kill(workers[0], signal.SIGKILL)
    output, _ = process.communicate(timeout=250)
    assert process.returncode == 0, output[-3000:]
    assert "resume  step_" in output
    assert (run / "results.json").exists()
    steps = [step for step, values in repeatable_metrics(run) if "train/loss" in values]
    assert steps == list(range(1, 31))


def children(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True)
    return [int(line) for line in found.stdout.split()]


def rank_of(pid: int) -> str | None:
    for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
        if entry.startswith(b"RANK="):
            return entry.removeprefix(b"RANK=").decode()
    return None
