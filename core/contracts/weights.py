"""Weights in the form of another toolkit: read into a module, or written from one."""

from __future__ import annotations

from typing import Protocol

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
