from __future__ import annotations

import torch
from torch import nn

from core.train.ema import ExponentialMovingAverage


def test_average_follows_the_recursion_and_steps_aside() -> None:
    module = nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1))
    ema = ExponentialMovingAverage(module, decay=0.5)
    expected = module[0].weight.detach().clone()
    for update in range(1, 6):
        with torch.no_grad():
            module[0].weight.add_(1.0)
        decay = min(0.5, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * module[0].weight.detach()
        ema.update()
    trained = module[0].weight.detach().clone()
    with ema.applied():
        torch.testing.assert_close(module[0].weight, expected)
    assert torch.equal(module[0].weight, trained)


def test_buffers_are_copied_not_averaged() -> None:
    module = nn.BatchNorm1d(3)
    ema = ExponentialMovingAverage(module, decay=0.9)
    module(torch.randn(5, 3))
    ema.update()
    assert torch.equal(ema.shadow["running_mean"], module.running_mean)
    assert int(ema.shadow["num_batches_tracked"]) == 1
