from __future__ import annotations

import copy

import torch
from torch import nn

from components.optimizers.adamw import AdamW


def test_takes_the_steps_of_torch_with_the_same_groups() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 1))
    twin = copy.deepcopy(module)
    factory = AdamW(lr=0.1, weight_decay=0.5, lr_scale={"2.*": 0.25})
    optimizer = factory(module)
    expected = torch.optim.AdamW(
        [
            {"params": [twin[0].weight], "weight_decay": 0.5},
            {"params": [twin[0].bias, *twin[1].parameters()], "weight_decay": 0.0},
            {"params": [twin[2].weight], "weight_decay": 0.5, "lr": 0.025},
            {"params": [twin[2].bias], "weight_decay": 0.0, "lr": 0.025},
        ],
        lr=0.1,
        betas=(0.9, 0.98),
    )
    inputs = torch.randn(8, 3)
    for _ in range(3):
        for model, steps in ((module, optimizer), (twin, expected)):
            steps.zero_grad()
            model(inputs).square().mean().backward()
            steps.step()
    for actual, wanted in zip(module.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(actual, wanted)


def test_decay_of_all_takes_the_steps_of_one_plain_group() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 1))
    module[2].weight.requires_grad_(False)
    twin = copy.deepcopy(module)
    optimizer = AdamW(lr=0.1, weight_decay=0.5, decay="all")(module)
    expected = torch.optim.AdamW(twin.parameters(), lr=0.1, betas=(0.9, 0.98), weight_decay=0.5)
    assert len(optimizer.param_groups) == 1
    inputs = torch.randn(8, 3)
    for _ in range(3):
        for model, steps in ((module, optimizer), (twin, expected)):
            steps.zero_grad()
            model(inputs).square().mean().backward()
            steps.step()
    for actual, wanted in zip(module.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(actual, wanted)


def test_groups_name_their_parameters_and_survive_the_state_dict() -> None:
    module = nn.Linear(2, 2)
    optimizer = AdamW(lr=0.1)(module)
    module(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    fresh = AdamW(lr=0.2)(copy.deepcopy(module))
    fresh.load_state_dict(optimizer.state_dict())
    assert [group["name"] for group in fresh.param_groups] == ["decay", "no_decay"]
    assert [group["param_names"] for group in fresh.param_groups] == [["weight"], ["bias"]]
    assert [group["lr"] for group in fresh.param_groups] == [0.1, 0.1]


def test_is_not_fused_on_cpu_unless_asked() -> None:
    assert AdamW(lr=0.1)(nn.Linear(1, 1)).param_groups[0]["fused"] is False
    assert AdamW(lr=0.1, fused=True)(nn.Linear(1, 1)).param_groups[0]["fused"] is True
