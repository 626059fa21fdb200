"""Replays ``metrics.jsonl`` into a tracker, for runs that were tracked without it."""

from __future__ import annotations

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
    rows = list(read_metrics(run.metrics))
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
            for step, epoch, _, values in rows:
                sink.metrics(values, step=step, epoch=epoch)
        finally:
            sink.finish(status)
    return len(rows)
