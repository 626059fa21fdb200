"""``--branch-from``: a checkpoint of another run becomes the first one of a new run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from core.checkpoint.atomic import publish, scratch
from core.checkpoint.format import ASSETS
from core.checkpoint.locate import resolve_checkpoint
from core.errors import CheckpointError


def branch(source: Path, *, checkpoints: Path, assets: Path) -> Path:
    """Take a checkpoint over, whole: weights, optimiser, schedule, data position, assets.

    The branch then owns it: it resumes from it as from one of its own, whatever becomes of the
    run that it came from. Files are linked where the file system can, since none is ever changed.

    Args:
        source: a run, of which the latest checkpoint is taken, or a checkpoint.
        checkpoints: of the new run.
        assets: of the new run, which has none yet.

    Returns:
        The checkpoint in ``checkpoints``.

    Raises:
        CheckpointError: nothing complete is there, or it cannot be copied.
    """
    found = resolve_checkpoint(source, prefer="latest")
    target = checkpoints / found.name
    try:
        checkpoints.mkdir(parents=True, exist_ok=True)
        if (found / ASSETS).is_dir():
            shutil.copytree(found / ASSETS, assets, dirs_exist_ok=True)
        with scratch(checkpoints, found.name) as work:
            shutil.copytree(found, work, copy_function=_link, dirs_exist_ok=True)
            publish(work, target)
    except OSError as error:
        raise CheckpointError(
            f"--branch-from: {found} cannot be copied to {target}: {error}"
        ) from error
    return target


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # Another file system, or one without links.
        shutil.copy2(source, target)
