"""Which directory a run writes: the same command finds the same one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import fiddle as fdl

from core.config import snapshot
from core.config.diff import diff_lines
from core.config.flatten import fingerprint
from core.dist.ranks import Ranks
from core.errors import ConfigError, RunDirError
from core.rundir import RunDir


@contextmanager
def run_directory(
    config: fdl.Config[object],
    *,
    root: Path,
    directory: Path | None,
    resume: str,
    init_from: str | None = None,
    ranks: Ranks,
    say: Callable[[str], None],
) -> Iterator[RunDir]:
    """Choose, create and lock the run directory on the main rank; tell the others.

    The default name is the experiment's name and a digest of its whole configuration and of the
    weights that it starts from, so the same command resumes and a changed one starts a run of its
    own.

    Args:
        config: of the experiment.
        root: folder of run directories.
        directory: a directory of the user's choice instead.
        resume: ``auto``, ``never``, or the directory to go on with.
        init_from: what the run starts from; None for fresh weights.
        ranks: the processes of the run.
        say: gets one line for each setting in which a resumed run differs.

    Raises:
        ConfigError: the directory holds a run of another configuration.
        RunDirError: it cannot be written, or another process is writing it.
    """
    chosen: Path | None = None
    if ranks.is_main:
        name = f"{config.name}-{run_digest(config, init_from)}"
        chosen = _choose(config, root / name, directory=directory, resume=resume, say=say)
    path: Path = ranks.broadcast(chosen)
    with RunDir.create(path.parent, path.name, rank=ranks.rank) as run:
        yield run


def run_digest(config: fdl.Config[object], init_from: str | None) -> str:
    """Return 8 hexadecimal digits of a configuration and of what its run starts from."""
    digest = fingerprint(config)
    if init_from is None:
        return digest
    return hashlib.sha256(f"{digest} {init_from}".encode()).hexdigest()[:8]


def _choose(
    config: fdl.Config[object],
    named: Path,
    *,
    directory: Path | None,
    resume: str,
    say: Callable[[str], None],
) -> Path:
    if resume not in ("auto", "never"):
        if directory is not None:
            raise ConfigError(f"--run-dir {directory} and --resume {resume} name two directories")
        path = Path(resume)
        if not (path / snapshot.JSON_NAME).is_file():
            raise RunDirError(
                f"--resume {resume}: not a run directory (no {snapshot.JSON_NAME}); expected "
                "'auto', 'never' or the directory of a run"
            )
        for line in diff_lines(snapshot.load(path), config):
            say(f"resumed with another setting: {line}")
        return path
    if directory is None:
        if resume == "never":
            return _unused(named)
        # It may have been resumed with other settings since it was named.
        _refuse_other_run(named, config, resume=resume)
        return named
    _refuse_other_run(directory, config, resume=resume)
    return directory


def _unused(path: Path) -> Path:
    """Return ``path``, or the first of ``path-2``, ``path-3``, ... that does not exist."""
    number = 1
    candidate = path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate


def _refuse_other_run(directory: Path, config: fdl.Config[object], *, resume: str) -> None:
    if not (directory / snapshot.JSON_NAME).is_file():
        return
    if resume == "never":
        raise ConfigError(f"{directory} holds a run already, and --resume is 'never'")
    lines = diff_lines(snapshot.load(directory), config)
    if lines:
        shown = "\n".join(f"  {line}" for line in lines[:20])
        raise ConfigError(
            f"{directory} holds a run of another configuration; --resume {directory} goes on with "
            f"it all the same, --resume never starts anew. What differs:\n{shown}"
        )
