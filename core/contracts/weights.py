"""Weights in the form of another toolkit: read into a module, or written from one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import fiddle as fdl
from torch import nn

from core.checkpoint.start import StartReport


class Weights(Protocol):
    """A file of another toolkit's weights (kind ``weights``).

    It is named by a URI such as ``nemo:model.nemo`` and constructed without touching the disk.
    ``--init-from`` reads one and ``python -m core.export`` writes one.
    """

    location: str
    """What follows the scheme in the URI."""

    def load(self, module: nn.Module) -> StartReport:
        """Start a module, whose parameters exist, from the file. Executes nothing of it.

        Raises:
            CheckpointError: the file is missing, damaged, not plain data, or holds another
                architecture; nothing was loaded.
        """

    def save(self, module: nn.Module) -> list[str]:
        """Write the state of a module; return lines on what was written.

        Raises:
            CheckpointError: the module has no form there, or the file cannot be written.
        """


class ModelFolder(Weights, Protocol):
    """Weights that say how they are to be used, so that their folder stands for a model."""

    adapts: bool
    """Whether they add to a frozen model that they can be compared with."""

    @classmethod
    def claims(cls, folder: Path) -> bool:
        """Return whether a folder is of this form."""

    def experiment(self, *, base: str | None) -> fdl.Config[Any]:
        """Return the configuration of an experiment whose task the weights are for.

        Args:
            base: the frozen model, where the user names one.

        Raises:
            SoriError: the folder is damaged, or does not say enough.
        """

    def write_assets(self, assets: Path, module: nn.Module) -> list[str]:
        """Write the assets of a run into a folder, for a task that was built and is not set up.

        Returns:
            Lines on what the user should know.
        """
