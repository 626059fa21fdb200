from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.ctc import triton_posteriors
from kernels.ctc.triton import ENGINE, MAX_LABELS, unsupported
from kernels.ctc.triton_posteriors import shape_for, tile_for
from tests.kernels.ctc.guarded import Guard, guard
from tests.kernels.ctc.oracles import brute_force

__all__ = ["guard"]  # a fixture
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@dataclass(frozen=True, kw_only=True)
class Example:
    """Frames of utterances as rows, some rows of no utterance between them, in float64 on CPU."""

    logits: Tensor
    first_rows: Tensor
    targets: Tensor
    input_lengths: Tensor
    target_lengths: Tensor
    blank: int

    @property
    def columns(self) -> Tensor:
        """(B, S), with the blank beyond a length."""
        inside = torch.arange(self.targets.shape[1]) < self.target_lengths.unsqueeze(1)
        labels = torch.where(inside, self.targets, self.blank)
        return F.pad(labels, (1, 0), value=self.blank)

    def rows_of(self, b: int) -> slice:
        start = int(self.first_rows[b])
        return slice(start, start + int(self.input_lengths[b]))

    def emissions(self) -> Tensor:
        """(N, S), NaN in rows of no utterance and in columns beyond a length."""
        found = torch.full(
            (self.logits.shape[0], self.targets.shape[1] + 1), torch.nan, dtype=torch.float64
        )
        log_probs = self.logits.log_softmax(dim=1)
        for b, length in enumerate(self.target_lengths.tolist()):
            rows = self.rows_of(b)
            found[rows, : length + 1] = log_probs[rows][:, self.columns[b, : length + 1]]
        return found

    def framework(self, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
        """Losses, and the posterior of each label in its first column, by the framework."""
        losses = torch.zeros(len(self.targets), dtype=torch.float64)
        posteriors = torch.zeros_like(self.emissions())
        for b, length in enumerate(self.target_lengths.tolist()):
            logits = self.logits[self.rows_of(b)].to(dtype).requires_grad_()
            if not len(logits):
                losses[b] = torch.inf if length else 0.0
                continue
            log_probs = logits.log_softmax(dim=1)
            loss = F.ctc_loss(
                log_probs.clamp(min=-1e30).unsqueeze(1),
                self.targets[b : b + 1, :length],
                torch.tensor([len(logits)]),
                torch.tensor([length]),
                blank=self.blank,
                reduction="sum",
            )
            losses[b] = torch.inf if loss > 1e29 else loss.detach()
            if losses[b] == torch.inf:
                continue
            (grad,) = torch.autograd.grad(loss, log_probs)
            # The framework's gradient is that of logits for normalized log-probabilities.
            occupied = log_probs.detach().exp() - grad
            seen: set[int] = set()
            for place, label in enumerate(self.columns[b, : length + 1].tolist()):
                if label not in seen:
                    posteriors[self.rows_of(b), place] = occupied[:, label].double()
                seen.add(label)
        return losses, posteriors

    def run(
        self,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        *,
        posteriors: bool = True,
        emissions: Tensor | None = None,
        **changed: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        """What the engine returns, on CPU."""
        arguments: dict[str, Any] = {
            name: changed.get(name, getattr(self, name)).to(device)
            for name in ("first_rows", "targets", "input_lengths", "target_lengths")
        }
        values = self.emissions() if emissions is None else emissions
        losses, found = ENGINE.lattice(
            values.to(device, dtype),
            **arguments,
            posteriors=posteriors,
            max_frames=int(self.input_lengths.max()) if len(self.targets) else 0,
        )
        assert losses.dtype == dtype
        return losses.cpu(), None if found is None else found.cpu()


def make_example(
    input_lengths: Sequence[int],
    target_lengths: Sequence[int],
    *,
    classes: int = 6,
    width: int | None = None,
    scale: float = 2.0,
    blank: int = 0,
    seed: int = 0,
) -> Example:
    generator = torch.Generator().manual_seed(seed)
    gaps = torch.arange(len(input_lengths)) + 1
    lengths = torch.tensor(input_lengths)
    first_rows = lengths.cumsum(0) - lengths + gaps
    rows = int(lengths.sum()) + len(input_lengths) + 1
    longest = max(target_lengths) if width is None else width
    others = torch.tensor([v for v in range(classes) if v != blank])
    drawn = torch.randint(len(others), (len(input_lengths), longest), generator=generator)
    return Example(
        logits=torch.randn(rows, classes, generator=generator, dtype=torch.float64) * scale,
        first_rows=first_rows,
        targets=others[drawn],
        input_lengths=lengths,
        target_lengths=torch.tensor(target_lengths),
        blank=blank,
    )


def assert_agrees(
    example: Example, device: torch.device, dtype: torch.dtype = torch.float32, **options: Any
) -> None:
    losses, posteriors = example.run(device, dtype, **options)
    expected_losses, expected = example.framework()
    wide = dtype == torch.float64
    torch.testing.assert_close(
        losses.double(), expected_losses, rtol=1e-12 if wide else 2e-6, atol=1e-12 if wide else 2e-6
    )
    assert posteriors is not None
    torch.testing.assert_close(posteriors.double(), expected, rtol=0, atol=1e-12 if wide else 1e-5)


@pytest.mark.parametrize(
    ("input_lengths", "target_lengths", "classes"),
    [
        ([25], [11], 6),
        ([1, 1, 1, 2], [0, 1, 2, 1], 3),
        ([0, 0, 3], [0, 2, 0], 4),
        ([7, 16, 2], [4, 15, 1], 20),
        ([9, 5, 8], [4, 4, 4], 2),
        ([6], [6], 40),
        ([17, 3], [0, 0], 5),
    ],
)
def test_agrees_with_the_framework_in_float64(
    input_lengths: list[int], target_lengths: list[int], classes: int, device: torch.device
) -> None:
    """Among them no frames, no labels, repeats alone (two classes), more labels than frames."""
    assert_agrees(make_example(input_lengths, target_lengths, classes=classes), device)


@pytest.mark.parametrize("blank", [0, 3, 5])
def test_float64_is_exact_whatever_the_blank(blank: int, device: torch.device) -> None:
    example = make_example([12, 9], [5, 3], blank=blank, seed=blank)
    assert_agrees(example, device, torch.float64)


@pytest.mark.parametrize(
    ("frames", "labels", "width"),
    [(33, 31, 31), (24, 9, 63), (14, 9, 127), (12, 9, 255), (8, 5, 511)],
)
def test_labels_that_cross_lanes(
    frames: int, labels: int, width: int, device: torch.device
) -> None:
    shape = shape_for(width, 4)
    assert shape.neighbours * shape.lanes == width + 1
    assert_agrees(make_example([frames], [labels], width=width, classes=40), device)


@pytest.mark.parametrize("depth", [1, 3, 8])
@pytest.mark.parametrize("width", [31, 63])
def test_frames_that_are_loaded_ahead(
    depth: int, width: int, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By as many as on a GPU, with more frames than that and fewer."""
    shape = replace(shape_for(width, 4), depth=depth)
    monkeypatch.setattr(triton_posteriors, "shape_for", lambda labels, itemsize: shape)
    example = make_example([20, 7, 1], [6, 2, 1], width=width, scale=6.0)
    assert_agrees(example, device)


def test_sums_over_alignments_by_brute_force(device: torch.device) -> None:
    example = replace(
        make_example([4, 5, 4], [2, 1, 3], classes=3),
        targets=torch.tensor([[1, 1, 9], [2, 9, 9], [1, 2, 1]]),
    )
    losses, _ = example.run(device, torch.float64)
    for b, length in enumerate(example.target_lengths.tolist()):
        labels = example.targets[b, :length].tolist()
        logits = example.logits[example.rows_of(b)]
        expected = brute_force(logits, labels, example.blank)
        torch.testing.assert_close(losses[b], expected, rtol=1e-12, atol=0)


def test_derivative_by_finite_differences(device: torch.device) -> None:
    arguments = [torch.tensor(x) for x in ([1], [[4, 7]], [4], [2])]

    class Loss(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, emissions: Tensor) -> Tensor:
            losses, posteriors = ENGINE.lattice(
                emissions, *(x.to(device) for x in arguments), posteriors=True, max_frames=4
            )
            ctx.save_for_backward(posteriors)
            return losses

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            posteriors: Tensor = ctx.saved_tensors[0]
            return -posteriors * grad

    emissions = torch.randn(5, 3, dtype=torch.float64, device=device, requires_grad=True)
    assert torch.autograd.gradcheck(Loss.apply, (emissions,))


def test_posteriors_of_a_frame_sum_to_one(device: torch.device) -> None:
    example = make_example([30, 20], [6, 9], scale=8.0)
    _, posteriors = example.run(device)
    assert posteriors is not None
    for b in range(2):
        total = posteriors[example.rows_of(b)].double().sum(dim=1)
        torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=5e-7)


def test_losses_alone_are_the_same(device: torch.device) -> None:
    example = make_example([11, 4, 6], [3, 5, 0])
    losses, posteriors = example.run(device, posteriors=False)
    assert posteriors is None
    assert torch.equal(losses, example.run(device)[0])


def test_labels_that_logits_forbid(device: torch.device) -> None:
    example = make_example([9, 9, 9, 6], [2, 2, 2, 0], classes=5)
    targets = torch.tensor([[1, 2], [1, 2], [1, 2], [1, 2]])
    logits = example.logits.clone()
    start = example.first_rows
    logits[start[0] + 2 : start[0] + 5, 1] = -torch.inf  # a label, in some frames
    logits[start[1] : start[1] + 9, 2] = -torch.inf  # a label everywhere: no alignment
    logits[start[2] : start[2] + 9, 3] = -torch.inf  # of no utterance
    logits[start[2] + 4, 0] = -torch.inf  # the blank
    logits[start[3] + 1, 0] = -torch.inf  # the blank, where it alone is allowed
    example = replace(example, logits=logits, targets=targets)
    assert example.framework()[0].isinf().tolist() == [False, True, False, True]
    assert_agrees(example, device)
    _, posteriors = example.run(device)
    assert posteriors is not None
    assert bool((posteriors[start[0] + 2 : start[0] + 5, 1] == 0).all())


def test_what_is_not_a_number_stays_in_its_utterance(device: torch.device) -> None:
    example = make_example([6, 6], [2, 2])
    emissions = example.emissions()
    emissions[example.first_rows[0] + 3, 1] = torch.nan
    losses, _ = example.run(device, emissions=emissions)
    assert losses.isnan().tolist() == [True, False]
    assert losses[1] == example.run(device)[0][1]


def test_labels_beyond_a_length_are_not_read(device: torch.device) -> None:
    example = make_example([8, 8], [2, 4])
    targets = example.targets.clone()
    targets[0, 2:] = torch.tensor([-(2**62), 2**62])
    for one, other in zip(example.run(device), example.run(device, targets=targets), strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("input_lengths", 99),
        ("input_lengths", -1),
        ("target_lengths", 4),
        ("target_lengths", -2),
        ("first_rows", 2**40),
        ("first_rows", -3),
    ],
)
def test_lengths_beyond_the_tensors_touch_nothing(
    name: str, value: int, device: torch.device, guard: Guard
) -> None:
    example = make_example([4, 4], [2, 3])
    changed = getattr(example, name).clone()
    changed[0] = value
    losses, posteriors = example.run(device, **{name: changed})
    guard.check()
    assert losses.isnan().tolist() == [True, False]
    assert posteriors is not None
    assert bool((posteriors[example.rows_of(0)] == 0).all())
    assert bool((posteriors[example.rows_of(1)].sum(dim=1) > 0.99).all())


def test_scratch_is_written_before_it_is_read_and_nothing_beside_it(
    device: torch.device, guard: Guard
) -> None:
    example = make_example([10, 3, 0, 7], [3, 3, 1, 0])
    assert_agrees(example, device)
    guard.check()


def test_runs_are_bit_equal(device: torch.device) -> None:
    example = make_example([15, 9], [5, 4])
    first, second = example.run(device), example.run(device)
    assert torch.equal(first[0], second[0])
    assert first[1] is not None
    assert second[1] is not None
    assert torch.equal(first[1], second[1])


def test_an_utterance_does_not_depend_on_its_batch(device: torch.device) -> None:
    both = make_example([12, 7], [4, 3])
    losses, posteriors = both.run(device)
    names = ("first_rows", "targets", "input_lengths", "target_lengths")
    alone = replace(both, **{name: getattr(both, name)[1:] for name in names})
    one, own = alone.run(device)
    assert torch.equal(one[0], losses[1])
    assert own is not None
    assert posteriors is not None
    assert torch.equal(own[both.rows_of(1)], posteriors[both.rows_of(1)])


def test_no_utterances_and_no_frames(device: torch.device) -> None:
    nothing = torch.zeros(0, dtype=torch.int64, device=device)
    losses, posteriors = ENGINE.lattice(
        torch.zeros(3, 4, device=device),
        nothing,
        nothing.view(0, 3),
        nothing,
        nothing,
        posteriors=True,
        max_frames=0,
    )
    assert losses.shape == (0,)
    assert posteriors is not None
    assert bool((posteriors == 0).all())
    zero = torch.zeros(1, dtype=torch.int64, device=device)
    losses, posteriors = ENGINE.lattice(
        torch.zeros(0, 1, device=device),
        zero,
        zero.view(1, 1)[:, :0],
        zero,
        zero,
        posteriors=True,
        max_frames=0,
    )
    assert losses.tolist() == [0.0]


def test_float32_keeps_its_digits_over_many_frames(device: torch.device) -> None:
    """The framework's float32 recursion loses them, as its log-probabilities grow."""
    example = make_example([400], [12], classes=32, scale=6.0)
    expected_losses, expected = example.framework()
    _, native = example.framework(torch.float32)
    losses, posteriors = example.run(device)
    assert posteriors is not None
    torch.testing.assert_close(losses.double(), expected_losses, rtol=1e-6, atol=0)

    def error(found: Tensor) -> float:
        return float((found.double() - expected).norm() / expected.norm())

    assert error(posteriors) < 1e-4
    assert error(posteriors) < error(native) / 5


@pytest.mark.parametrize("itemsize", [4, 8])
def test_a_shape_for_every_number_of_labels(itemsize: int) -> None:
    for labels in (0, 1, 31, 32, 63, 64, 127, 128, 255, 256, 1000, MAX_LABELS):
        shape = shape_for(labels, itemsize)
        assert shape.neighbours * shape.lanes > labels
        assert shape.lanes <= 32 * 32
        assert shape.depth * shape.neighbours <= 16
        assert tile_for(shape) & (tile_for(shape) - 1) == 0
    assert shape_for(255, 4).lanes == 32


def test_says_what_it_cannot_take() -> None:
    assert unsupported(MAX_LABELS) == ""
    assert str(MAX_LABELS) in unsupported(MAX_LABELS + 1)
    assert shape_for(MAX_LABELS, 4).lanes == 256
