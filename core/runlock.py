"""The lock that makes a process the only writer of a run directory."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
import weakref
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from core.errors import RunDirError


class RunLock:
    """An exclusive OS lock on a file, held until :meth:`close` or the end of the process.

    The kernel releases it however the process ends, so there are no stale locks. A forked child
    (a data loader's worker) would share it and keep a killed trainer's lock alive, so children
    close their copy of the descriptor.

    Raises:
        RunDirError: another live process holds it.
        OSError: the file cannot be opened or written.
    """

    _PATIENCE = 20
    """Attempts, 50 ms apart: someone who merely asks for the status holds it for an instant."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._acquire(self._descriptor)
        except BaseException:
            os.close(self._descriptor)
            raise
        _held.add(self)

    def close(self) -> None:
        """Release the lock, or in a forked child let go of the copy."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _acquire(self, descriptor: int) -> None:
        for attempt in range(self._PATIENCE):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt == self._PATIENCE - 1:
                    raise RunDirError(_busy(self.path)) from None
                time.sleep(0.05)
        started = datetime.now(UTC).isoformat(timespec="seconds")
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "started": started}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(holder).encode() + b"\n", 0)


def is_held(path: Path) -> bool:
    """Return whether a live process holds the lock."""
    try:
        probe = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(probe, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(probe)
    return False


_held: weakref.WeakSet[RunLock] = weakref.WeakSet()


def _let_go_in_child() -> None:
    for lock in list(_held):
        lock.close()


os.register_at_fork(after_in_child=_let_go_in_child)


def _busy(lock: Path) -> str:
    try:
        holder: Mapping[str, Any] = json.loads(lock.read_text(encoding="utf-8"))
        who = f"process {holder['pid']} on {holder['host']} since {holder['started']}"
    except (OSError, ValueError, KeyError, TypeError):
        who = "another process"
    return (
        f"{lock.parent} is being written by {who}; wait for it, stop it, or choose another "
        "run directory"
    )
