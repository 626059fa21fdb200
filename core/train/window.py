"""Sums between two log lines, so that what is logged is an average over all its steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Window:
    """Named (total, count) sums over the optimiser steps since the last reset."""

    def __init__(self) -> None:
        self.sums: dict[str, tuple[float, float]] = {}

    def add(self, name: str, total: float, count: float = 1.0) -> None:
        """Add to the sums of ``name``."""
        before = self.sums.get(name, (0.0, 0.0))
        self.sums[name] = (before[0] + total, before[1] + count)

    def averages(self) -> dict[str, float]:
        """Return total / count for every name that counted anything."""
        return {name: total / count for name, (total, count) in self.sums.items() if count > 0}

    def reset(self) -> None:
        """Forget all sums."""
        self.sums.clear()

    def state_dict(self) -> dict[str, Any]:
        """Return the sums; a checkpoint may fall between two log lines."""
        return {name: list(pair) for name, pair in self.sums.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` returned."""
        self.sums = {name: (float(pair[0]), float(pair[1])) for name, pair in state.items()}
