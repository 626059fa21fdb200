"""Accuracy for long utterances, and of narrow dtypes, against float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.ctc import ctc_loss, linear_ctc_loss
from tests.kernels.ctc.oracles import Example, gradients, make_example, relative_error, unfused


@pytest.mark.parametrize("scale", [1.0, 6.0])
def test_twenty_times_as_accurate_as_the_framework(
    fast_backend: str, device: torch.device, scale: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    frames, classes = 1000, 128
    logits = (torch.randn(2, frames, classes, generator=generator) * scale).to(device)
    targets = torch.randint(1, classes, (2, frames // 7), generator=generator).to(device)
    lengths = [frames, frames], [frames // 7, frames // 7]
    logits.requires_grad_()

    def error(loss: Tensor) -> float:
        (grad,) = gradients(loss, [logits])
        return relative_error(grad, wanted)

    expected = ctc_loss(logits.double(), targets, *lengths, reduction="sum", backend="torch")
    (wanted,) = gradients(expected, [logits])
    ours = ctc_loss(logits, targets, *lengths, reduction="sum", backend=fast_backend)
    native = F.ctc_loss(
        logits.cpu().log_softmax(2).transpose(0, 1), targets.cpu(), *lengths, reduction="sum"
    )
    assert relative_error(ours, expected) < 1e-6
    assert error(ours) * 20 < error(native)


def test_sixteen_thousand_frames(device: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (torch.randn(1, 16000, 8, generator=generator) * 3).to(device).requires_grad_()
    targets = torch.randint(1, 8, (1, 300), generator=generator).to(device)
    options: dict[str, Any] = {"reduction": "sum"}
    loss = ctc_loss(logits, targets, [16000], [300], backend="torch", **options)
    wide = logits.detach().double().requires_grad_()
    expected = unfused(wide, targets, torch.tensor([16000]), torch.tensor([300]), **options)
    assert relative_error(loss, expected) < 1e-6
    assert relative_error(gradients(loss, [logits])[0], gradients(expected, [wide])[0]) < 1e-4


def unfused_in(dtype: torch.dtype, example: Example) -> Tensor:
    """Compute as with the framework's functions: projection in ``dtype``, the rest in float32."""
    hidden, weight, bias = (part.to(dtype) for part in example.projection)
    log_probs = F.linear(hidden, weight, bias).float().log_softmax(dim=2)
    targets, input_lengths, target_lengths = (part.cpu() for part in example.labels)
    return F.ctc_loss(log_probs.cpu().transpose(0, 1), targets, input_lengths, target_lengths)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [1.0, 8.0])
def test_narrow_dtypes_are_no_worse_than_without_fusion(
    fast_backend: str, device: torch.device, dtype: torch.dtype, scale: float
) -> None:
    example = make_example(
        device,
        input_lengths=(60, 44),
        target_lengths=(12, 9),
        classes=200,
        width=64,
        scale=scale,
    )
    # Inputs that the narrow dtype holds exactly, so that only the computation is compared.
    narrow = example.to(dtype)
    exact = narrow.to(torch.float64)
    wanted = gradients(unfused(exact.logits, *exact.labels), exact.projection)
    loss = linear_ctc_loss(
        *narrow.projection, *narrow.labels, chunk_bytes=40 * 200 * 4, backend=fast_backend
    )
    assert loss.dtype == torch.float32
    ours = gradients(loss, narrow.projection)
    leaves = narrow.to(torch.float32)
    native = gradients(unfused_in(dtype, leaves), leaves.projection)
    for found, other, expected in zip(ours, native, wanted, strict=True):
        assert relative_error(found, expected) < max(3e-3, 1.1 * relative_error(other, expected))


def test_narrow_logits(backend: str, device: torch.device) -> None:
    example = make_example(device)
    for dtype, tolerance in ((torch.bfloat16, 5e-3), (torch.float16, 1e-3)):
        logits = example.logits.detach().to(dtype).requires_grad_()
        loss = ctc_loss(logits, *example.labels, reduction="sum", backend=backend)
        expected = unfused(logits, *example.labels, reduction="sum")
        assert relative_error(loss, expected) < 1e-5
        grad = torch.autograd.grad(loss, logits)[0]
        assert grad.dtype == dtype
        wide = logits.detach().double().requires_grad_()
        (wanted,) = gradients(unfused(wide, *example.labels, reduction="sum"), [wide])
        assert relative_error(grad, wanted) < tolerance


def test_float16_keeps_gradients_that_it_has_no_numbers_for(
    engine_backend: str, device: torch.device
) -> None:
    example = make_example(device).to(torch.float16)
    exact = example.to(torch.float64)
    tiny = 1e-9
    losses = linear_ctc_loss(
        *(part.float().detach().requires_grad_() for part in example.projection),
        *example.labels,
        backend="torch",
    )
    assert losses.isfinite()
    with torch.autocast(device.type, dtype=torch.float16):
        leaves = example.to(torch.float32)
        loss = linear_ctc_loss(*leaves.projection, *leaves.labels, backend=engine_backend)
        each = linear_ctc_loss(
            *leaves.projection, *leaves.labels, reduction="none", backend=engine_backend
        )
    wanted = gradients(unfused(exact.logits, *exact.labels), exact.projection)
    for found, expected in zip(gradients(loss * tiny, leaves.projection), wanted, strict=True):
        assert relative_error(found / tiny, expected) < 5e-3
    mean = (each * (tiny / 3 / leaves.target_lengths.clamp(min=1))).sum()
    for found, expected in zip(gradients(mean, leaves.projection), wanted, strict=True):
        assert relative_error(found / tiny, expected) < 5e-3


@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_autocast(engine_backend: str, device: torch.device, reduction: str) -> None:
    example = make_example(device)
    options = {"backend": engine_backend, "reduction": reduction}
    plain = linear_ctc_loss(*example.projection, *example.labels, **options)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        loss = linear_ctc_loss(*example.projection, *example.labels, **options)
        logits = example.logits.detach().float().requires_grad_()
        dense = ctc_loss(logits, *example.labels, **options)
    assert loss.dtype == torch.float32
    # Products in bfloat16 differ a little; had the op ignored autocast, they would not.
    assert 0 < relative_error(loss, plain) < 2e-2
    for leaf, found, wanted in zip(
        example.projection,
        torch.autograd.grad(loss.sum(), example.projection),
        gradients(plain.sum(), example.projection),
        strict=True,
    ):
        assert found.dtype == leaf.dtype
        assert relative_error(found, wanted) < 3e-2
    outside = ctc_loss(logits, *example.labels, **options)
    assert torch.equal(dense, outside)
