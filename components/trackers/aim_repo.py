"""Aim repositories and runs, opened so that crashes and concurrent trainers do no harm.

What this works around was seen with Aim 3.29: two processes that make a repository at once crash;
runs are invisible to its queries until an index is written, which only ``aim up`` does, and which
one process can open at a time.
"""

from __future__ import annotations

import fcntl
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_LOCK = ".aim.lock"
_logger = logging.getLogger(__name__)


def import_aim() -> Any:  # noqa: ANN401
    """Return the module ``aim``. Raises ModuleNotFoundError that names the extra to install."""
    try:
        import aim
    except ModuleNotFoundError as error:
        if error.name != "aim":
            raise
        raise ModuleNotFoundError(
            "Aim is not installed: pip install 'sori[aim]' (Python 3.11 or 3.12)", name="aim"
        ) from error
    return aim


def open_repo(aim: Any, folder: Path) -> Any:  # noqa: ANN401
    """Return the ``aim.Repo`` in ``folder``; make it if there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        # VERSION is written last, so a repository without it was left half-made.
        complete = (folder / ".aim" / "VERSION").exists()
        return aim.Repo.from_path(str(folder), init=not complete)


def open_run(aim: Any, repo: Any, memory: Path) -> Any:  # noqa: ANN401
    """Reopen the ``aim.Run`` that ``memory`` names in this repository, or make one and note it."""
    settings = {
        "repo": repo,
        "system_tracking_interval": None,
        "log_system_params": False,
        "capture_terminal_logs": False,
    }
    known = _remembered(memory, repo.path)
    if known is not None and _has_run(repo, known):
        # A killed process leaves Aim's lock file. Whose it was cannot be told from the process id
        # in it, which another container may have given to a live process; but the run directory
        # has one writer, and that is this process.
        with _quiet("aim.sdk.lock_manager"):
            return aim.Run(known, force_resume=True, **settings)
    if known is not None:
        _logger.warning("Aim run %s is not in %s any more; starting a new one", known, repo.path)
    run = aim.Run(**settings)
    memory.write_text(json.dumps({"hash": run.hash, "repo": repo.path}) + "\n", encoding="utf-8")
    return run


def index_run(repo: Any, run_hash: str, *, attempts: int = 10) -> None:  # noqa: ANN401
    """Enter a run into the index that Aim's queries read.

    While ``aim up`` serves the repository it may hold the index for a moment; it then enters the
    run itself, and this gives up after some attempts.
    """
    from aim.sdk.index_manager import RepoIndexManager
    from aimrocks.errors import RocksIOError  # type: ignore[import-untyped]

    with _locked(Path(repo.root_path)), _quiet("aim.sdk.index_manager"):
        for _ in range(attempts):
            try:
                RepoIndexManager(repo).index(run_hash)
                break
            except RocksIOError:
                time.sleep(0.1)
        else:
            _logger.info("the index of %s is in use; aim up will enter the run", repo.path)
        repo.container_pool.clear()


def known_repo(memory: Path) -> Path | None:
    """Return the folder of the repository that ``memory`` names; None if it is not there."""
    try:
        found = Path(json.loads(memory.read_text(encoding="utf-8"))["repo"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return found.parent if (found / "VERSION").is_file() else None


def _remembered(memory: Path, repo: str) -> str | None:
    """Return the hash of the run's Aim run in ``repo``, None if it has none there."""
    try:
        found = json.loads(memory.read_text(encoding="utf-8"))
        return str(found["hash"]) if found["repo"] == repo else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _has_run(repo: Any, run_hash: str) -> bool:  # noqa: ANN401
    """Say whether a local repository has the run.

    Aim answers from a list that it reads at most every half second, and opens nothing that is not
    in that list; a run made since then is waited for.
    """
    if not (Path(repo.path) / "meta" / "chunks" / run_hash).exists():
        return False
    for _ in range(20):
        if repo.run_exists(run_hash):
            return True
        time.sleep(0.1)
    return False


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Wait for the other trainers that make or index the repository in ``folder``."""
    with (folder / _LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Keep a logger from warning about what is expected here."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
