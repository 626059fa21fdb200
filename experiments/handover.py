"""From one stage to the next: the encoder of a former run, by its saved configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import fiddle as fdl

from core.checkpoint.locate import resolve_checkpoint
from core.config import snapshot
from core.errors import ConfigError, SoriError


class Ears(NamedTuple):
    """What a stage hears with: configurations of the features and of the encoder."""

    features: fdl.Config[Any]
    encoder: fdl.Config[Any]


def ears_of(run: str) -> Ears:
    """Return the features and the encoder of a run; architecture only, no weights.

    Args:
        run: run directory, its checkpoints folder, or one checkpoint.

    Raises:
        ConfigError: there is no saved configuration, or its task has no such parts.
    """
    saved = snapshot.load(_directory(Path(run)))
    parts = [getattr(saved.task, name, None) for name in Ears._fields]
    if not all(isinstance(part, fdl.Config) for part in parts):
        task = fdl.get_callable(saved.task).__name__
        raise ConfigError(
            f"encoder_from={run}: a {task} without features and encoder; expected a run whose "
            "task has both"
        )
    return Ears(*parts)


def _directory(run: Path) -> Path:
    """Return the folder that holds the configuration."""
    if (run / snapshot.JSON_NAME).is_file():
        return run
    try:
        return resolve_checkpoint(run, prefer="best")
    except SoriError as error:
        raise ConfigError(f"encoder_from={run}: {error}") from None
