"""Runs Sori's commands as a user does: in a process of its own, in a folder of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[2]
STAGE1 = str(REPO / "experiments" / "stage1_ctc.py")
SMALL = (
    "train=demo:train?utterances=36",
    "validation=demo:validation?utterances=6",
    "+no_aim",
    "task.encoder.dim=16",
    "task.encoder.layers=1",
    "task.encoder.heads=2",
    "task.encoder.subsampling_channels=4",
    "data.batch_seconds=12",
    "trainer.threads=1",
    "trainer.log_every=1",
    "trainer.validate_every=4",
    "callbacks.3.every=3",
)
"""Stage 1 on a few utterances with a tiny model: a step takes tens of milliseconds."""


def environment(**extra: str) -> dict[str, str]:
    """Return the environment of a command; one thread each, since tests run side by side."""
    return {**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1", **extra}


def command(module: str, *arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", module, *map(str, arguments)]


def sori(
    module: str, *arguments: str | Path, cwd: Path, expect: int | None = 0, **extra: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and check its exit status."""
    done = subprocess.run(
        command(module, *arguments),
        cwd=cwd,
        env=environment(**extra),
        capture_output=True,
        text=True,
        timeout=300,
    )
    if expect is not None:
        assert done.returncode == expect, (
            f"{done.args}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        )
    return done


def kill_at_step(
    step: int,
    *arguments: str | Path,
    cwd: Path,
    run: Path,
    number: signal.Signals,
    whole_group: bool = False,
    **extra: str,
) -> int:
    """Start ``core.run``, send a signal once ``step`` was logged, return the exit status."""
    process = subprocess.Popen(
        command("core.run", *arguments),
        cwd=cwd,
        env=environment(**extra),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < deadline:
        if last_step(run) >= step:
            if whole_group:
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)
            break
        time.sleep(0.002)
    _, errors = process.communicate(timeout=120)
    assert last_step(run) >= step, errors
    return process.returncode


def last_step(run: Path) -> int:
    try:
        lines = (run / "metrics.jsonl").read_text().splitlines()
        return max((int(json.loads(line)["step"]) for line in lines), default=0)
    except (FileNotFoundError, ValueError):
        return 0


def repeatable_metrics(run: Path) -> list[tuple[int, dict[str, Any]]]:
    """Return what was logged, without what depends on the clock."""
    found = []
    for line in (run / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        values = {
            name: value
            for name, value in row.items()
            if name not in ("step", "epoch", "time") and not name.startswith(("speed/", "memory/"))
        }
        if values:
            found.append((row["step"], values))
    return found
