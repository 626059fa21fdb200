"""Scalars as one JSON object a line: the record that every other sink can be made from."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from core.contracts import Artifact, RunInfo
from core.errors import RunDirError

FILE = "metrics.jsonl"
_RESERVED = ("step", "epoch", "time")
_logger = logging.getLogger(__name__)


class JsonlTracker:
    """Writes ``metrics.jsonl`` in the run directory; each line is flushed when it is complete.

    A line is ``{"step": 50, "epoch": 0, "time": 1700000000.0, "train/loss": 2.5}``, with ``time``
    in seconds since 1970. Floats are written so that they read back exactly; non-finite ones, which
    JSON lacks, as the strings ``"nan"``, ``"inf"`` and ``"-inf"``.

    On resume, lines of later steps than the checkpoint are cut off, and so is a line that a kill
    tore: but for the times, the file becomes that of a run that was never interrupted.
    """

    def __init__(self) -> None:
        self._file: TextIO | None = None

    def start(self, run: RunInfo) -> None:
        """Open the file and cut off what comes after the resumed step.

        Raises:
            RunDirError: the file cannot be written.
        """
        path = run.directory / FILE
        try:
            if path.exists():
                truncate_after(path, run.resumed_step)
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise RunDirError(f"cannot write {path}: {error.strerror or error}") from error

    def metrics(self, values: Mapping[str, float], *, step: int, epoch: int) -> None:
        """Write one line."""
        if self._file is None:
            raise RuntimeError("JsonlTracker.start was not called")
        row: dict[str, Any] = {"step": step, "epoch": epoch, "time": round(time.time(), 3)}
        row |= {name: _encode(float(value)) for name, value in values.items()}
        self._file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
        self._file.flush()

    def artifacts(self, artifacts: Sequence[Artifact], *, step: int) -> None:
        """Do nothing: samples are files of their own."""

    def finish(self, status: str) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def read_metrics(path: Path) -> Iterator[tuple[int, int, float, dict[str, float]]]:
    """Yield step, epoch, time and values of each complete line; a torn last line is left out.

    Raises:
        RunDirError: the file is missing, or a line other than the last is damaged.
    """
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise RunDirError(f"cannot read {path}: {error.strerror or error}") from error
    for number, line in enumerate(lines, 1):
        if not line.endswith(b"\n"):
            return
        try:
            row = json.loads(line)
            values = {k: float(v) for k, v in row.items() if k not in _RESERVED}
            record = (int(row["step"]), int(row["epoch"]), float(row["time"]), values)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunDirError(f"{path}:{number}: not a line of metrics: {error!r}") from error
        yield record


def truncate_after(path: Path, step: int) -> None:
    """Keep the complete lines up to ``step`` and drop the rest, in one piece.

    Damaged lines are dropped too, with a warning for each that a kill does not explain.
    """
    content = path.read_bytes()
    kept = bytearray()
    for number, line in enumerate(content.splitlines(keepends=True), 1):
        found = _step(line)
        if found is None and line.endswith(b"\n"):
            _logger.warning("%s:%d is damaged and was dropped: %r", path, number, line[:80])
        elif found is not None and found <= step:
            kept += line
    if len(kept) == len(content):
        return
    temporary = path.with_name(f".tmp-{path.name}")
    with temporary.open("wb") as file:
        file.write(kept)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _step(line: bytes) -> int | None:
    """Return the step of a complete line, None for a torn or damaged one."""
    if not line.endswith(b"\n"):
        return None
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return None


def _encode(value: float) -> float | str:
    return value if math.isfinite(value) else repr(value)
