from __future__ import annotations

import torch
from torch import nn

from components.optimizers.sgd import SGD


def test_one_step_of_each_group() -> None:
    module = nn.Linear(1, 1)
    nn.init.constant_(module.weight, 2.0)
    nn.init.constant_(module.bias, 2.0)
    optimizer = SGD(lr=0.1, momentum=0.0, weight_decay=1.0)(module)
    module(torch.tensor([[3.0]])).sum().backward()
    optimizer.step()
    torch.testing.assert_close(module.weight.item(), 2.0 - 0.1 * (3.0 + 2.0))
    torch.testing.assert_close(module.bias.item(), 2.0 - 0.1 * 1.0)


def test_velocity_builds_up() -> None:
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    optimizer = SGD(lr=1.0, momentum=0.5, nesterov=True)(module)
    for _ in range(2):
        optimizer.zero_grad()
        module(torch.tensor([[1.0]])).sum().backward()
        optimizer.step()
    # Nesterov: steps of g + m v with v = 1 and then 1.5.
    torch.testing.assert_close(module.weight.item(), -(1.0 + 0.5) - (1.0 + 0.75))
