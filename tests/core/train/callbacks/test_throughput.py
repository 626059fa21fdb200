from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path

import pytest
import torch
from torch import nn

from components.schedulers.constant import Constant
from core.contracts import Artifact, RunInfo
from core.dist.ranks import Ranks
from core.errors import ConfigError
from core.experiment import Experiment
from core.rundir import RunDir
from core.train.callbacks import throughput
from core.train.loop import Loop
from core.train.signals import StopRequest
from core.train.trainer import Trainer
from tests.core.train.toy import ToyData, ToyTask

ALONE = Ranks(rank=0, world_size=1, local_rank=0, device=torch.device("cpu"))


class Record:
    """A tracker that keeps what it is told."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, dict[str, float]]] = []

    def start(self, run: RunInfo) -> None: ...

    def metrics(self, values: Mapping[str, float], *, step: int, epoch: int) -> None:
        if "speed/tokens_per_second" in values:
            self.seen.append((step, dict(values)))

    def artifacts(self, artifacts: Sequence[Artifact], *, step: int) -> None: ...

    def finish(self, status: str) -> None: ...


class TrainingData(ToyData):
    eval_splits = ()


def loop(tmp_path: Path, *, callback: throughput.Throughput, record: Record) -> Loop:
    def sgd(module: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(module.parameters(), lr=0.01)

    experiment = Experiment(
        name="toy",
        task=ToyTask(),
        data=TrainingData(batches=8),  # type: ignore[arg-type]
        optimizer=sgd,
        scheduler=Constant(),
        trainer=Trainer(max_steps=5, log_every=2, validate_every=1000),
        callbacks=(callback,),
    )
    return Loop(
        experiment=experiment,
        run=RunDir(tmp_path, rank=0),
        ranks=ALONE,
        tracker=record,
        stop=StopRequest(),
        say=lambda line: None,
        environment={},
    )


def test_targets_of_all_steps_since_the_last_line_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = {"square": Record(), "weighted": Record()}
    for loss, record in counted.items():
        with monkeypatch.context() as patched:
            seconds = count(step=10)  # on_start, then one look at each of three log lines
            patched.setattr(throughput, "now", partial(next, seconds))
            loop(tmp_path, callback=throughput.Throughput(loss=loss), record=record).train()
    rates = {
        loss: [values["speed/tokens_per_second"] for _, values in record.seen]
        for loss, record in counted.items()
    }
    assert [step for step, _ in counted["square"].seen] == [2, 4, 5]
    rows, weights = targets()
    for loss, each in (("square", rows), ("weighted", weights)):
        assert rates[loss] == pytest.approx(
            [sum(each[0:2]) / 10, sum(each[2:4]) / 10, each[4] / 10]
        )


def test_the_peak_of_memory_is_logged_and_no_less_than_what_is_held(tmp_path: Path) -> None:
    held = torch.ones(64 * 2**20 // 4)
    record = Record()
    loop(tmp_path, callback=throughput.Throughput(loss="square"), record=record).train()
    for _, values in record.seen:
        assert held.nbytes / 2**30 < values["speed/host_memory_gib"] < 1024


def test_a_loss_that_the_task_does_not_have_is_refused(tmp_path: Path) -> None:
    made = loop(tmp_path, callback=throughput.Throughput(loss="ce"), record=Record())
    with pytest.raises(ConfigError, match="no loss 'ce'; it has square, weighted"):
        made.train()


def targets() -> tuple[list[float], list[float]]:
    """Return rows and weights of the first batches of an epoch."""
    batches = list(ToyData(batches=8).train_stream())
    return [float(len(b)) for b in batches], [float(b.weights.sum()) for b in batches]
