from __future__ import annotations

import pytest
import torch
from torch import nn

from components.speech_llm.state import keep_trained_only


class Partly(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.BatchNorm1d(2).requires_grad_(False)
        self.trained = nn.Linear(2, 2)
        keep_trained_only(self)


class Holder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.part = Partly()
        self.frozen = nn.Linear(2, 1).requires_grad_(False)


def test_only_the_marked_modules_frozen_weights_are_left_out() -> None:
    assert set(Holder().state_dict()) == {
        "part.trained.weight",
        "part.trained.bias",
        "frozen.weight",
        "frozen.bias",
    }
    assert set(Partly().state_dict()) == {"trained.weight", "trained.bias"}


def test_a_state_comes_back_whole_and_frozen_weights_stay() -> None:
    torch.manual_seed(0)
    source, target = Holder(), Holder()
    source.part.frozen.running_mean.fill_(3.0)  # type: ignore[union-attr]
    target.load_state_dict(source.state_dict())
    assert torch.equal(target.part.trained.weight, source.part.trained.weight)
    assert float(target.part.frozen.running_mean.sum()) == 0.0  # type: ignore[union-attr]


def test_trained_weights_are_missed() -> None:
    state = Holder().state_dict()
    del state["part.trained.bias"]
    with pytest.raises(RuntimeError, match=r"Missing key.*part\.trained\.bias"):
        Holder().load_state_dict(state)


def test_frozen_weights_outside_are_missed() -> None:
    state = Holder().state_dict()
    del state["frozen.bias"]
    with pytest.raises(RuntimeError, match=r'Missing key.*"frozen\.bias"'):
        Holder().load_state_dict(state)
