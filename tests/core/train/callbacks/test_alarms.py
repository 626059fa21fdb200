from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from components.schedulers.constant import Constant
from core.contracts import MetricSum, RunInfo
from core.dist.ranks import Ranks
from core.errors import ConfigError, ConfigErrors
from core.experiment import Experiment
from core.rundir import RunDir
from core.track.jsonl import JsonlTracker
from core.train.callbacks.alarms import START, Alarms, Limit
from core.train.loop import Loop
from core.train.signals import StopRequest
from core.train.trainer import Trainer
from tests.core.train.toy import ToyBatch, ToyData, ToyTask

ALONE = Ranks(rank=0, world_size=1, local_rank=0, device=torch.device("cpu"))


def loop(
    tmp_path: Path,
    *limits: Limit,
    steps: int = 6,
    said: list[str] | None = None,
    lr: float = 0.01,
    task: ToyTask | None = None,
) -> Loop:
    def sgd(module: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(module.parameters(), lr=lr)

    torch.manual_seed(0)
    tracker = JsonlTracker()
    experiment = Experiment(
        name="toy",
        task=task or ToyTask(),
        data=ToyData(batches=24),  # type: ignore[arg-type]
        optimizer=sgd,
        scheduler=Constant(warmup_steps=4),
        trainer=Trainer(max_steps=steps, log_every=1, validate_every=3),
        callbacks=(Alarms(limits=limits),),
    )
    made = Loop(
        experiment=experiment,
        run=RunDir(tmp_path, rank=0),
        ranks=ALONE,
        tracker=tracker,
        stop=StopRequest(),
        say=(said if said is not None else []).append,
        environment={},
    )
    tracker.start(RunInfo(directory=tmp_path, name="toy", hparams={}))
    return made


def curve(tmp_path: Path, name: str) -> list[float]:
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    return [row[name] for row in rows if name in row]


def test_an_alarm_is_told_once_when_it_comes_and_once_when_it_goes(tmp_path: Path) -> None:
    said: list[str] = []
    # The rate of the warm-up is 1/4, 2/4, 3/4, 4/4, 4/4 of the base rate.
    slow = Limit(name="slow", metric="train/lr", below=0.007, hint="Wait")
    loop(tmp_path, slow, steps=5, said=said).train()
    assert said == [
        "ALARM slow at step 1: train/lr is 0.0025, expected at least 0.007. Wait",
        "alarm slow is over at step 3",
    ]
    assert curve(tmp_path, "alarm/slow") == [1.0, 1.0, 0.0, 0.0, 0.0]


def test_relative_to_the_start_and_to_another_metric_with_patience(tmp_path: Path) -> None:
    said: list[str] = []
    grown = Limit(name="grown", metric="train/lr", above=2.5, relative_to=START)
    patient = Limit(name="patient", metric="train/lr", above=2.5, relative_to=START, patience=3)
    tied = Limit(name="tied", metric="train/lr", below=1.0, relative_to="train/lr")
    loop(tmp_path, grown, patient, tied, steps=6, said=said).train()
    assert curve(tmp_path, "alarm/grown") == [0.0, 0.0, 1.0, 1.0, 1.0, 1.0]
    assert curve(tmp_path, "alarm/patient") == [0.0, 0.0, 0.0, 0.0, 1.0, 1.0]
    assert not any(curve(tmp_path, "alarm/tied"))
    assert said[0] == (
        "ALARM grown at step 3: train/lr is 0.0075, 3 times its value at the start, expected at "
        "most 2.5"
    )


def test_validation_metrics_are_watched_too(tmp_path: Path) -> None:
    loop(tmp_path, Limit(name="val", metric="val/loss", above=1e-9)).train()
    assert curve(tmp_path, "alarm/val") == [1.0, 1.0]


class Late(ToyTask):
    """Is what it is trained to be after four steps alone."""

    def ready_from(self) -> int:
        return 4


def test_validation_is_not_judged_before_the_task_is_ready(tmp_path: Path) -> None:
    said: list[str] = []
    limits = [Limit(name=f"{m}", metric=f"{m}/loss", above=1e-9) for m in ("train", "val")]
    loop(tmp_path, *limits, said=said, task=Late()).train()
    assert curve(tmp_path, "alarm/train") == [1.0] * 6
    assert curve(tmp_path, "alarm/val") == [1.0], "step 6, not step 3"
    assert [line.partition(":")[0] for line in said] == [
        "ALARM train at step 1",
        "ALARM val at step 6",
    ]


class Odd(ToyTask):
    """Counts nothing for one metric, and something that is no number for another."""

    def evaluate(self, batch: ToyBatch) -> dict[str, MetricSum]:
        nothing, bad = MetricSum(total=0.0, count=0.0), MetricSum(total=float("nan"), count=1.0)
        return super().evaluate(batch) | {"nothing": nothing, "bad": bad}


def test_what_nothing_was_counted_for_raises_no_alarm_and_what_is_no_number_does(
    tmp_path: Path,
) -> None:
    said: list[str] = []
    limits = [Limit(name=m, metric=f"val/{m}", below=1.0) for m in ("nothing", "bad")]
    loop(tmp_path, *limits, said=said, task=Odd()).train()
    assert curve(tmp_path, "alarm/nothing") == []
    assert curve(tmp_path, "alarm/bad") == [1.0, 1.0]
    assert "val: nothing was counted for nothing" in said
    assert [line for line in said if line.startswith("ALARM")] == [
        "ALARM bad at step 3: val/bad is nan, expected at least 1"
    ]


def test_a_restart_knows_the_start_and_says_nothing_twice(tmp_path: Path) -> None:
    limit = Limit(name="grown", metric="train/lr", above=2.5, relative_to=START)
    first = loop(tmp_path, limit, steps=4)
    first.train()
    said: list[str] = []
    second = loop(tmp_path, limit, steps=6, said=said)
    state = first.state_dict()
    assert json.loads(json.dumps(state["callbacks"]))["Alarms"]["starts"] == {"grown": 0.0025}
    second.load_state_dict(state)
    second.train()
    assert said == []
    assert curve(tmp_path, "alarm/grown") == [1.0, 1.0], "steps 5 and 6"


def test_a_metric_that_was_not_logged_now_is_not_judged_by_its_old_value() -> None:
    alarms = Alarms(limits=[Limit(name="a", metric="train/x", above=1.0)])
    recorded: list[dict[str, float]] = []
    stage: Any = SimpleNamespace(
        progress=SimpleNamespace(step=1),
        trainer=SimpleNamespace(log_every=1),
        done=False,
        metrics={"train/x": 5.0},
        logged={"train/y": 1.0},
        record=recorded.append,
        say=print,
    )
    alarms.on_step_end(stage)
    assert recorded == []
    stage.logged = {"train/x": float("nan")}
    alarms.on_step_end(stage)
    assert recorded == [{"alarm/a": 1.0}], "NaN is not fine"


def test_metrics_that_are_never_logged_are_refused(tmp_path: Path) -> None:
    wrong = Limit(name="a", metric="train/nera", above=1.0)
    twice = Limit(name="b", metric="train/lr", above=1.0)
    with pytest.raises(ConfigErrors) as caught:
        loop(tmp_path, wrong, twice, twice).train()
    assert "two limits are named 'b'" in str(caught.value)
    assert "'train/nera' is not logged; did you mean 'train/near'" in str(caught.value)
    with pytest.raises(ConfigError, match="does not give 'val/los'; did you mean 'val/loss'"):
        loop(tmp_path, Limit(name="a", metric="val/los", above=1.0)).train()


def test_a_limit_has_one_side() -> None:
    with pytest.raises(ConfigError, match="exactly one of above and below"):
        Limit(name="a", metric="train/lr")
    with pytest.raises(ConfigError, match="exactly one of above and below"):
        Limit(name="a", metric="train/lr", above=1.0, below=0.0)
    with pytest.raises(ConfigError, match="patience must be at least 1"):
        Limit(name="a", metric="train/lr", above=1.0, patience=0)
