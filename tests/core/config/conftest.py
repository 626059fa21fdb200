from __future__ import annotations

import inspect
from pathlib import Path

import fiddle as fdl
import pytest

from core import catalog
from core.config.compose import Composed, compose
from core.config.load import load_experiment
from core.experiment import Experiment
from tests.core.config.toy import stage

ENCODERS = ", ".join(f"'{name}'" for name in catalog.index().names("encoder"))

STAGE = str(Path(__file__).parent / "toy" / "stage.py")


class Toy:
    """The toy experiment, and where its values are set."""

    path = STAGE

    def compose(self, *tokens: str) -> Composed:
        return compose(load_experiment(STAGE), list(tokens))

    def config(self, *tokens: str) -> fdl.Config[Experiment]:
        return self.compose(*tokens).config

    def at(self, snippet: str) -> str:
        """Return file:line of the first line of the toy that holds ``snippet``."""
        lines = inspect.getsource(stage).splitlines()
        number = next(n for n, line in enumerate(lines, 1) if snippet in line)
        path = Path(STAGE)
        name = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
        return f"{name}:{number}"


@pytest.fixture
def toy() -> Toy:
    return Toy()
