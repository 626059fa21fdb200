from __future__ import annotations

import pytest
import torch
from torch import nn

from core.checkpoint.match import Reshaped, load_partial, load_strict, match_state
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


def test_a_long_list_is_cut() -> None:
    report = match_state(Model(layers=40).state_dict(), Model(layers=1).state_dict())

    lines = report.lines(limit=3)

    assert len(lines) == 5
    assert lines[-1] == "and 36 more modules"


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


def test_partial_loading_takes_what_fits_and_leaves_the_rest() -> None:
    source, target = Model(vocab=5), Model(vocab=7)
    head = target.head.weight.clone()

    report = load_partial(target, source.state_dict(), source="run")

    assert report.matched == tuple(n for n in source.state_dict() if n.startswith("encoder"))
    assert torch.equal(target.encoder[0].weight, source.encoder[0].weight)
    assert torch.equal(target.head.weight, head)


def test_partial_loading_of_a_prefix() -> None:
    source, target = Model(), Model()
    encoder = target.encoder[0].weight.clone()

    report = load_partial(target, source.state_dict(), source="run", prefix="head.")

    assert report.matched == ("head.weight", "head.bias")
    assert torch.equal(target.encoder[0].weight, encoder)


def test_partial_loading_of_nothing_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"the file has encoder\.\*, head\.\*"):
        load_partial(nn.Linear(2, 2), Model().state_dict(), source="run")
    with pytest.raises(CheckpointError, match=r"under 'decoder\.'"):
        load_partial(Model(), Model().state_dict(), source="run", prefix="decoder.")
