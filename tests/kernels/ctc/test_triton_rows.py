from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from kernels.ctc import triton_rows
from kernels.ctc.engine import RowStatistics, Terms
from kernels.ctc.triton import ENGINE
from kernels.ctc.triton_rows import launch_for
from tests.kernels.ctc.guarded import Guard, guard

__all__ = ["guard"]  # a fixture
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

TERMS = {
    "ctc": Terms(),
    "smoothing": Terms(label_smoothing=0.1),
    "entropy": Terms(entropy_bonus=0.3),
    "penalty": Terms(blank=2, blank_penalty=1.5),
    "consistency": Terms(consistency=0.7),
    "all": Terms(
        blank=4, label_smoothing=0.1, entropy_bonus=0.2, blank_penalty=-0.6, consistency=0.5
    ),
}
LIMITS = {  # of statistics, of the gradient; a gradient in half precision is rounded to it
    torch.float64: (1e-13, 1e-13),
    torch.float32: (3e-6, 1e-6),
    torch.float16: (3e-6, 1e-3),
    torch.bfloat16: (3e-6, 8e-3),
}


@dataclass(frozen=True, kw_only=True)
class Example:
    """Arguments of a call on CPU; two views of each frame for any terms."""

    logits: Tensor
    columns: Tensor
    utterances: Tensor
    weights: Tensor

    def run(
        self, device: torch.device, terms: Terms, *, gradient: bool = True, in_place: bool = True
    ) -> tuple[RowStatistics, Tensor]:
        """Statistics, and the gradient or what became of the logits, in float64 on CPU."""
        logits = self.logits.clone().to(device)
        out = logits if in_place else torch.full_like(logits, torch.nan)
        found = ENGINE.rows(
            logits,
            self.columns.to(device),
            self.utterances.to(device),
            self.weights.to(device) if gradient else None,
            terms,
            out=out if gradient else None,
        )
        wide = torch.float64 if logits.dtype == torch.float64 else torch.float32
        assert {part.dtype for part in found} == {wide}
        if not in_place:
            assert torch.equal(logits.cpu().nan_to_num(), self.logits.nan_to_num())
        statistics = RowStatistics(*(part.cpu().double() for part in found))
        return statistics, (out if gradient else logits).cpu().double()

    def plain(self, terms: Terms) -> tuple[RowStatistics, Tensor]:
        """The same from the equations and automatic differentiation in float64."""
        logits = self.logits.double().requires_grad_()
        shift = torch.zeros(logits.shape[1], dtype=torch.float64)
        shift[terms.blank] = terms.blank_penalty
        logs = (logits - shift).log_softmax(dim=1)
        entropy = torch.special.entr(logs.exp()).sum(dim=1)
        regulariser = torch.zeros_like(entropy)
        if terms.consistency:
            other = logs.detach().roll(logs.shape[0] // 2, dims=0)
            regulariser += terms.consistency * (other.exp() * (other - logs)).sum(dim=1)
        if terms.entropy_bonus:
            regulariser = regulariser - terms.entropy_bonus * entropy
        if terms.label_smoothing:
            regulariser = regulariser - terms.label_smoothing * logs.mean(dim=1)
        softmax_part = (1 - terms.label_smoothing) * (logits - shift).logsumexp(dim=1)
        live = self.weights != 0
        total = (self.weights.double() * (softmax_part + regulariser))[live].sum()
        (grad,) = torch.autograd.grad(total, logits)
        grad = grad.scatter(1, self.columns[self.utterances], 0.0)
        nothing = torch.zeros(0, dtype=torch.float64)
        return RowStatistics(
            logs.detach().gather(1, self.columns[self.utterances]),
            regulariser.detach() if terms.regularised else nothing,
            entropy.detach() if terms.entropy_bonus else nothing,
        ), grad


def make_example(
    classes: int,
    *,
    width: int = 4,
    frames: int = 3,
    dtype: torch.dtype = torch.float32,
    scale: float = 3.0,
    seed: int = 0,
) -> Example:
    generator = torch.Generator().manual_seed(seed)
    rows = 2 * frames
    logits = torch.randn(rows, classes, generator=generator, dtype=torch.float64) * scale
    utterances = torch.randint(3, (frames,), generator=generator)
    weights = torch.randn(rows, generator=generator, dtype=torch.float64)
    return Example(
        logits=logits.to(dtype),
        columns=torch.randint(classes, (6, width), generator=generator),
        utterances=torch.cat([utterances, utterances + 3]),
        weights=weights.to(torch.float64 if dtype == torch.float64 else torch.float32),
    )


def assert_agrees(
    example: Example, device: torch.device, terms: Terms, *, in_place: bool = True
) -> None:
    exact, rounded = LIMITS[example.logits.dtype]
    found, grad = example.run(device, terms, in_place=in_place)
    expected, expected_grad = example.plain(terms)
    for name, value, target in zip(RowStatistics._fields, found, expected, strict=True):
        torch.testing.assert_close(value, target, rtol=exact, atol=exact, msg=f"{name}: {value}")
    torch.testing.assert_close(grad, expected_grad, rtol=rounded, atol=exact)
    chosen = grad.gather(1, example.columns[example.utterances])
    assert bool((chosen == 0).all())
    alone, logits = example.run(device, terms, gradient=False)
    assert all(torch.equal(one, other) for one, other in zip(alone, found, strict=True))
    assert torch.equal(logits, example.logits.double())


@pytest.mark.parametrize("terms", TERMS.values(), ids=TERMS)
@pytest.mark.parametrize("dtype", LIMITS, ids=str)
def test_agrees_with_the_equations_in_float64(
    terms: Terms, dtype: torch.dtype, device: torch.device
) -> None:
    assert_agrees(make_example(37, dtype=dtype), device, terms)


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize(("classes", "width"), [(2, 1), (32, 7), (33, 300), (1024, 128)])
def test_any_number_of_classes_and_columns(
    classes: int, width: int, in_place: bool, device: torch.device
) -> None:
    example = make_example(classes, width=width)
    assert_agrees(example, device, Terms(blank=1), in_place=in_place)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("terms", ["ctc", "all"])
def test_rows_that_registers_cannot_hold(
    terms: str, dtype: torch.dtype, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_rows, "RESIDENT_BYTES", 512)
    monkeypatch.setattr(triton_rows, "STREAMED_BYTES", 512)
    assert not launch_for(300, dtype.itemsize, TERMS[terms]).resident
    assert_agrees(make_example(301, dtype=dtype), device, TERMS[terms])


def test_a_row_that_begins_with_forbidden_classes(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_rows, "RESIDENT_BYTES", 512)
    monkeypatch.setattr(triton_rows, "STREAMED_BYTES", 512)
    example = make_example(300)
    example.logits[0, :130] = -torch.inf
    assert_agrees(example, device, Terms())


def test_the_largest_vocabulary(device: torch.device) -> None:
    example = make_example(262_144, frames=1)
    assert not launch_for(262_144, 4, Terms()).resident
    assert_agrees(example, device, Terms())


def test_confident_logits(device: torch.device) -> None:
    assert_agrees(make_example(50, scale=50.0), device, TERMS["all"])


def test_offsets_cost_no_digits(device: torch.device) -> None:
    example = make_example(40)
    example.logits.mul_(64).round_().div_(64).add_(4096.0)
    assert_agrees(example, device, Terms(label_smoothing=0.1, entropy_bonus=0.2, consistency=0.5))


def test_classes_that_logits_forbid(device: torch.device) -> None:
    example = make_example(20)
    example.columns[:, 1] = 7
    example.logits[:, 7] = -1e4  # a probability of exactly 0
    example.logits[:, 9] = -1e4
    terms = Terms(entropy_bonus=0.2, consistency=0.3)
    expected, expected_grad = example.run(device, terms)
    example.logits[:, 7] = -torch.inf
    example.logits[:, 9] = -torch.inf
    found, grad = example.run(device, terms)
    assert bool((found.emissions[:, 1] == -torch.inf).all())
    assert torch.equal(found.regulariser, expected.regulariser)
    assert torch.equal(found.entropy, expected.entropy)
    assert torch.equal(grad, expected_grad)
    assert_agrees(example, device, Terms())


def test_a_weight_of_zero_beats_what_is_not_a_number(device: torch.device) -> None:
    example = make_example(11)
    example.logits[0, 3] = torch.nan
    example.logits[1] = torch.inf
    example.weights[:2] = 0.0
    _, grad = example.run(device, TERMS["smoothing"])
    assert bool((grad[:2] == 0).all())
    assert bool(grad[2:].isfinite().all())


def test_a_weight_that_is_not_a_number_leaves_the_columns_at_zero(device: torch.device) -> None:
    example = make_example(11)
    example.weights[2] = torch.nan
    _, grad = example.run(device, Terms())
    own = torch.zeros(11, dtype=torch.bool)
    own[example.columns[example.utterances[2]]] = True
    assert torch.equal(grad[2].isnan(), ~own)
    assert bool((grad[2, own] == 0).all())


def test_writes_nothing_beside_its_rows(device: torch.device, guard: Guard) -> None:
    example = make_example(35)
    room = guard(example.logits.to(device), tuple(example.logits.shape), 0.0)
    logits = room.copy_(example.logits)
    columns = example.columns.to(device)
    columns[:, 0] = 2**40  # no class
    columns[:, 1] = -1
    utterances = example.utterances.to(device)
    ENGINE.rows(logits, columns, utterances, example.weights.to(device), TERMS["all"], out=logits)
    values = torch.ones(6, 4, device=device)
    ENGINE.add_columns(logits, columns, utterances, values)
    guard.check()


def test_runs_are_bit_equal(device: torch.device) -> None:
    example = make_example(100)
    one, other = (example.run(device, TERMS["all"]) for _ in range(2))
    assert torch.equal(one[1], other[1])
    assert all(torch.equal(a, b) for a, b in zip(one[0], other[0], strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_adds_columns(dtype: torch.dtype, device: torch.device) -> None:
    columns = torch.tensor([[0, 5, 2, 5], [0, 1, 0, 0]], device=device)
    values = torch.tensor(
        [[1.5, 2.0, -3.0, 0.0], [0.0, 4.0, 0.0, 0.0], [torch.nan, 0.0, 1.0, -1.0]], device=device
    )
    grad = torch.full((3, 6), 0.25, dtype=dtype, device=device)
    utterances = torch.tensor([0, 1, 0], device=device)
    grad.scatter_(1, columns[utterances], 0.0)
    ENGINE.add_columns(grad, columns, utterances, values)
    expected = [
        [1.5, 0.25, -3.0, 0.25, 0.25, 2.0],
        [0.0, 4.0, 0.25, 0.25, 0.25, 0.25],
        [torch.nan, 0.25, 1.0, 0.25, 0.25, -1.0],
    ]
    torch.testing.assert_close(
        grad.cpu().float(), torch.tensor(expected), rtol=0, atol=0, equal_nan=True
    )


def test_no_rows(device: torch.device) -> None:
    nothing = torch.zeros(0, dtype=torch.int64, device=device)
    logits = torch.zeros(0, 9, device=device)
    columns = torch.zeros(2, 3, dtype=torch.int64, device=device)
    found = ENGINE.rows(logits, columns, nothing, logits[:, 0], TERMS["all"], out=logits)
    assert [part.shape for part in found] == [(0, 3), (0,), (0,)]
    ENGINE.add_columns(logits, columns, nothing, found.emissions)


@pytest.mark.parametrize("terms", ["ctc", "entropy", "all"])
@pytest.mark.parametrize("itemsize", [4, 8])
def test_a_launch_for_every_number_of_classes(terms: str, itemsize: int) -> None:
    for classes in (1, 2, 31, 100, 1024, 5000, 32000, 50257, 262_144):
        launch = launch_for(classes, itemsize, TERMS[terms])
        assert launch.resident == (launch.block >= classes)
        assert launch.block & (launch.block - 1) == 0
        assert launch.warps in (1, 2, 4, 8, 16, 32)
