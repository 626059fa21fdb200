from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import nn

from core.checkpoint.start import Origin, start_from
from core.errors import CheckpointError


class Model(nn.Module):
    def __init__(self, vocab: int = 5, layers: int = 2, width: int = 4) -> None:
        super().__init__()
        self.encoder = nn.Sequential(*(nn.Linear(width, width) for _ in range(layers)))
        self.head = nn.Linear(width, vocab)


def copied(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_every_child_that_fits_is_taken_whole() -> None:
    source, target = Model(), Model()

    report = start_from(target, source.state_dict(), source="run")

    for name, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], value)
    assert report.lines() == [
        "6 tensors matched, 65 values",
        "taken     encoder: 4 tensors, 40 values",
        "taken     head: 2 tensors, 25 values",
    ]


def test_what_is_of_one_run_stays_fresh_though_it_fits() -> None:
    class Task(Model):
        fresh_children: ClassVar[dict[str, str]] = {"head": "it is of one run"}

    source, target = Task(), Task()
    before = copied(target)

    report = start_from(target, source.state_dict(), source="run")

    assert report.fresh == {"head": "it is of one run"}
    assert torch.equal(target.head.weight, before["head.weight"])
    assert torch.equal(target.encoder[1].bias, source.encoder[1].bias)


def test_a_head_of_another_vocabulary_stays_fresh() -> None:
    source, target = Model(vocab=5), Model(vocab=7)
    before = copied(target)

    report = start_from(
        target,
        source.state_dict(),
        source="run",
        origin=Origin(heads=frozenset({"head"}), vocabulary=7, same_vocabulary=False),
    )

    assert report.fresh == {"head": "another vocabulary: 5 entries in the file, 7 here"}
    assert report.unused == ("head.weight", "head.bias")
    assert torch.equal(target.head.weight, before["head.weight"])
    assert torch.equal(target.encoder[1].bias, source.encoder[1].bias)


def test_a_vocabulary_of_the_same_size_with_other_entries_stays_fresh() -> None:
    source, target = Model(), Model()
    before = copied(target)
    origin = Origin(heads=frozenset({"head"}), vocabulary=5, same_vocabulary=False)

    report = start_from(target, source.state_dict(), source="run", origin=origin)

    assert report.fresh == {"head": "another vocabulary of the same size"}
    assert torch.equal(target.head.weight, before["head.weight"])


def test_a_replaced_component_stays_fresh_though_names_and_shapes_agree() -> None:
    source, target = Model(), Model()
    before = copied(target)
    origin = Origin(replaced={"head": "the file's is @head/a, this model's @head/b"})

    report = start_from(target, source.state_dict(), source="run", origin=origin)

    assert "fresh     head: the file's is @head/a, this model's @head/b" in report.lines()
    assert torch.equal(target.head.weight, before["head.weight"])


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (Model(layers=3), "not in model  encoder.2: weight, bias"),
        (Model(layers=1), "not in file   encoder.1: weight, bias"),
        (Model(width=6), r"other shape   encoder.0-1: weight \[6, 6\] in file, \[4, 4\] in model"),
        (Model(vocab=7), r"other shape   head: weight \[7, 4\] in file, \[5, 4\] in model"),
    ],
    ids=["deeper", "shallower", "wider", "head"],
)
def test_half_a_module_is_refused_and_nothing_is_loaded(file: Model, message: str) -> None:
    target = Model()
    before = copied(target)
    origin = Origin(differences={"encoder": ["task.encoder.x: 1 -> 2"]})

    with pytest.raises(CheckpointError, match=message) as caught:
        start_from(target, file.state_dict(), source="runs/a", origin=origin)

    assert "runs/a does not fit this model" in str(caught.value)
    if "encoder" in message:
        assert "task.encoder.x: 1 -> 2" in str(caught.value)
    for name, value in before.items():
        assert torch.equal(target.state_dict()[name], value)


def test_a_head_that_differs_in_more_than_its_vocabulary_is_refused() -> None:
    weights = {n: v for n, v in Model(width=6).state_dict().items() if n.startswith("head")}
    origin = Origin(heads=frozenset({"head"}), vocabulary=5)

    with pytest.raises(CheckpointError, match="head: 1 tensors of it fit"):
        start_from(Model(), weights, source="run", origin=origin)


def test_what_neither_side_shares_is_told() -> None:
    target = Model()
    weights = {**target.encoder.state_dict(prefix="encoder."), "quantizer.x": torch.ones(2)}

    lines = start_from(target, weights, source="run").with_notes(["read by hand"]).lines()

    assert "fresh     head: not in the file" in lines
    assert "not used  quantizer: 1 tensor in the file" in lines
    assert lines[-1] == "note      read by hand"


def test_problems_refuse_whatever_fits() -> None:
    origin = Origin(problems=["xscaling: True in the file, False here"])
    with pytest.raises(CheckpointError, match="xscaling: True in the file"):
        start_from(Model(), Model().state_dict(), source="run", origin=origin)


def test_nothing_that_fits_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"the file has encoder\.\*, head\.\*"):
        start_from(nn.Sequential(nn.Linear(2, 2)), Model().state_dict(), source="run")


def test_a_child_without_parameters_never_stands_in_the_way() -> None:
    class Counted(Model):
        def __init__(self, size: int) -> None:
            super().__init__()
            self.use = nn.Module()
            self.use.register_buffer("histogram", torch.zeros(size))

    report = start_from(Counted(3), Counted(4).state_dict(), source="run")
    assert report.fresh == {"use": "of another shape in the file; it has no parameters"}
