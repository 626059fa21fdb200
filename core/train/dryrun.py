"""``--dry-run``: everything that can be checked without data, weights or a run directory."""

from __future__ import annotations

import fiddle as fdl

from core.config.build import build
from core.config.compose import Composed
from core.config.flatten import flat_text
from core.config.lint import lint
from core.errors import ConfigErrors
from core.experiment import Experiment


def dry_run(composed: Composed) -> list[str]:
    """Lint and build the configuration; return what a run would use, and the model's outline.

    Raises:
        ConfigErrors: what a run would be refused for.
    """
    table = outline(composed.config)
    lines = [f"configuration of {composed.target}", ""]
    lines += flat_text(composed.config).rstrip("\n").split("\n")
    if composed.notes:
        lines += ["", *composed.notes]
    if composed.changes:
        lines += ["", "changed:"] + [f"  {change}" for change in composed.changes]
    lines += ["", *table]
    return [*lines, "", "dry run: the configuration is valid; nothing was read or written"]


def outline(config: fdl.Config[Experiment]) -> list[str]:
    """Lint and build a configuration; return the parameters of its model by module.

    Raises:
        ConfigErrors: what a run would be refused for.
    """
    problems = lint(config)
    if problems:
        raise ConfigErrors(problems)
    return build(config).task.outline()
