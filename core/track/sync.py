"""Replays the scalars of a run into a tracker, for runs that were tracked without it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from core.contracts import RunInfo, Tracker
from core.errors import RunDirError
from core.registry import lookup
from core.rundir import RunDir
from core.runlock import RunLock
from core.track.jsonl import read_metrics


def sync_run(
    run_dir: Path,
    tracker: Tracker | str = "aim",
    *,
    name: str | None = None,
    hparams: Mapping[str, Any] | None = None,
) -> int:
    """Send every scalar of a run to a tracker and return the number of lines sent.

    These are the lines of ``metrics.jsonl``, and what was found of each checkpoint that was probed.
    Points that the tracker has already are written again with the same value.

    Args:
        run_dir: the run directory. It is locked meanwhile: a tracker has one writer.
        tracker: a tracker, or the name of a registered one, built with its defaults.
        name: of the experiment; None for the name of the directory.
        hparams: the flattened configuration; None to leave what the tracker has.

    Raises:
        RunDirError: it is no run directory, has no metrics, a line is damaged, or a live process
            is writing the run.
        RegistryError: there is no tracker of this name.
    """
    run = RunDir.open(run_dir)
    rows = [(step, epoch, values) for step, epoch, _, values in read_metrics(run.metrics)]
    rows += [_probed(path) for path in sorted(run.probes.glob("step_*.json"))]
    sink: Tracker = lookup("tracker", tracker)() if isinstance(tracker, str) else tracker
    status = str(run.status().get("status", "finished"))
    info = RunInfo(directory=run.path, name=name or run.path.resolve().name, hparams=hparams or {})
    try:
        lock = RunLock(run.path / RunDir.LOCK)
    except OSError as error:
        raise RunDirError(f"cannot lock {run.path}: {error.strerror or error}") from error
    with closing(lock):
        sink.start(info)
        try:
            for step, epoch, values in rows:
                sink.metrics(values, step=step, epoch=epoch)
        finally:
            sink.finish(status)
    return len(rows)


def _probed(path: Path) -> tuple[int, int, dict[str, float]]:
    """Return step, epoch and metrics of a file that ``core.evaluate --probe`` wrote."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        values = {name: float(v) for name, v in found["metrics"].items() if v is not None}
        return int(found["step"]), int(found["epoch"]), values
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunDirError(f"{path}: not what probes write: {error!r}") from error
