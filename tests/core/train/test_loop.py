from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from components.schedulers.wsd import WSD
from core.contracts import Artifact, LossSum, RunInfo
from core.dist.ranks import Ranks
from core.errors import ConfigError, TrainingError
from core.experiment import Experiment
from core.rundir import RunDir
from core.train.loop import Loop
from core.train.signals import StopRequest
from core.train.trainer import Trainer
from tests.core.train.toy import ToyBatch, ToyData, ToyStream, ToyTask, toy_batch

ALONE = Ranks(rank=0, world_size=1, local_rank=0, device=torch.device("cpu"))


class Counting(ToyTask):
    """Notes what it is told after steps."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[bool] = []

    def after_step(self, *, finite: bool) -> None:
        self.told.append(finite)


class Fixed(ToyStream):
    """Micro-batches of ``rows_per_batch`` rows; one of them is poisoned if a number is given."""

    def __init__(self, *, rows: int, batches: int, poisoned: int | None) -> None:
        super().__init__(batches=batches)
        self.rows_per_batch = rows
        self.poisoned = poisoned

    def __iter__(self) -> Iterator[ToyBatch]:
        for batch in super().__iter__():
            number = 100 * self.epoch + self.taken
            fixed = toy_batch(self.rows_per_batch, seed=number)
            if self.poisoned == number:
                fixed = replace(fixed, x=torch.full_like(batch.x, torch.nan)[:1].expand(2, -1))
            yield fixed


class FixedData(ToyData):
    eval_splits = ()

    def __init__(self, *, rows: int, batches: int, poisoned: int | None) -> None:
        super().__init__(batches=batches)
        self.rows = rows
        self.poisoned = poisoned

    def train_stream(self) -> ToyStream:
        return Fixed(rows=self.rows, batches=self.batches, poisoned=self.poisoned)


class Silent:
    """A tracker that keeps the rate of each step."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def start(self, run: RunInfo) -> None: ...

    def metrics(self, values: Mapping[str, float], *, step: int, epoch: int) -> None:
        self.rates.append(values["train/lr"])

    def artifacts(self, artifacts: Sequence[Artifact], *, step: int) -> None: ...

    def finish(self, status: str) -> None: ...


def loop(
    tmp_path: Path,
    *,
    rows: int = 2,
    batches: int = 24,
    poisoned: int | None = None,
    scheduler: WSD | None = None,
    said: list[str] | None = None,
    task: ToyTask | None = None,
    settings: Mapping[str, Any] | None = None,
    **trainer: Any,
) -> Loop:
    def sgd(module: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(module.parameters(), lr=1.0)

    experiment = Experiment(
        name="toy",
        task=task or Counting(),
        data=FixedData(rows=rows, batches=batches, poisoned=poisoned),  # type: ignore[arg-type]
        optimizer=sgd,
        scheduler=scheduler or WSD(warmup_steps=2, shape="linear", decay_share=0.5),
        trainer=Trainer(log_every=1, **trainer),
    )
    return Loop(
        experiment=experiment,
        run=RunDir(tmp_path, rank=0),
        ranks=ALONE,
        tracker=Silent(),
        stop=StopRequest(),
        say=(said if said is not None else []).append,
        environment={},
        settings=settings,
    )


def rates(trained: Loop) -> list[float]:
    tracker = trained.tracker
    assert isinstance(tracker, Silent)
    return tracker.rates


def told(trained: Loop) -> list[bool]:
    assert isinstance(trained.task, Counting)
    return trained.task.told


class Greedy(Counting):
    """Asks for more memory than there is, in a step or after it."""

    def __init__(self, *, after: bool) -> None:
        super().__init__()
        self.after = after

    def step(self, batch: ToyBatch) -> dict[str, LossSum]:
        if len(self.told) == 2 and not self.after:
            torch.empty(2**60)
        return super().step(batch)

    def after_step(self, *, finite: bool) -> None:
        super().after_step(finite=finite)
        if len(self.told) == 3:
            torch.empty(2**60)


@pytest.mark.parametrize("after", [False, True])
def test_a_step_without_memory_ends_with_what_to_set(after: bool, tmp_path: Path) -> None:
    trained = loop(tmp_path, max_steps=9, task=Greedy(after=after), settings={"data.batch_size": 2})
    with pytest.raises(TrainingError, match="step 3: out of memory") as raised:
        trained.train()
    assert "data.batch_size=1 trainer.accumulation=2 (now 2 and 1)" in str(raised.value)
    assert f"--resume {tmp_path}" in str(raised.value)


def test_the_task_is_told_once_after_each_step_and_whether_it_was_taken(tmp_path: Path) -> None:
    trained = loop(tmp_path, poisoned=5, max_steps=4, accumulation=2)
    trained.train()
    assert told(trained) == [True, True, False, True]


def test_eight_by_eight_has_the_schedule_of_sixteen_by_four(tmp_path: Path) -> None:
    found = []
    for rows, batches, accumulation in ((4, 24, 2), (2, 48, 4), (8, 12, 1)):
        trained = loop(
            tmp_path, rows=rows, batches=batches, max_epochs=1, accumulation=accumulation
        )
        trained.train()
        assert trained.state_dict()["schedule"]["rows_per_step"] == 8
        found.append(rates(trained))
    assert found[0] == found[1] == found[2]
    assert found[0][:3] == [0.5, 1.0, 1.0]
    assert len(found[0]) == 12


def resumed(first: Loop, second: Loop) -> Loop:
    second.load_state_dict(first.state_dict())
    second.train()
    return second


def part(tmp_path: Path, steps: int) -> Loop:
    """Return a run of 12 planned steps that was stopped after some."""
    stopped = loop(tmp_path, max_epochs=1, accumulation=2)
    for batches in stopped._steps():
        stopped._after_step(stopped._step(batches))
        if stopped.progress.step == steps:
            break
    return stopped


def test_a_grown_manifest_does_not_move_the_decay(tmp_path: Path) -> None:
    whole = loop(tmp_path, max_epochs=1, accumulation=2)
    whole.train()
    said: list[str] = []
    grown = loop(tmp_path, batches=60, max_epochs=1, accumulation=2, said=said)
    assert grown.total_steps == 30
    first = part(tmp_path, 5)
    resumed(first, grown)
    assert grown.total_steps == 12
    assert grown.progress.step == 12, "it ends with the schedule, before the epoch does"
    assert rates(first) + rates(grown) == rates(whole)
    assert [line.split(";")[0] for line in said] == [
        "schedule: kept from the start of the run: decay from step 7",
        "schedule: kept from the start of the run: end at step 12",
    ]


def test_other_rows_a_step_are_refused_or_rebased(tmp_path: Path) -> None:
    first = part(tmp_path, 4)
    with pytest.raises(ConfigError, match="steps of 4 rows, and a step now has 6"):
        resumed(first, loop(tmp_path, rows=6, max_epochs=1))
    scheduler = WSD(warmup_steps=2, shape="linear", decay_share=0.5, on_resume="rebase")
    rebased = resumed(first, loop(tmp_path, rows=8, scheduler=scheduler, max_epochs=1))
    assert rebased.total_steps == 4 + (12 - 4) // 2
    assert rates(rebased) == [1.0, 1.0, 0.5, 0.0]


def test_decaying_now_ends_before_the_budget(tmp_path: Path) -> None:
    scheduler = WSD(warmup_steps=2, shape="linear", decay_share=0.5, decay_now=4)
    first = part(tmp_path, 5)
    branch = resumed(first, loop(tmp_path, scheduler=scheduler, max_epochs=1, accumulation=2))
    assert branch.progress.step == 9
    assert rates(branch) == [0.75, 0.5, 0.25, 0.0]
