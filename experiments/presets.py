"""Named changes for ``+preset`` on the command line; each edits a configuration in place."""

from __future__ import annotations

import fiddle as fdl

from core.config.presets import preset
from core.experiment import Experiment


@preset
def smoke(config: fdl.Config[Experiment]) -> None:
    """Two steps, a checkpoint and a validation: does everything hold together?"""
    config.trainer.max_steps = 2
    config.trainer.max_epochs = None
    config.trainer.log_every = 1
    config.trainer.validate_every = 2


@preset
def bf16(config: fdl.Config[Experiment]) -> None:
    """Autocast to bfloat16; weights and optimiser stay in float32."""
    config.trainer.precision = "bf16"


@preset
def no_aim(config: fdl.Config[Experiment]) -> None:
    """Write ``metrics.jsonl`` alone."""
    config.trackers = []
