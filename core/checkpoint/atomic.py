"""Files and directories that appear whole or not at all, whatever ends the process.

A directory is filled under a temporary name in the folder it will live in, synced, and renamed.
A folder has one writer, who holds the lock of the run directory; temporary names that a writer
finds when it starts were therefore left by one that is dead.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SCRATCH = ".tmp-"
_ASIDE = ".aside-"


def sync_directory(path: Path) -> None:
    """Make the names in a directory survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put ``path`` into an OSError that names no file, or one that only the writer knows.

    A write to a full disk fails without a name, and a user cannot know a temporary one.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None or Path(str(error.filename)).name.startswith(_SCRATCH):
            error.filename = str(path)
        raise


def write_text(path: Path, text: str) -> None:
    """Replace a text file in one piece: a reader sees the old content or the new."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file in one piece."""
    temporary = path.with_name(f"{_SCRATCH}{path.name}-{os.getpid()}")
    with naming(path):
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    sync_directory(path.parent)


def seal(path: Path) -> str:
    """Force a file's content to disk and return its SHA-256."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def scratch(directory: Path, name: str) -> Iterator[Path]:
    """Yield a new temporary directory inside ``directory``; remove it if the block raises."""
    work = directory / f"{_SCRATCH}{name}-{secrets.token_hex(4)}"
    work.mkdir()
    try:
        yield work
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def publish(work: Path, target: Path) -> None:
    """Give a finished temporary directory its final name, replacing what had that name.

    A directory cannot be renamed over another one, so an existing target steps aside first;
    :func:`sweep` puts it back if the process dies in between.
    """
    aside = target.with_name(f"{_ASIDE}{target.name}")
    if target.exists():
        if aside.exists():
            shutil.rmtree(aside)
        os.rename(target, aside)
    os.rename(work, target)
    sync_directory(target.parent)
    shutil.rmtree(aside, ignore_errors=True)


def discard(path: Path) -> None:
    """Remove a directory; if the process dies half-way, none of it keeps its name."""
    doomed = path.with_name(f"{_SCRATCH}{path.name}-{secrets.token_hex(4)}")
    os.rename(path, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def sweep(directory: Path) -> list[str]:
    """Remove what a dead writer left in ``directory`` and return the names of it.

    Only for the writer of ``directory``, and not while it writes.
    """
    found = []
    for path in sorted(directory.glob(f"{_ASIDE}*")):
        target = directory / path.name.removeprefix(_ASIDE)
        if target.exists():
            shutil.rmtree(path)
        else:
            os.rename(path, target)
        found.append(path.name)
    for path in sorted(directory.glob(f"{_SCRATCH}*")):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        found.append(path.name)
    return found
