"""From what a user names (a run, its checkpoints, one checkpoint) to one complete checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from core.checkpoint.format import ASSETS, EMA, META, MODEL, verify
from core.checkpoint.store import CheckpointStore
from core.errors import CheckpointError, suggest

CHECKPOINTS = "checkpoints"
_logger = logging.getLogger(__name__)


def resolve_checkpoint(
    target: Path,
    prefer: Literal["best", "latest"],
    say: Callable[[str], None] = _logger.warning,
) -> Path:
    """Return the checkpoint that ``target`` stands for, after checking that it is complete.

    Args:
        target: a run directory, its ``checkpoints`` folder, or a single checkpoint.
        prefer: which one of a run. ``best`` falls back to the latest where no validation has
            marked one.
        say: gets a line for whatever is passed over or fallen back to.

    Raises:
        CheckpointError: there is no such directory, no checkpoint in it, or none is complete.
    """
    if not target.exists():
        raise CheckpointError(f"{target} does not exist; {_nearby(target)}")
    if target.is_file():
        raise CheckpointError(
            f"{target} is a file; expected a run directory or a checkpoint, such as {target.parent}"
        )
    if (target / META).exists() or target.name.startswith("step_"):
        verify(target)
        _verify_weights(target)
        return target
    folder = target / CHECKPOINTS if (target / CHECKPOINTS).is_dir() else target
    if not any(folder.glob("step_*")):
        raise CheckpointError(
            f"{folder} holds no checkpoint (step_...); expected a run directory, its "
            f"'{CHECKPOINTS}' folder or a single checkpoint"
        )
    return _pick(CheckpointStore(folder), prefer, say)


def _pick(
    store: CheckpointStore, prefer: Literal["best", "latest"], say: Callable[[str], None]
) -> Path:
    found = store.best(say) if prefer == "best" else None
    if prefer == "best" and found is None:
        say(f"{store.directory} has no BEST (no validation was saved); taking the latest")
    found = found or store.latest(say)
    if found is None:
        raise CheckpointError(f"no checkpoint in {store.directory} is complete")
    return found


def _verify_weights(path: Path) -> None:
    """Compare the content of what inference reads; optimiser state may be large and is not read."""
    assets = [p.relative_to(path).as_posix() for p in (path / ASSETS).rglob("*") if p.is_file()]
    verify(path, hashes=True, only=[MODEL, EMA, *assets])


def _nearby(target: Path) -> str:
    """Return which name next to ``target`` was probably meant."""
    parent = target.parent
    if not parent.is_dir():
        return f"neither does {parent}"
    names = [path.name for path in parent.iterdir() if path.is_dir()]
    return suggest(target.name, names, noun=f"directories in {parent}")
