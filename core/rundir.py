"""The directory of a run: its paths, its one writer, its log and its status."""

from __future__ import annotations

import json
import logging
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from core.checkpoint.atomic import write_text
from core.errors import RunDirError, suggest
from core.runlock import RunLock, is_held

_STATUS = "status.json"
_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class RunDir:
    """A run directory and, for the rank that writes, the lock on it.

    Make one with :meth:`create` or :meth:`open`. As a context manager it releases the lock at the
    end of the block.

    Args:
        path: the directory.
        rank: of this process; only rank 0 writes.
    """

    LOCK = ".lock"
    """File that the writer holds locked; it names the writer."""

    def __init__(self, path: Path, *, rank: int) -> None:
        self.path = path
        self.rank = rank
        self._lock: RunLock | None = None
        self._handler: logging.Handler | None = None
        self._former: dict[str, Any] = {}

    @classmethod
    def create(cls, root: Path, name: str, *, rank: int) -> RunDir:
        """Make the directory ``root/name`` or enter an existing one, as its one writer.

        Ranks other than 0 only learn the paths. On rank 0 warnings of all loggers go to
        ``log.txt`` until :meth:`release`.

        Raises:
            RunDirError: the directory cannot be written, or a live process is writing it.
        """
        run = cls(root / name, rank=rank)
        if rank == 0:
            run._enter()
        return run

    @classmethod
    def open(cls, path: Path) -> RunDir:
        """Return an existing run directory for reading; takes no lock.

        Raises:
            RunDirError: it does not exist or is not a run directory.
        """
        if not path.is_dir():
            siblings = path.parent.iterdir() if path.parent.is_dir() else ()
            names = [entry.name for entry in siblings if entry.is_dir()]
            near = suggest(path.name, names, noun=f"directories in {path.parent}")
            raise RunDirError(f"{path} is not a directory; {near}")
        run = cls(path, rank=0)
        if not any(entry.exists() for entry in (path / _STATUS, run.metrics, run.checkpoints)):
            raise RunDirError(
                f"{path} is not a run directory: it has no {_STATUS}, {run.metrics.name} or "
                f"{run.checkpoints.name}/"
            )
        return run

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def assets(self) -> Path:
        """Folder of what the run fitted: tokenizers, statistics."""
        return self.path / "assets"

    @property
    def samples(self) -> Path:
        """Folder of texts, audio and images by step."""
        return self.path / "samples"

    @property
    def probes(self) -> Path:
        """Folder of what probes found, by step."""
        return self.path / "probes"

    @property
    def log(self) -> Path:
        """What was said to people, with times."""
        return self.path / "log.txt"

    @property
    def metrics(self) -> Path:
        """Every scalar of the run, one JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def config_dir(self) -> Path:
        """Folder of ``config.json``, ``config.py`` and ``config.txt``."""
        return self.path

    def set_status(self, status: str, *, step: int | None = None, reason: str = "") -> None:
        """Record ``running``, ``finished``, ``stopped`` or ``failed``; on rank 0 only.

        Args:
            status: one of the four.
            step: optimiser steps taken; None to keep what is recorded.
            reason: why it failed or stopped.
        """
        if self.rank != 0:
            return
        record = {
            "status": status,
            "step": self._recorded().get("step", 0) if step is None else step,
            "reason": reason,
            "updated": _now(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
        }
        try:
            write_text(self.path / _STATUS, json.dumps(record, indent=2) + "\n")
        except OSError as error:
            raise RunDirError(f"cannot write {self.path / _STATUS}: {error}") from error

    def restore_status(self) -> bool:
        """Record again what was recorded before this process entered; False if nothing was."""
        if self.rank == 0 and self._former:
            write_text(self.path / _STATUS, json.dumps(self._former, indent=2) + "\n")
        return bool(self._former)

    def status(self) -> dict[str, Any]:
        """Return what :meth:`set_status` recorded.

        A run that is recorded as running while no process holds its lock is ``interrupted``.
        """
        record = self._recorded()
        if (
            record.get("status") == "running"
            and self._lock is None
            and not is_held(self.path / self.LOCK)
        ):
            record["status"] = "interrupted"
        return record

    def release(self) -> None:
        """Let another process write the run. Safe to call twice."""
        if self._handler is not None:
            logging.getLogger().removeHandler(self._handler)
            self._handler.close()
            self._handler = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def _enter(self) -> None:
        try:
            for folder in (self.path, self.checkpoints, self.assets, self.samples):
                folder.mkdir(parents=True, exist_ok=True)
            self._lock = RunLock(self.path / self.LOCK)
            self._handler = logging.FileHandler(self.log, encoding="utf-8")
        except OSError as error:
            self.release()
            raise RunDirError(
                f"cannot write run directory {self.path}: {error.strerror or error}"
            ) from error
        self._handler.setLevel(logging.WARNING)
        self._handler.setFormatter(logging.Formatter(_LOG_FORMAT, datefmt="%Y-%m-%d %H:%M:%S"))
        logging.getLogger().addHandler(self._handler)
        self._former = self._recorded()
        try:
            self.set_status("running")
        except RunDirError:
            self.release()
            raise

    def _recorded(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.path / _STATUS).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
