"""The public functions, through each backend, against unfused equations in float64."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from kernels.ctc import CTCLosses, ctc_loss, linear_ctc_loss
from kernels.errors import BackendError
from tests.kernels.ctc.oracles import (
    Example,
    gradients,
    make_example,
    relative_error,
    unfused,
)

REDUCTIONS = ("none", "mean", "sum", "mean_batch", "mean_volume")
ROW_BYTES = 11 * 4


def linear(example: Example, **options: Any) -> Any:
    return linear_ctc_loss(*example.projection, *example.labels, **options)


def check(loss: Tensor, expected: Tensor, leaves: tuple[Tensor, ...]) -> None:
    """Compare (weighted) losses and gradients with the tolerances of float32."""
    assert relative_error(loss, expected) < 1e-5
    weights = torch.linspace(0.5, -1.5, expected.numel(), dtype=torch.float64)
    found = gradients((loss.view(-1) * weights.to(loss)).sum(), leaves, retain_graph=True)
    wanted = gradients((expected.view(-1) * weights).sum(), leaves, retain_graph=True)
    for one, other in zip(found, wanted, strict=True):
        assert relative_error(one, other) < 1e-4


@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_linear(backend: str, device: torch.device, reduction: str) -> None:
    example = make_example(device)
    loss = linear(example, reduction=reduction, backend=backend, chunk_bytes=5 * ROW_BYTES)
    expected = unfused(example.logits, *example.labels, reduction=reduction)
    check(loss, expected, example.projection)


def test_logits(backend: str, device: torch.device) -> None:
    example = make_example(device)
    logits = example.logits.detach().requires_grad_()
    before = logits.detach().clone()
    options = {"reduction": "none", "backend": backend, "chunk_bytes": 5 * ROW_BYTES}
    loss = ctc_loss(logits, *example.labels, **options)
    check(loss, unfused(logits, *example.labels, reduction="none"), (logits,))
    assert torch.equal(logits, before)


@pytest.mark.parametrize("chunk_bytes", [None, 1, 5 * ROW_BYTES])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_reductions(
    quick_backend: str, device: torch.device, reduction: str, chunk_bytes: int | None
) -> None:
    example = make_example(device)
    options = {"reduction": reduction, "backend": quick_backend, "chunk_bytes": chunk_bytes}
    loss = linear(example, **options)
    expected = unfused(example.logits, *example.labels, reduction=reduction)
    assert loss.shape == expected.shape
    check(loss, expected, example.projection)
    logits = example.logits.detach().requires_grad_()
    dense = ctc_loss(logits, *example.labels, **options)
    assert dense.shape == expected.shape
    check(dense, unfused(logits, *example.labels, reduction=reduction), (logits,))


def test_log_probabilities_are_as_good_as_logits(backend: str, device: torch.device) -> None:
    example = make_example(device)
    logits = example.logits.detach()
    options = {"reduction": "none", "backend": backend}
    loss = ctc_loss(logits, *example.labels, **options)
    normalised = ctc_loss(logits.log_softmax(dim=2), *example.labels, **options)
    assert relative_error(normalised, loss) < 1e-6


@pytest.mark.parametrize("reduction", ["none", "sum"])
def test_utterance_losses_come_along_detached(
    quick_backend: str, device: torch.device, reduction: str
) -> None:
    example = make_example(device)
    options = {"reduction": reduction, "backend": quick_backend}
    result = linear(example, with_utterance_losses=True, **options)
    assert isinstance(result, CTCLosses)
    assert torch.equal(result.loss, linear(example, **options))
    assert not result.losses.requires_grad
    expected = unfused(example.logits, *example.labels, reduction="none")
    assert relative_error(result.losses, expected) < 1e-5
    on_logits = ctc_loss(example.logits, *example.labels, with_utterance_losses=True, **options)
    assert relative_error(on_logits.losses, expected) < 1e-5
    assert not on_logits.losses.requires_grad


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_the_loss_is_the_same(
    backend: str, device: torch.device, mode: Any
) -> None:
    example = make_example(device)
    loss = linear(example, backend=backend)
    with mode():
        alone = linear(example, backend=backend)
        dense = ctc_loss(example.logits, *example.labels, backend=backend)
    assert not alone.requires_grad
    for found in (alone, dense):
        torch.testing.assert_close(found, loss.detach(), rtol=1e-6, atol=0)


def test_auto_takes_torch_on_cpu() -> None:
    example = make_example(torch.device("cpu"))
    assert torch.equal(linear(example), linear(example, backend="torch"))


@pytest.mark.parametrize("reduction", ["none", "mean"])
@pytest.mark.parametrize("trained", [(0,), (1,), (2,), (0, 2), (1, 2)])
def test_frozen_parts(
    fast_backend: str, device: torch.device, reduction: str, trained: tuple[int, ...]
) -> None:
    example = make_example(device)
    expected = gradients(linear(example, backend="reference"), example.projection)
    for index, tensor in enumerate(example.projection):
        tensor.requires_grad_(index in trained)
    loss = linear(example, reduction=reduction, backend=fast_backend)
    if reduction == "none":
        loss = (loss / example.target_lengths.clamp(min=1)).mean()
    loss.backward()
    for index, tensor in enumerate(example.projection):
        if index in trained:
            assert tensor.grad is not None
            assert relative_error(tensor.grad, expected[index]) < 1e-4
        else:
            assert tensor.grad is None


@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_no_bias(quick_backend: str, device: torch.device, reduction: str) -> None:
    example = make_example(device)
    hidden, weight, _ = example.projection
    loss = linear_ctc_loss(
        hidden, weight, None, *example.labels, reduction=reduction, backend=quick_backend
    )
    expected = unfused(hidden @ weight.T, *example.labels, reduction=reduction)
    check(loss, expected, (hidden, weight))


def test_incoming_gradients_expanded_zero_and_repeated(
    fast_backend: str, device: torch.device
) -> None:
    example = make_example(device)
    losses = linear(example, reduction="none", backend=fast_backend)
    logits = example.logits.detach().requires_grad_()
    dense = ctc_loss(logits, *example.labels, reduction="none", backend=fast_backend)
    for loss, leaves in ((losses, example.projection), (dense, (logits,))):
        # sum() expands its incoming scalar without copies.
        once = gradients(loss.sum(), leaves, retain_graph=True)
        again = gradients(loss.sum(), leaves, retain_graph=True)
        thrice = gradients(loss.sum() * 3.0, leaves, retain_graph=True)
        nothing = gradients(loss.sum() * 0.0, leaves)
        for a, b, c, d in zip(once, again, thrice, nothing, strict=True):
            assert torch.equal(a, b)
            assert relative_error(c, 3.0 * a) < 1e-6
            assert not d.any()


def test_mean_twice_through_a_retained_graph(fast_backend: str, device: torch.device) -> None:
    example = make_example(device)
    loss = linear(example, backend=fast_backend)
    once = gradients(loss, example.projection, retain_graph=True)
    again = gradients(loss * 2.0, example.projection)
    for a, b in zip(once, again, strict=True):
        assert torch.equal(2.0 * a, b)


@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_a_second_derivative_is_refused(
    fast_backend: str, device: torch.device, reduction: str
) -> None:
    example = make_example(device)
    logits = example.logits.detach().requires_grad_()
    options = {"reduction": reduction, "backend": fast_backend}
    for loss, leaf in (
        (linear(example, **options), example.hidden),
        (ctc_loss(logits, *example.labels, **options), logits),
    ):
        (grad,) = torch.autograd.grad(loss.sum(), leaf, create_graph=True)
        with pytest.raises(BackendError, match="no second derivative"):
            grad.square().sum().backward()


def test_two_runs_agree_in_every_bit(engine_backend: str, device: torch.device) -> None:
    example = make_example(device)

    def run() -> list[Tensor]:
        loss = linear(example, backend=engine_backend, chunk_bytes=6 * ROW_BYTES)
        return [loss.detach().cpu(), *gradients(loss, example.projection)]

    for one, other in zip(run(), run(), strict=True):
        assert torch.equal(one, other)


def test_memory_layout_does_not_matter(fast_backend: str, device: torch.device) -> None:
    example = make_example(device)
    hidden = example.hidden.detach().transpose(0, 1).contiguous().transpose(0, 1)
    wide = torch.randn(11, 16, device=device)
    wide[:, ::2] = example.weight.detach()
    strided = replace(
        example, hidden=hidden.requires_grad_(), weight=wide[:, ::2].detach().requires_grad_()
    )
    assert not strided.hidden.is_contiguous()
    assert not strided.weight.is_contiguous()
    loss, expected = linear(strided, backend=fast_backend), linear(example, backend="reference")
    assert relative_error(loss, expected) < 1e-5
    pairs = zip(
        gradients(loss, strided.projection), gradients(expected, example.projection), strict=True
    )
    for found, wanted in pairs:
        assert relative_error(found, wanted) < 1e-4
    logits = example.logits.detach()
    time_first = logits.transpose(0, 1).contiguous().transpose(0, 1)
    losses = [
        ctc_loss(values.requires_grad_(), *example.labels, backend=fast_backend)
        for values in (time_first, logits)
    ]
    assert torch.equal(losses[0], losses[1])
    assert torch.equal(gradients(losses[0], [time_first])[0], gradients(losses[1], [logits])[0])


def test_forms_of_targets_and_lengths(quick_backend: str, device: torch.device) -> None:
    example = make_example(device)
    targets, input_lengths, target_lengths = example.labels
    expected = linear(example, reduction="none", backend=quick_backend)
    inside = torch.arange(targets.shape[1], device=device) < target_lengths.unsqueeze(1)
    forms = [
        (targets.int(), input_lengths.int(), target_lengths.int()),
        (targets, input_lengths.tolist(), target_lengths.tolist()),
        (targets, tuple(input_lengths.tolist()), target_lengths.cpu()),
        (targets, input_lengths.cpu(), target_lengths),
        (targets[inside], input_lengths, target_lengths.tolist()),
        (targets[inside].int(), input_lengths, target_lengths),
    ]
    for form in forms:
        found = linear_ctc_loss(*example.projection, *form, reduction="none", backend=quick_backend)
        # Packed rows meet other rows in a product, which can round them differently.
        assert relative_error(found, expected) < 1e-6


def test_gradcheck_of_unnormalised_logits_and_projections(device: torch.device) -> None:
    example = make_example(device, dtype=torch.float64, classes=5, width=3)
    logits = example.logits.detach().requires_grad_()
    options: dict[str, Any] = {"backend": "torch", "entropy_bonus": 0.1, "label_smoothing": 0.1}
    for reduction in ("mean", "none"):
        assert torch.autograd.gradcheck(
            lambda x, how=reduction: ctc_loss(x, *example.labels, reduction=how, **options),
            (logits,),
        )
        assert torch.autograd.gradcheck(
            lambda *x, how=reduction: linear_ctc_loss(
                *x, *example.labels, reduction=how, **options
            ),
            example.projection,
        )
