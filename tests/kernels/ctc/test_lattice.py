"""The lattices of the torch engine against autograd through the framework's CTC in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.ctc.lattice import aten_lattice, label_slots
from kernels.ctc.stepwise import stepwise_lattice

Lattice = Callable[..., tuple[Tensor, Tensor | None]]

TARGETS = torch.tensor([[4, 4, 2, 4], [7, 3, 9, 9], [1, 2, 3, 4], [5, 5, 9, 9], [8, 8, 8, 8]])
TARGET_LENGTHS = torch.tensor([4, 2, 0, 2, 1])
INPUT_LENGTHS = torch.tensor([9, 6, 4, 2, 1])
FIRST_ROWS = torch.tensor([0, 9, 15, 19, 21])


def columns() -> Tensor:
    inside = torch.arange(4) < TARGET_LENGTHS.unsqueeze(1)
    return F.pad(torch.where(inside, TARGETS, 0), (1, 0))


def expected(log_probs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Return losses, and posteriors by class: minus the gradient of log-probabilities."""
    losses, posteriors = [], []
    for b, rows in enumerate(log_probs):
        logits = rows.clone().requires_grad_()
        loss = F.ctc_loss(
            logits.log_softmax(dim=1),
            TARGETS[b, : TARGET_LENGTHS[b]].unsqueeze(0),
            [len(rows)],
            [int(TARGET_LENGTHS[b])],
            reduction="sum",
        )
        (grad,) = torch.autograd.grad(loss, logits)
        losses.append(loss.detach())
        posteriors.append(rows.exp() - grad if loss.isfinite() else torch.zeros_like(rows))
    return losses, posteriors


@pytest.mark.parametrize("run", [aten_lattice, stepwise_lattice])
@pytest.mark.parametrize("spare", [0, 3])
@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_losses_and_posteriors(run: Lattice, spare: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    log_probs = [
        (torch.randn(int(n), 10, generator=generator, dtype=torch.float64) * scale).log_softmax(1)
        for n in INPUT_LENGTHS
    ]
    # Rows of no utterance, before and between the others, hold NaN.
    first_rows = FIRST_ROWS + spare
    emissions = torch.full((22 + 2 * spare, 5), torch.nan, dtype=torch.float64)
    for b, rows in enumerate(log_probs):
        emissions[first_rows[b] : first_rows[b] + len(rows)] = rows[:, columns()[b]]
    arguments = (emissions, first_rows, TARGETS, INPUT_LENGTHS, TARGET_LENGTHS)
    losses, posteriors = run(*arguments, posteriors=True, max_frames=11)
    alone, nothing = run(*arguments, posteriors=False, max_frames=9)
    assert nothing is None
    assert torch.equal(alone, losses)
    assert posteriors is not None
    wanted_losses, wanted = expected(log_probs)
    assert losses[3].isposinf()
    torch.testing.assert_close(losses, torch.stack(wanted_losses), rtol=1e-12, atol=1e-12)
    by_class = torch.zeros(emissions.shape[0], 10, dtype=torch.float64)
    for b, rows in enumerate(wanted):
        here = slice(int(first_rows[b]), int(first_rows[b]) + len(rows))
        by_class[here].index_add_(1, columns()[b], posteriors[here])
        torch.testing.assert_close(by_class[here], rows, rtol=0, atol=1e-12)
        if b != 3:
            sums = posteriors[here].sum(dim=1)
            torch.testing.assert_close(sums, torch.ones_like(sums), rtol=0, atol=1e-12)
    # Labels that have been seen, and columns beyond a length, get nothing.
    assert not posteriors[first_rows[0] : first_rows[0] + 9, [2, 4]].any()
    assert not posteriors[first_rows[1] : first_rows[1] + 6, 3:].any()
    assert not posteriors[:spare].any()
    assert not posteriors[first_rows[3] : first_rows[3] + 2].any()


@pytest.mark.parametrize("run", [aten_lattice, stepwise_lattice])
def test_forbidden_emissions(run: Lattice) -> None:
    emissions = torch.full((6, 3), 0.25).log()
    emissions[:3, 1] = -torch.inf  # the first label must wait for frame 3
    emissions[3:, 0] = -torch.inf
    lengths = torch.tensor([6]), torch.tensor([2])
    arguments = (emissions, torch.tensor([0]), torch.tensor([[5, 6]]), *lengths)
    loss, posteriors = run(*arguments, posteriors=True, max_frames=6)
    # Three blanks, then the labels meet after frame 3 or 4.
    torch.testing.assert_close(loss, -(torch.tensor([2.0]) * 0.25**6).log())
    assert posteriors is not None
    wanted = torch.tensor([[1.0, 0, 0]] * 3 + [[0, 1.0, 0], [0, 0.5, 0.5], [0, 0, 1.0]])
    torch.testing.assert_close(posteriors, wanted)
    emissions[:, 2] = -torch.inf
    loss, posteriors = run(*arguments, posteriors=True, max_frames=6)
    assert loss.isposinf()
    assert posteriors is not None
    assert not posteriors.any()


@pytest.mark.parametrize("run", [aten_lattice, stepwise_lattice])
def test_no_labels_and_no_frames(run: Lattice) -> None:
    emissions = torch.tensor([[0.5], [0.25]]).log()
    none = torch.zeros((3, 0), dtype=torch.int64)
    loss, posteriors = run(
        emissions,
        torch.tensor([0, 1, 2]),
        none,
        torch.tensor([1, 1, 0]),
        torch.zeros(3, dtype=torch.int64),
        posteriors=True,
        max_frames=1,
    )
    torch.testing.assert_close(loss, -torch.tensor([0.5, 0.25, 1.0]).log())
    assert posteriors is not None
    assert posteriors.tolist() == [[1.0], [1.0]]


def test_slots() -> None:
    assert label_slots(TARGETS, TARGET_LENGTHS).tolist() == [
        [1, 1, 3, 1],
        [1, 2, 0, 0],
        [0, 0, 0, 0],
        [1, 1, 0, 0],
        [1, 0, 0, 0],
    ]
