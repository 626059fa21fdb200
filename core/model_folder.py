"""Folders of weights that stand for a model without a run, such as an adapter."""

from __future__ import annotations

from pathlib import Path

from core import catalog
from core.checkpoint.format import META
from core.checkpoint.locate import CHECKPOINTS
from core.contracts.weights import ModelFolder
from core.registry import lookup

KIND = "weights"


def find_model_folder(target: Path) -> ModelFolder | None:
    """Return the weights that a folder is; None for runs, checkpoints and everything else.

    The components of kind ``weights`` are asked; a folder that holds checkpoints is none of theirs.
    """
    if not target.is_dir() or _holds_checkpoints(target):
        return None
    for name in sorted(catalog.index().names(KIND)):
        component = lookup(KIND, name)
        claims = getattr(component, "claims", None)
        if claims is not None and claims(target):
            made: ModelFolder = component(location=str(target))
            return made
    return None


def _holds_checkpoints(folder: Path) -> bool:
    known = (folder / META).exists() or (folder / CHECKPOINTS).is_dir()
    return known or any(folder.glob("step_*"))
