from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch

from core.contracts import MetricSum, Skipped
from core.dist.ranks import Ranks
from core.errors import TrainingError
from core.train.validation import evaluate_split
from tests.core.train.toy import EventfulBatch, ToyTask, toy_batch

ALONE = Ranks(rank=0, world_size=1, local_rank=0, device=torch.device("cpu"))


def test_averages_weigh_utterances_and_leave_the_task_in_training() -> None:
    task = ToyTask(dropout=0.5).train()
    batches = [toy_batch(2, 1), toy_batch(6, 2)]
    found = evaluate_split(
        task, batches, split="val", ranks=ALONE, autocast=nullcontext, seed=0, say=print
    )
    assert task.training
    task.eval()
    errors = torch.cat([task._errors(batch) for batch in batches])
    assert found.values == {"val/loss": pytest.approx(float(errors.detach().mean()), rel=1e-6)}


def test_a_split_without_utterances_is_an_error() -> None:
    with pytest.raises(TrainingError, match="'dev' has no usable utterance"):
        evaluate_split(
            ToyTask(), [], split="dev", ranks=ALONE, autocast=nullcontext, seed=0, say=print
        )


def test_what_could_not_be_used_is_named_and_counted() -> None:
    said: list[str] = []
    batch = replace(toy_batch(2, 1), skipped=(Skipped(id="bad", reason="empty file"),))
    found = evaluate_split(
        ToyTask(), [batch], split="val", ranks=ALONE, autocast=nullcontext, seed=0, say=said.append
    )
    assert found.values["val/skipped"] == 1.0
    assert said == ["val: skipped bad: empty file"]


def test_what_batches_report_is_counted_by_name() -> None:
    said: list[str] = []
    batches = [
        EventfulBatch(**vars(toy_batch(2, seed)), events={"noise retries": seed}) for seed in (1, 2)
    ]
    found = evaluate_split(
        ToyTask(), batches, split="val", ranks=ALONE, autocast=nullcontext, seed=0, say=said.append
    )
    assert found.values["val/noise_retries"] == 3.0
    assert said == ["val: noise retries: 3"]


def test_what_nothing_counted_for_is_unknown_and_said() -> None:
    class Unheard(ToyTask):
        def evaluate(self, batch: Any) -> dict[str, MetricSum]:
            return {**super().evaluate(batch), "accuracy": MetricSum(total=0.0, count=0.0)}

    said: list[str] = []
    found = evaluate_split(
        Unheard(),
        [toy_batch(2, 1)],
        split="val",
        ranks=ALONE,
        autocast=nullcontext,
        seed=0,
        say=said.append,
    )
    assert math.isnan(found.values["val/accuracy"])
    assert math.isfinite(found.values["val/loss"])
    assert found.uncounted == {"val/accuracy"}
    assert said == ["val: nothing was counted for accuracy"]
