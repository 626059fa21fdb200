"""A small real task on vectors: two losses with different counts, dropout and batch norm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from core.contracts import LossSum, MetricSum, RunContext, Skipped, Task


@dataclass(frozen=True, kw_only=True)
class ToyBatch:
    """Vectors (N, 4) with how many targets each row counts for."""

    ids: tuple[str, ...]
    x: Tensor
    weights: Tensor
    skipped: tuple[Skipped, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def seconds(self) -> float:
        return float(len(self))

    @property
    def padded_seconds(self) -> float:
        return float(len(self))

    def to(self, device: torch.device) -> Self:
        return replace(self, x=self.x.to(device), weights=self.weights.to(device))


@dataclass(frozen=True, kw_only=True)
class EventfulBatch(ToyBatch):
    """A batch that tells how it was made."""

    events: Mapping[str, int]


class ToyTask(Task):
    """Predicts the sum of a vector; one loss counts rows, the other their weights."""

    loss_names: ClassVar[tuple[str, ...]] = ("square", "weighted")
    metric_names: ClassVar[tuple[str, ...]] = ("near",)

    def __init__(self, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(4, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1)
        )
        self._near = MetricSum(total=0.0, count=0.0)

    def setup(self, context: RunContext) -> None:
        """Nothing to size."""

    def counts(self, batch: ToyBatch) -> dict[str, Tensor]:
        return {
            "square": torch.tensor(float(len(batch))),
            "weighted": batch.weights.sum().double(),
        }

    def _errors(self, batch: ToyBatch) -> Tensor:
        return (self.layers(batch.x).squeeze(1) - batch.x.sum(1)) ** 2

    def step(self, batch: ToyBatch) -> dict[str, LossSum]:
        errors = self._errors(batch)
        self._near = MetricSum(total=(errors < 0.1).sum(), count=float(len(batch)))
        return {
            "square": LossSum(total=errors.sum(), count=float(len(batch))),
            "weighted": LossSum(
                total=(errors * batch.weights).sum(), count=batch.weights.sum(), weight=0.5
            ),
        }

    def train_metrics(self) -> dict[str, MetricSum]:
        return {"near": self._near}

    def evaluate(self, batch: ToyBatch) -> dict[str, MetricSum]:
        errors = self._errors(batch)
        return {"loss": MetricSum(total=errors.sum(), count=float(len(batch)))}


def toy_batch(rows: int, seed: int, *, prefix: str = "u") -> ToyBatch:
    generator = torch.Generator().manual_seed(seed)
    return ToyBatch(
        ids=tuple(f"{prefix}{seed}-{row}" for row in range(rows)),
        x=torch.randn(rows, 4, generator=generator),
        weights=torch.randint(1, 9, (rows,), generator=generator).float(),
    )


class ToyStream:
    """Batches of ragged size, a pure function of (epoch, number); rank r takes m * world + r."""

    def __init__(self, *, batches: int, rank: int = 0, world_size: int = 1) -> None:
        self.steps_per_epoch: int | None = batches // world_size
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.taken = 0

    def __iter__(self) -> Iterator[ToyBatch]:
        assert self.steps_per_epoch is not None
        while self.taken < self.steps_per_epoch:
            number = self.taken * self.world_size + self.rank
            self.taken += 1
            yield toy_batch(2 + number % 5, seed=1000 * self.epoch + number)
        self.epoch += 1
        self.taken = 0

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "taken": self.taken}

    def load_state_dict(self, state: Mapping[str, Any], *, allow_data_change: bool = False) -> None:
        self.epoch, self.taken = state["epoch"], state["taken"]


class ToyData:
    """A data module over :class:`ToyStream` with one validation and one test split."""

    eval_splits: tuple[str, ...] = ("val",)
    test_splits: tuple[str, ...] = ("test",)

    def __init__(self, *, batches: int = 6) -> None:
        self.batches = batches
        self.context = RunContext(assets=Path("."))

    def setup(self, context: RunContext) -> None:
        self.context = context

    def train_stream(self) -> ToyStream:
        return ToyStream(
            batches=self.batches, rank=self.context.rank, world_size=self.context.world_size
        )

    def eval_batches(self, split: str) -> list[ToyBatch]:
        rows = [toy_batch(3, seed=77 + number, prefix=split) for number in range(4)]
        return rows[self.context.rank :: self.context.world_size]

    def fingerprint(self) -> dict[str, str]:
        return {"train": "toy"}

    def summary(self) -> list[str]:
        return ["toy vectors"]
