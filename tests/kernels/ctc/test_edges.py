"""Lengths, labels, logits and padding at the edge of what CTC is defined for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from kernels.ctc import ctc_loss, linear_ctc_loss
from tests.kernels.ctc.oracles import (
    Example,
    gradients,
    make_example,
    padded_by,
    relative_error,
    unfused,
)


def linear(example: Example, **options: Any) -> Any:
    return linear_ctc_loss(*example.projection, *example.labels, **options)


def both(example: Example, **options: Any) -> list[tuple[Tensor, tuple[Tensor, ...]]]:
    """Return the losses of both functions, and what they have gradients to."""
    logits = example.logits.detach().requires_grad_()
    dense = ctc_loss(logits, *example.labels, **options)
    return [(linear(example, **options), example.projection), (dense, (logits,))]


@pytest.mark.parametrize(
    ("input_lengths", "target_lengths"),
    [
        ((5, 3), (0, 0)),  # no labels at all
        ((1, 1), (0, 1)),  # one frame
        ((4, 2), (2, 0)),
        ((5, 5), (3, 3)),  # no padding
        ((2, 7), (1, 3)),
        ((3,), (2,)),  # as many frames as the labels and the blank between them need
    ],
)
def test_lengths(
    backend: str,
    device: torch.device,
    input_lengths: tuple[int, ...],
    target_lengths: tuple[int, ...],
) -> None:
    example = make_example(device, input_lengths=input_lengths, target_lengths=target_lengths)
    expected = unfused(example.logits, *example.labels, reduction="none")
    for loss, leaves in both(example, reduction="none", backend=backend):
        assert relative_error(loss, expected) < 1e-5
        found = gradients(loss.sum(), leaves)
        logits = example.logits.detach().requires_grad_()
        wanted = (
            gradients(unfused(logits, *example.labels, reduction="sum"), [logits])
            if len(leaves) == 1
            else gradients(expected.sum(), leaves, retain_graph=True)
        )
        for one, other in zip(found, wanted, strict=True):
            assert relative_error(one, other) < 1e-4


def test_no_labels_means_blanks(backend: str, device: torch.device) -> None:
    example = make_example(device, input_lengths=(4, 3), target_lengths=(0, 0))
    blanks = -example.logits.log_softmax(dim=2)[:, :, 0]
    inside = torch.arange(4, device=device) < example.input_lengths.unsqueeze(1)
    loss = linear(example, reduction="none", backend=backend)
    assert relative_error(loss, (blanks * inside).sum(dim=1)) < 1e-5


@pytest.mark.parametrize("frames", [0, 3])
def test_utterances_without_frames(backend: str, device: torch.device, frames: int) -> None:
    example = make_example(device, input_lengths=(0, 0, 3), target_lengths=(0, 2, 1))
    if frames == 0:
        example = replace(
            example,
            hidden=example.hidden.detach()[:2, :0].requires_grad_(),
            targets=example.targets[:2],
            input_lengths=example.input_lengths[:2],
            target_lengths=example.target_lengths[:2],
        )
    for loss, leaves in both(example, reduction="none", backend=backend):
        assert loss[:2].tolist() == [0.0, float("inf")]
        weights = torch.ones_like(loss)
        weights[1] = 0.0
        for grad in gradients(loss, leaves, grad_outputs=weights):
            assert grad.isfinite().all()
    for loss, leaves in both(example, reduction="sum", zero_infinity=True, backend=backend):
        assert bool(loss.isfinite())
        for grad in gradients(loss, leaves):
            assert grad.isfinite().all()


def infeasible(device: torch.device) -> Example:
    """Utterance 1 has two frames for three labels, 2 two for two equal ones, 0 and 3 enough."""
    example = make_example(device, input_lengths=(6, 2, 2, 5), target_lengths=(2, 3, 2, 2))
    example.targets[2] = example.targets[2, 0]
    return example


def test_an_infeasible_utterance_is_inf_and_its_gradient_nan(
    backend: str, device: torch.device
) -> None:
    example = infeasible(device)
    for loss, leaves in both(example, reduction="none", backend=backend):
        assert loss.isposinf().tolist() == [False, True, True, False]
        grad = gradients(loss.sum(), leaves)[0]
        assert grad[1:3, :2].isnan().all()
        assert grad[0].isfinite().all()
        assert grad[3].isfinite().all()
        assert not grad[1:3, 2:].any()
    for loss, leaves in both(example, reduction="mean", backend=backend):
        assert bool(loss.isposinf())
        assert gradients(loss, leaves)[0][1:3, :2].isnan().all()


def test_infeasible_utterances_can_be_left_out(engine_backend: str, device: torch.device) -> None:
    example = infeasible(device)
    for loss, leaves in both(example, reduction="none", backend=engine_backend):
        for grad in gradients(loss[loss.isfinite()].sum(), leaves):
            assert grad.isfinite().all()


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1, "entropy_bonus": 0.2}])
def test_zero_infinity(
    engine_backend: str, device: torch.device, options: dict[str, float]
) -> None:
    example = infeasible(device)
    rows = torch.tensor([0, 3], device=device)
    good = replace(
        example,
        hidden=example.hidden.detach()[rows].requires_grad_(),
        targets=example.targets[rows],
        input_lengths=example.input_lengths[rows],
        target_lengths=example.target_lengths[rows],
    )
    known = {"reduction": "sum", "zero_infinity": True, "backend": engine_backend, **options}
    results = zip(both(example, **known), both(good, **known), strict=True)
    for (loss, leaves), (kept, kept_leaves) in results:
        assert relative_error(loss, kept) < 1e-6
        found, wanted = gradients(loss, leaves), gradients(kept, kept_leaves)
        assert not found[0][1:3].any()
        assert relative_error(found[0][[0, 3]], wanted[0]) < 1e-6
        for one, other in zip(found[1:], wanted[1:], strict=True):
            assert relative_error(one, other) < 1e-6
    one_by_one, plain = (
        ctc_loss(
            example.logits.detach(),
            *example.labels,
            reduction="none",
            zero_infinity=zero_infinity,
            backend=engine_backend,
            **options,
        )
        for zero_infinity in (True, False)
    )
    assert one_by_one[1:3].tolist() == [0.0, 0.0]
    assert torch.equal(one_by_one[[0, 3]], plain[[0, 3]])


@pytest.mark.parametrize("blank", [0, 5, 10])
def test_any_class_can_be_the_blank(backend: str, device: torch.device, blank: int) -> None:
    example = make_example(device, blank=blank)
    loss = linear(example, blank=blank, backend=backend)
    expected = unfused(example.logits, *example.labels, blank=blank)
    assert relative_error(loss, expected) < 1e-5
    pairs = zip(
        gradients(loss, example.projection), gradients(expected, example.projection), strict=True
    )
    for found, wanted in pairs:
        assert relative_error(found, wanted) < 1e-4


@pytest.mark.parametrize("classes", [1, 2])
def test_few_classes(backend: str, device: torch.device, classes: int) -> None:
    labels = (0, 0) if classes == 1 else (3, 1)
    if classes == 1:
        example = make_example(device, input_lengths=(3, 2), target_lengths=(0, 0), classes=2)
        example = replace(
            example,
            weight=example.weight.detach()[:1].requires_grad_(),
            bias=example.bias.detach()[:1].requires_grad_(),
        )
    else:
        example = make_example(device, input_lengths=(7, 2), target_lengths=labels, classes=2)
    expected = unfused(example.logits, *example.labels)
    for loss, leaves in both(example, backend=backend):
        torch.testing.assert_close(loss.cpu().double(), expected, rtol=1e-5, atol=1e-6)
        assert all(grad.isfinite().all() for grad in gradients(loss, leaves))


def test_padding_is_not_read(backend: str, device: torch.device) -> None:
    example = make_example(device)
    poisoned = padded_by(example, frames=2, labels=2)
    garbage = poisoned.targets.clone()
    inside = torch.arange(garbage.shape[1], device=device) < example.target_lengths.unsqueeze(1)
    garbage = torch.where(inside, garbage, 2**40)
    hidden = poisoned.hidden.detach().clone()
    valid = torch.arange(hidden.shape[1], device=device) < example.input_lengths.unsqueeze(1)
    hidden[~valid] = torch.tensor(float("nan"), device=device)
    poisoned = replace(poisoned, targets=garbage, hidden=hidden.requires_grad_())
    pairs = zip(both(example, backend=backend), both(poisoned, backend=backend), strict=True)
    for (loss, leaves), (found, found_leaves) in pairs:
        assert relative_error(found, loss) < 1e-6
        one, other = gradients(loss, leaves), gradients(found, found_leaves)
        assert not other[0][:, example.hidden.shape[1] :].any()
        assert not other[0][~valid.cpu()].any()
        assert relative_error(other[0][:, : example.hidden.shape[1]], one[0]) < 1e-5
        for wanted, grad in zip(one[1:], other[1:], strict=True):
            assert relative_error(grad, wanted) < 1e-5


def test_a_batch_of_one_is_the_row_of_a_batch(backend: str, device: torch.device) -> None:
    example = make_example(device)
    losses = linear(example, reduction="none", backend=backend)
    (grad,) = gradients(losses.sum(), [example.hidden])
    for row in range(3):
        alone = replace(
            example,
            hidden=example.hidden.detach()[row : row + 1].requires_grad_(),
            targets=example.targets[row : row + 1],
            input_lengths=example.input_lengths[row : row + 1],
            target_lengths=example.target_lengths[row : row + 1],
        )
        loss = linear(alone, reduction="sum", backend=backend)
        assert relative_error(loss, losses[row]) < 1e-6
        assert relative_error(gradients(loss, [alone.hidden])[0], grad[row : row + 1]) < 1e-5


def test_invariants_of_the_gradient(backend: str, device: torch.device) -> None:
    example = make_example(device)
    logits = example.logits.detach().requires_grad_()
    order = torch.randperm(11, generator=torch.Generator().manual_seed(1)).to(device)
    place = order.argsort()
    (grad,) = gradients(
        ctc_loss(logits, *example.labels, reduction="sum", backend=backend), [logits]
    )
    # Softmax and posteriors both add up to 1 in a frame, and padding has neither.
    assert grad.sum(dim=2).abs().max() < 1e-5
    mixed = logits.detach()[:, :, order].requires_grad_()
    loss = ctc_loss(
        mixed,
        place[example.targets],
        example.input_lengths,
        example.target_lengths,
        blank=int(place[0]),
        reduction="sum",
        backend=backend,
    )
    (permuted,) = gradients(loss, [mixed])
    assert relative_error(permuted[:, :, place.cpu()], grad) < 1e-5


def test_forbidden_classes_that_no_target_uses(backend: str, device: torch.device) -> None:
    example = make_example(device)
    logits = example.logits.detach()
    unused = next(v for v in range(1, 11) if not (example.targets == v).any())
    logits[:, :, unused] = -torch.inf
    kept = [v for v in range(11) if v != unused]
    smaller = logits[:, :, kept].requires_grad_()
    logits.requires_grad_()
    targets = example.targets - (example.targets > unused).long()
    labels = (example.input_lengths, example.target_lengths)
    options = {"backend": backend, "entropy_bonus": 0.1}
    loss = ctc_loss(logits, example.targets, *labels, **options)
    expected = ctc_loss(smaller, targets, *labels, **options)
    assert relative_error(loss, expected) < 1e-6
    (grad,), (wanted,) = gradients(loss, [logits]), gradients(expected, [smaller])
    assert not grad[:, :, unused].any()
    assert relative_error(grad[:, :, kept], wanted) < 1e-5


@pytest.mark.parametrize("zero_infinity", [False, True])
def test_forbidden_classes_that_a_target_needs(
    backend: str, device: torch.device, zero_infinity: bool
) -> None:
    example = make_example(device)
    needed = int(example.targets[1, 0])
    example.targets[0] = torch.where(example.targets[0] == needed, 1 + needed % 10, needed % 9 + 1)
    example.targets[0][example.targets[0] == needed] = 10 if needed != 10 else 9
    bias = example.bias.detach().clone()
    bias[needed] = -torch.inf
    example = replace(example, bias=bias.requires_grad_())
    options = {"zero_infinity": zero_infinity, "backend": backend, "reduction": "sum"}
    for loss, leaves in both(example, **options):
        found = gradients(loss, leaves)
        if not zero_infinity:
            assert bool(loss.isposinf())
            assert found[0][1, :3].isnan().all()
            continue
        assert bool(loss.isfinite())
        assert not found[0][1].any()
        assert all(grad.isfinite().all() for grad in found)
    if zero_infinity:
        rest = torch.tensor([0, 2], device=device)
        hidden = example.hidden.detach()[rest].requires_grad_()
        alone = linear_ctc_loss(
            hidden,
            example.weight,
            example.bias,
            *(part[rest] for part in example.labels),
            **options,
        )
        found = gradients(linear(example, **options), example.projection)
        wanted = gradients(alone, (hidden, example.weight, example.bias))
        for one, other in zip(found[1:], wanted[1:], strict=True):
            assert relative_error(one, other) < 1e-5


def test_a_forbidden_blank(backend: str, device: torch.device) -> None:
    example = make_example(device, input_lengths=(5, 5, 4, 2), target_lengths=(2, 2, 0, 2), seed=3)
    example.targets[0] = torch.tensor([1, 1])
    example.targets[1] = torch.tensor([1, 2])
    example.targets[3] = torch.tensor([3, 4])
    bias = example.bias.detach().clone()
    bias[0] = -torch.inf
    example = replace(example, bias=bias.requires_grad_())
    expected = unfused(example.logits, *example.labels, reduction="none")
    options = {"reduction": "none", "backend": backend}
    for loss, _ in both(example, **options):
        assert loss.isposinf().tolist() == [True, False, True, False]
        assert relative_error(loss[[1, 3]], expected[[1, 3]]) < 1e-5
    loss = linear(example, reduction="sum", zero_infinity=True, backend=backend)
    for grad in gradients(loss, example.projection):
        assert grad.isfinite().all()


@pytest.mark.parametrize("scale", [20.0, 50.0])
def test_confident_models(backend: str, device: torch.device, scale: float) -> None:
    example = make_example(device, scale=scale)
    logits = example.logits.detach().requires_grad_()
    loss = ctc_loss(logits, *example.labels, reduction="sum", backend=backend)
    expected = unfused(logits, *example.labels, reduction="sum")
    assert relative_error(loss, expected) < 1e-5
    assert relative_error(gradients(loss, [logits])[0], gradients(expected, [logits])[0]) < 1e-4


def test_nan_is_not_hidden(backend: str, device: torch.device) -> None:
    example = make_example(device)
    hidden = example.hidden.detach().clone()
    hidden[1, 0, 0] = torch.nan
    broken = replace(example, hidden=hidden.requires_grad_())
    for loss, leaves in both(broken, reduction="none", zero_infinity=True, backend=backend):
        assert loss.isnan().tolist() == [False, True, False]
        grad = gradients(loss.sum(), leaves)[0]
        assert grad[1].isnan().any()
        assert grad[0].isfinite().all()
