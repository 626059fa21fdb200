from __future__ import annotations

from dataclasses import replace

import torch

from core.train.nonfinite import locate
from core.train.rng import seed_everything
from tests.core.train.toy import ToyTask, toy_batch


def test_names_the_first_module_and_the_utterance() -> None:
    task = ToyTask(dropout=0.5)
    good, bad = toy_batch(3, 1), toy_batch(4, 2)
    bad = replace(bad, x=bad.x.clone().index_fill_(0, torch.tensor([2]), torch.inf))
    indirect, found = locate(task, [good, bad])
    assert indirect == 0
    assert "layers.0 (Linear)" in found
    assert "u2-2" in found
    assert "u2-1" not in found


def test_names_parameters_when_the_gradient_alone_is_broken() -> None:
    task, batch = ToyTask(), toy_batch(3, 1)
    task.layers[0].weight.grad = torch.full_like(task.layers[0].weight, torch.nan)
    indirect, found = locate(task, [batch])
    assert indirect == 2
    assert "gradient is not" in found
    assert "layers.0.weight" in found


def test_names_parameters_that_are_broken_themselves() -> None:
    task = ToyTask()
    with torch.no_grad():
        task.layers[0].bias[0] = torch.nan
    assert "layers.0 (Linear)" in locate(task, [toy_batch(2, 1)])[1]


def test_looking_changes_nothing() -> None:
    task = ToyTask(dropout=0.5)
    task.layers.insert(1, torch.nn.BatchNorm1d(8))
    before = {name: value.clone() for name, value in task.state_dict().items()}
    seed_everything(1)
    expected = torch.rand(3)
    seed_everything(1)
    locate(task, [toy_batch(4, 3)])
    assert torch.equal(torch.rand(3), expected)
    for name, value in task.state_dict().items():
        assert torch.equal(value, before[name]), name
