"""Presets beside the toy experiment."""

from __future__ import annotations

import fiddle as fdl

from core.config.presets import preset
from core.experiment import Experiment


@preset
def quick(config: fdl.Config[Experiment]) -> None:
    """Take one step."""
    config.trainer.max_steps = 1
    config.callbacks.pop()


def helper(config: fdl.Config[Experiment]) -> None:
    """Not a preset."""
