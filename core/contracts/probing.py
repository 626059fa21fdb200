"""Probing: what a frozen representation of a trained task tells, measured by models made afresh."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from core.contracts.records import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class UtteranceSample:
    """Different utterances of a source.

    Args:
        batches: that hold them; reading may go on once.
        count: of utterances in all batches.
        notes: lines for people: how many there were, and how they were chosen.
    """

    batches: Iterable[Batch]
    count: int
    notes: tuple[str, ...] = ()


@runtime_checkable
class SamplingData(Protocol):
    """Data that can give a bounded number of utterances of a source, however large it is."""

    def sample_utterances(self, uri: str, *, limit: int, seed: int) -> UtteranceSample:
        """Choose utterances of a source, each once, as evenly over speakers as can be.

        Args:
            uri: a source, or a split by its name.
            limit: most utterances of speakers that the run has a class for, and again of others.
            seed: of the choice.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeFindings:
    """What probes found.

    Args:
        lines: the table, for people.
        figures: everything, for JSON.
        metrics: scalars to track, named ``probe/NAME``.
        image: (H, W, 3) uint8 pixels; None where nothing can be drawn.
    """

    lines: Sequence[str]
    figures: Mapping[str, Any]
    metrics: Mapping[str, float]
    image: np.ndarray[Any, Any] | None


class ProbeSuite(Protocol):
    """Probes of one representation, and of a twin's beside it on the same rows."""

    def add(self, batch: Any) -> None:  # noqa: ANN401
        """Collect what the frozen model makes of a batch, which is on the model's device."""

    def findings(self, *, names: Sequence[str], seeds: Sequence[int]) -> ProbeFindings:
        """Train the probes and measure.

        Args:
            names: of the run, and of its twin if there is one.
            seeds: of the probes.

        Raises:
            DataError: there is too little to measure anything.
        """


@runtime_checkable
class ProbingTask(Protocol):
    """A task that has a representation to probe."""

    def probes(self, twin: torch.nn.Module | None = None) -> ProbeSuite:
        """Return an empty suite.

        Args:
            twin: a task of the same kind to measure beside this one.

        Raises:
            ConfigError: the twin is of another kind.
        """
