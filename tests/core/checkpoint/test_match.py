from __future__ import annotations

import pytest
import torch
from torch import nn

from core.checkpoint.match import Reshaped, load_strict, match_state
from core.errors import CheckpointError


class Model(nn.Module):
    def __init__(self, vocab: int = 5, layers: int = 2) -> None:
        super().__init__()
        self.encoder = nn.Sequential(*(nn.Linear(4, 4) for _ in range(layers)))
        self.head = nn.Linear(4, vocab)


def test_equal_architectures_match_exactly() -> None:
    report = match_state(Model().state_dict(), Model().state_dict())

    assert report.exact
    assert report.lines() == ["6 tensors matched"]


def test_every_kind_of_difference_is_listed_by_module() -> None:
    report = match_state(Model(vocab=7, layers=3).state_dict(), Model().state_dict())

    assert report.missing == ("encoder.2.weight", "encoder.2.bias")
    assert report.unexpected == ()
    assert report.reshaped == (
        Reshaped("head.weight", (5, 4), (7, 4)),
        Reshaped("head.bias", (5,), (7,)),
    )
    assert report.lines() == [
        "4 tensors matched",
        "other shape   head: weight [5, 4] in file, [7, 4] in model, "
        "bias [5] in file, [7] in model",
        "not in file   encoder.2: weight, bias",
    ]


def test_layers_that_are_alike_share_a_line() -> None:
    report = match_state(Model(layers=40).state_dict(), Model(layers=1).state_dict())

    assert report.lines() == ["4 tensors matched", "not in file   encoder.1-39: weight, bias"]


def test_gaps_between_layers_are_shown() -> None:
    file = {f"layers.{index}.norm.weight": torch.ones(2) for index in (0, 1, 2, 4)}

    assert match_state({}, file).lines()[1] == "not in model  layers.0-2,4.norm: weight"


def test_a_long_list_is_cut() -> None:
    file = {f"part{index}.weight": torch.ones(2) for index in range(40)}

    lines = match_state({}, file).lines(limit=3)

    assert len(lines) == 5
    assert lines[-1] == "and 37 more modules"


def test_strict_loading_copies_every_value() -> None:
    source, target = Model(), Model()

    load_strict(target, source.state_dict(), "run")

    for name, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], value)


def test_strict_loading_refuses_another_architecture_and_says_what_differs() -> None:
    target = Model(vocab=7)
    before = {name: value.clone() for name, value in target.state_dict().items()}

    with pytest.raises(CheckpointError) as caught:
        load_strict(target, Model().state_dict(), "runs/one/step_1")

    text = str(caught.value)
    assert "runs/one/step_1 holds another architecture than Model" in text
    assert "head: weight [5, 4] in file, [7, 4] in model" in text
    assert "--init-from" in text
    for name, value in before.items():
        assert torch.equal(target.state_dict()[name], value)
