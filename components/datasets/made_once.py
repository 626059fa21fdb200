"""Folders that are made on demand, once, whichever process asks first."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

from components.datasets.espeak import data_folder
from components.datasets.espeak_worker import Job
from core.errors import DataError


def made_once(
    target: Path, *, damage: Callable[[Path], str | None], make: Callable[[Path], None]
) -> Path:
    """Return a folder, and make it first if it is not there or is damaged.

    It is made under a temporary name and renamed when complete; a lock lets several processes ask
    for it at once.

    Args:
        target: the folder; its name tells everything that its content depends on.
        damage: says what is wrong with an existing folder; None for nothing.
        make: fills an empty folder.

    Raises:
        DataError: it cannot be written; and whatever ``make`` raises.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target.with_name(f"{target.name}.lock"), target.name):
            if target.exists():
                fault = damage(target)
                if fault is None:
                    return target
                print(f"demo: {target}: {fault}; making it again", file=sys.stderr, flush=True)
                shutil.rmtree(target)
            for stale in target.parent.glob(f"{target.name}.part-*"):
                shutil.rmtree(stale, ignore_errors=True)
            _fill(target, make)
    except OSError as error:
        raise DataError(f"the demo corpus cannot be kept in {target.parent}: {error}") from error
    return target


def checksum(jobs: Sequence[Job], version: int) -> str:
    """Return a digest of everything that spoken audio depends on.

    Args:
        jobs: what is spoken.
        version: of what is made from it.
    """
    data_folder()
    try:
        spoken_by = metadata.version("espeakng-loader")
    except metadata.PackageNotFoundError:
        spoken_by = "unknown"
    content = json.dumps([version, spoken_by, [asdict(job) for job in jobs]])
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def _fill(target: Path, make: Callable[[Path], None]) -> None:
    part = Path(tempfile.mkdtemp(prefix=f"{target.name}.part-", dir=target.parent))
    try:
        make(part)
        part.chmod(0o755)
        part.rename(target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


@contextmanager
def _locked(path: Path, name: str) -> Iterator[None]:
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"demo: waiting for another process to make {name}", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
