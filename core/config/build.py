"""From a configuration to the objects that it describes."""

from __future__ import annotations

import fiddle as fdl

from core.errors import SoriError
from core.experiment import Experiment


def build(config: fdl.Config[Experiment]) -> Experiment:
    """Build an experiment.

    Fiddle appends the arguments of a constructor to what it raises. A refusal is complete in
    itself and is raised as it was; a defect keeps what Fiddle says.
    """
    try:
        experiment: Experiment = fdl.build(config)
    except SoriError as error:
        raise getattr(error, "proxy_base_exception", error) from None
    return experiment
