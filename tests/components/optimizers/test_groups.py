from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from components.optimizers.groups import parameter_groups
from core.errors import ConfigError


class Model(nn.Module):
    """One of everything that the rules tell apart, with the embedding tied to the head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.norm = nn.LayerNorm([3, 4])
        self.conv = nn.Conv1d(4, 4, 3)
        self.batch_norm = nn.BatchNorm1d(4)
        self.attention = nn.Linear(4, 4)
        self.pos_bias_u = nn.Parameter(torch.zeros(2, 2))
        self.table = nn.Parameter(torch.zeros(3, 3))
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.head = nn.Linear(4, 5)
        self.head.weight = self.embed.weight


def names(groups: list[dict[str, Any]]) -> dict[str, list[str]]:
    return {group["name"]: [name for name, _ in group["params"]] for group in groups}


def test_rules() -> None:
    assert names(parameter_groups(Model(), lr=1.0, weight_decay=0.1)) == {
        "decay": ["table", "conv.weight", "attention.weight"],
        "no_decay": [
            "pos_bias_u",
            "scale",
            "embed.weight",
            "norm.weight",
            "norm.bias",
            "conv.bias",
            "batch_norm.weight",
            "batch_norm.bias",
            "attention.bias",
            "head.bias",
        ],
    }


def test_each_trainable_parameter_is_in_exactly_one_group() -> None:
    model = Model()
    model.conv.weight.requires_grad_(False)
    groups = parameter_groups(model, lr=1.0, weight_decay=0.1, lr_scale={"attention.*": 0.5})
    held = [id(value) for group in groups for _, value in group["params"]]
    trainable = [id(value) for value in model.parameters() if value.requires_grad]
    assert sorted(held) == sorted(trainable)


def test_patterns_set_decay_and_rate() -> None:
    groups = parameter_groups(
        Model(), lr=2.0, weight_decay=0.1, no_decay=("tab*",), lr_scale={"attention.*": 0.5}
    )
    by_name = {group["name"]: group for group in groups}
    assert list(by_name) == ["no_decay", "decay", "decay@attention.*", "no_decay@attention.*"]
    assert by_name["decay@attention.*"]["lr"] == 1.0
    assert by_name["decay"]["lr"] == 2.0
    assert by_name["decay"]["weight_decay"] == by_name["decay@attention.*"]["weight_decay"] == 0.1
    assert by_name["no_decay"]["weight_decay"] == 0.0
    assert names(groups)["decay"] == ["conv.weight"]


def test_all_may_decay_but_what_is_named() -> None:
    model = Model()
    everything = [name for name, _ in model.named_parameters()]
    groups = names(parameter_groups(model, lr=1.0, weight_decay=0.1, decay="all"))
    assert list(groups) == ["decay"]
    assert sorted(groups["decay"]) == sorted(everything)
    groups = names(
        parameter_groups(
            model, lr=1.0, weight_decay=0.1, decay="all", no_decay=("*norm*", "head.weight")
        )
    )
    kept = {"norm.weight", "norm.bias", "batch_norm.weight", "batch_norm.bias", "embed.weight"}
    assert set(groups["no_decay"]) == kept
    assert set(groups["decay"]) == set(everything) - kept


def test_a_tied_parameter_answers_to_all_its_names() -> None:
    groups = parameter_groups(Model(), lr=1.0, weight_decay=0.1, lr_scale={"head.weight": 0.1})
    assert names(groups)["no_decay@head.weight"] == ["embed.weight"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"no_decay": ("tabel",)}, "no_decay: the pattern 'tabel' matches no .* mean 'table'"),
        ({"lr_scale": {"encoder.*": 1.0}}, r"lr_scale: the pattern 'encoder\.\*' matches no"),
        ({"lr_scale": {"conv.*": 0.0}}, r"lr_scale\['conv\.\*'\] must be positive, but is 0.0"),
        (
            {"lr_scale": {"conv.*": 1.0, "*.weight": 2.0}},
            r"'conv.weight' is matched by 'conv\.\*' and '\*\.weight'",
        ),
    ],
)
def test_a_wrong_pattern_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parameter_groups(Model(), lr=1.0, weight_decay=0.1, **options)


def test_a_pattern_for_frozen_parameters_is_refused() -> None:
    model = Model()
    model.conv.requires_grad_(False)
    with pytest.raises(ConfigError, match=r"matches only frozen parameters, such as 'conv.weight'"):
        parameter_groups(model, lr=1.0, weight_decay=0.1, lr_scale={"conv.*": 0.5})


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(ConfigError, match="Linear has no trainable parameters"):
        parameter_groups(nn.Linear(1, 1).requires_grad_(False), lr=1.0, weight_decay=0.1)
