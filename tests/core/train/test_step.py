"""Gradients weigh targets: accumulation and raggedness do not change a step."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from core.contracts import Skipped
from core.dist.ranks import Ranks
from core.errors import ConfigError
from core.train.step import Stepper, StepReport
from core.train.trainer import Trainer
from tests.core.train.toy import ToyBatch, ToyTask, toy_batch

ALONE = Ranks(rank=0, world_size=1, local_rank=0, device=torch.device("cpu"))


def stepper(task: ToyTask, **settings: object) -> Stepper:
    optimizer = torch.optim.SGD(task.parameters(), lr=0.1)
    return Stepper(
        task=task, optimizer=optimizer, trainer=Trainer(max_steps=1, **settings), ranks=ALONE
    )


def merged(*batches: ToyBatch) -> ToyBatch:
    return ToyBatch(
        ids=tuple(i for batch in batches for i in batch.ids),
        x=torch.cat([batch.x for batch in batches]),
        weights=torch.cat([batch.weights for batch in batches]),
    )


def fresh() -> ToyTask:
    torch.manual_seed(0)
    return ToyTask()


def test_ragged_micro_batches_step_like_one_batch() -> None:
    parts = [toy_batch(2, 1), toy_batch(7, 2), toy_batch(1, 3)]
    whole, split = fresh(), fresh()
    one = stepper(whole, clip_norm=None)([merged(*parts)], stop=False)
    three = stepper(split, clip_norm=None)(parts, stop=False)
    assert one.objective == pytest.approx(three.objective, rel=1e-6)
    assert one.grad_norm == pytest.approx(three.grad_norm, rel=1e-5)
    for left, right in zip(whole.parameters(), split.parameters(), strict=True):
        torch.testing.assert_close(left, right)


def test_objective_is_the_weighted_sum_of_means() -> None:
    task, batch = fresh(), toy_batch(5, 4)
    errors = task._errors(batch).detach().double()
    weights = batch.weights.double()
    expected = errors.mean() + 0.5 * (errors * weights).sum() / weights.sum()
    report = stepper(task)([batch], stop=False)
    assert report.objective == pytest.approx(float(expected), rel=1e-6)
    assert report.sums["square"] == pytest.approx((float(errors.sum()), 5.0), rel=1e-6)
    assert report.sums["near"][1] == 5.0


def test_an_empty_batch_changes_nothing() -> None:
    empty = ToyBatch(
        ids=(), x=torch.zeros(0, 4), weights=torch.zeros(0), skipped=(Skipped(id="a", reason="x"),)
    )
    with_empty, without = fresh(), fresh()
    stepper(with_empty)([toy_batch(4, 5), empty], stop=False)
    stepper(without)([toy_batch(4, 5)], stop=False)
    for left, right in zip(with_empty.parameters(), without.parameters(), strict=True):
        assert torch.equal(left, right)
    before = [p.clone() for p in with_empty.parameters()]
    report = stepper(with_empty)([empty], stop=False)
    assert report.finite
    assert report.objective == 0.0
    for left, right in zip(with_empty.parameters(), before, strict=True):
        assert torch.equal(left, right)


def test_a_non_finite_step_moves_no_parameter_and_no_buffer() -> None:
    task = fresh()
    task.layers.insert(1, torch.nn.BatchNorm1d(8))
    poisoned = toy_batch(4, 6)
    poisoned = replace(poisoned, x=poisoned.x.clone().index_fill_(0, torch.tensor([2]), torch.nan))
    before = {name: value.clone() for name, value in task.state_dict().items()}
    report = stepper(task)([poisoned], stop=False)
    assert not report.finite
    for name, value in task.state_dict().items():
        if value.is_floating_point():
            assert torch.equal(value, before[name]), name


def test_clipping_limits_the_step_and_reports_the_norm_before_it() -> None:
    free, clipped = fresh(), fresh()
    start = torch.cat([p.detach().flatten().clone() for p in free.parameters()])
    batch = toy_batch(6, 7)
    norm = stepper(free, clip_norm=None)([batch], stop=False).grad_norm
    report = stepper(clipped, clip_norm=norm / 4)([batch], stop=False)
    assert report.grad_norm == pytest.approx(norm, rel=1e-6)

    def moved(task: ToyTask) -> float:
        now = torch.cat([p.detach().flatten() for p in task.parameters()])
        return float((now - start).norm())

    assert moved(clipped) == pytest.approx(moved(free) / 4, rel=1e-3)


def test_the_stop_flag_of_a_rank_is_reported() -> None:
    step = stepper(fresh())
    assert not step([toy_batch(2, 1)], stop=False).stop
    assert step([toy_batch(2, 1)], stop=True).stop


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_reduced_precision_trains(precision: str) -> None:
    task = fresh()
    step = stepper(task, precision=precision)
    batch = toy_batch(16, 8)
    reports: list[StepReport] = [step([batch], stop=False) for _ in range(60)]
    taken = [report for report in reports if report.finite]
    assert taken[-1].objective < taken[0].objective / 2
    assert all(p.dtype == torch.float32 for p in task.parameters())


def test_sync_batchnorm_without_batch_statistics_is_refused() -> None:
    with pytest.raises(ConfigError, match="sync_batchnorm is on, but no module"):
        stepper(fresh(), sync_batchnorm=True)
