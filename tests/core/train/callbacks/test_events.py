from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from components.schedulers.constant import Constant
from core.contracts import Artifact, RunInfo
from core.dist.ranks import Ranks
from core.experiment import Experiment
from core.rundir import RunDir
from core.train.callbacks.events import Events
from core.train.loop import Loop
from core.train.signals import StopRequest
from core.train.trainer import Trainer
from tests.core.train.toy import EventfulBatch, ToyBatch, ToyData, ToyStream, ToyTask

ALONE = Ranks(rank=0, world_size=1, local_rank=0, device=torch.device("cpu"))


class EventfulStream(ToyStream):
    """Reports two retries with every third batch; other batches know of no events."""

    def __iter__(self) -> Iterator[ToyBatch]:
        for batch in super().__iter__():
            if self.taken % 3:
                yield batch
            else:
                yield EventfulBatch(**vars(batch), events={"noise retries": 2})


class EventfulData(ToyData):
    eval_splits = ()

    def train_stream(self) -> ToyStream:
        return EventfulStream(batches=self.batches)


class Record:
    """A tracker that keeps what it is told of data."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, float]] = []

    def start(self, run: RunInfo) -> None: ...

    def metrics(self, values: Mapping[str, float], *, step: int, epoch: int) -> None:
        if "data/noise_retries" in values:
            self.seen.append((step, values["data/noise_retries"]))

    def artifacts(self, artifacts: Sequence[Artifact], *, step: int) -> None: ...

    def finish(self, status: str) -> None: ...


def loop(tmp_path: Path, *, steps: int, record: Record, said: list[str]) -> Loop:
    def sgd(module: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(module.parameters(), lr=0.01)

    experiment = Experiment(
        name="toy",
        task=ToyTask(),
        data=EventfulData(batches=8),  # type: ignore[arg-type]
        optimizer=sgd,
        scheduler=Constant(),
        trainer=Trainer(max_steps=steps, log_every=2, validate_every=1000),
        callbacks=(Events(),),
    )
    return Loop(
        experiment=experiment,
        run=RunDir(tmp_path, rank=0),
        ranks=ALONE,
        tracker=record,
        stop=StopRequest(),
        say=said.append,
        environment={},
    )


def test_events_are_told_once_and_logged_when_they_change(tmp_path: Path) -> None:
    record, said = Record(), list[str]()
    loop(tmp_path, steps=8, record=record, said=said).train()
    assert said == [
        "data: noise retries, for the first time at step 3; counted as data/noise_retries"
    ]
    assert record.seen == [(4, 2.0), (6, 4.0)], "not at step 8, where nothing has changed"


def test_counting_goes_on_after_a_resume(tmp_path: Path) -> None:
    record, said = Record(), list[str]()
    whole = loop(tmp_path, steps=6, record=record, said=said)
    first = loop(tmp_path, steps=3, record=Record(), said=[])
    first.train()
    state: dict[str, Any] = first.state_dict()
    assert json.loads(json.dumps(state["callbacks"]))["Events"]["counts"] == {"noise retries": 2}
    whole.load_state_dict(state)
    whole.train()
    assert record.seen == [(6, 4.0)]
    assert said == []
