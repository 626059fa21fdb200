"""Parts of the toy experiment: cheap to describe, and with every type that a parameter may have."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from core.contracts import (
    Augmentation,
    DataModule,
    Encoder,
    Head,
    LossSum,
    MetricSum,
    RunContext,
    Task,
    Tokenizer,
)
from core.train.callback import Callback


class Norm(enum.Enum):
    """Where to normalise."""

    BATCH = "batch"
    LAYER = "layer"


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """How to mix losses.

    Args:
        ctc: weight of the CTC loss.
        labels: names of the others.
    """

    ctc: float = 1.0
    labels: tuple[str, ...] = ()


class ToyTask(Task):
    """A task that only holds what it is given.

    Args:
        encoder: frames to states.
        head: states to scores.
        tokenizer: shared with the data.
        mixing: weights of the losses; None for one
            loss only.
        augmentation: of features.
        dropout: before the head.
        norm: where to normalise.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        head: Head,
        tokenizer: Tokenizer,
        mixing: Mixing | None = None,
        augmentation: Augmentation | None = None,
        dropout: float = 0.1,
        norm: Norm = Norm.BATCH,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.tokenizer = tokenizer
        self.dropout = dropout

    def setup(self, context: RunContext) -> None:
        """Do nothing."""

    def counts(self, batch: Any) -> dict[str, Tensor]:
        """Count nothing."""
        return {}

    def step(self, batch: Any) -> dict[str, LossSum]:
        """Lose nothing."""
        return {}

    def evaluate(self, batch: Any) -> dict[str, MetricSum]:
        """Measure nothing."""
        return {}


@dataclass(frozen=True, kw_only=True)
class ToyData(DataModule):
    """Data that are never read.

    Args:
        train: manifest.
        validation: manifests by split.
        tokenizer: shared with the task.
        workers: processes; None for as many as cores.
        shape: of a window.
        folds: indices.
        cache: folder.
        dtype: of samples.
        order: of batches.
        sort: length of an utterance.
        anything: not annotated more closely.
    """

    train: str
    tokenizer: Tokenizer
    validation: Mapping[str, str]
    workers: int | None = None
    shape: tuple[int, int] = (80, 100)
    folds: Sequence[int] = ()
    cache: Path | None = None
    dtype: torch.dtype = torch.float32
    order: Literal["random", "length"] | int = "random"
    sort: Callable[[int], int] | None = None
    anything: Any = None


class ToyCallback(Callback):
    """A callback.

    Args:
        every: steps.
        name: of it.
    """

    def __init__(self, *, every: int = 10, name: str = "toy") -> None:
        self.every = every
        self.name = name


def times(value: int, *, factor: int) -> int:
    """Multiply."""
    return value * factor


class NoSuchScheduler:
    """Lacks the method of a scheduler."""

    def __init__(self, *, steps: int = 1) -> None:
        self.steps = steps
