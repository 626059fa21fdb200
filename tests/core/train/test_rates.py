from __future__ import annotations

import torch
from torch import nn

from core.train.rates import plain_group


def test_the_rate_shown_is_that_of_what_is_not_scaled() -> None:
    slow, plain, fast = (nn.Parameter(torch.zeros(1)) for _ in range(3))
    groups = [{"params": [slow], "lr": 0.03}, {"params": [plain]}, {"params": [fast], "lr": 1.0}]
    assert plain_group(torch.optim.AdamW(groups, lr=0.1)) == 1


def test_the_first_group_stands_for_all_where_each_is_scaled() -> None:
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": 0.03}]
    assert plain_group(torch.optim.SGD(groups, lr=0.1)) == 0
