"""Half precision, autocast, confident models and extreme logits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from tests.kernels.masked_ce.examples import (
    ALL_BACKENDS,
    BACKENDS,
    Example,
    assert_close,
    dense,
    example,
    skip_if_interpreting,
)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_takes_its_dtype_for_products_alone(
    backend: str, dtype: torch.dtype, device: torch.device
) -> None:
    skip_if_interpreting(backend)
    given = example(device, width=32).leaves()
    given = replace(given, hidden=given.hidden.detach().to(dtype).requires_grad_())
    with torch.autocast(device.type, dtype):
        loss = given.loss(backend=backend).loss
    grads = given.gradients(loss)
    assert loss.dtype == torch.float32
    assert [grad.dtype for grad in grads] == [dtype, torch.float32, torch.float32]
    oracle = given.to(torch.float64).leaves()
    expected = dense(oracle)
    assert_close([loss], [expected], 1e-2)
    assert_close(grads, oracle.gradients(expected), 2e-2)


@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast_leaves_float64_alone(backend: str, device: torch.device) -> None:
    given = example(device, dtype=torch.float64)
    expected = given.loss(backend=backend).loss
    with torch.autocast(device.type, torch.bfloat16):
        assert torch.equal(given.loss(backend=backend).loss, expected)
    assert expected.dtype == torch.float64


def confident(device: torch.device, certainty: float, *, width: int = 64) -> Example:
    """Return an example in which each target has about this probability."""
    given = example(device, shape=(4, 40), books=1, vocabulary=256, width=width, bias=False)
    weight = F.normalize(given.weight, dim=-1)
    hidden = weight[0][given.targets[..., 0] % 256]
    low, high = 0.0, 60.0
    for _ in range(40):
        middle = (low + high) / 2
        p = (middle * hidden @ weight[0].T).softmax(-1).amax(-1).mean()
        low, high = (middle, high) if p < certainty else (low, middle)
    return replace(given, hidden=hidden * low, weight=weight)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("certainty", [0.05, 0.9, 0.999])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("chunk_bytes", [None, 1 << 15])
@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_errs_no_more_than_the_frameworks_own(
    backend: str,
    certainty: float,
    dtype: torch.dtype,
    chunk_bytes: int | None,
    autocast: bool,
    device: torch.device,
) -> None:
    skip_if_interpreting(backend)
    given = confident(device, certainty)
    if not autocast:
        given = given.to(dtype)
    ours, theirs, oracle = given.leaves(), given.leaves(), given.to(torch.float64).leaves()
    exact = oracle.gradients(dense(oracle, "sum"))
    with torch.autocast(device.type, dtype, enabled=autocast):
        loss = ours.loss(reduction="sum", backend=backend, chunk_bytes=chunk_bytes).loss
        native = dense(theirs, "sum")
    # CPUs round the products of several chunks, and then bfloat16 parameters round their sum.
    rounds_twice = device.type == "cpu" and not autocast and chunk_bytes is not None
    factor = 1.25 if rounds_twice and dtype == torch.bfloat16 else 1.02
    for one, other, right in zip(
        ours.gradients(loss), theirs.gradients(native), exact, strict=True
    ):
        assert (one - right).norm() <= factor * (other - right).norm()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_confident_models_gradient_keeps_its_digits(backend: str, device: torch.device) -> None:
    given = confident(device, 0.999999).leaves()
    oracle = given.to(torch.float64).leaves()
    loss, expected = given.loss(backend=backend).loss, dense(oracle)
    assert expected < 1e-4
    assert_close([loss * 1e6], [expected * 1e6], 2e-5)
    grads, exact = given.gradients(loss * 1e6), oracle.gradients(expected * 1e6)
    assert_close(grads, exact, 2e-5)


@pytest.mark.parametrize("backend", ALL_BACKENDS)
def test_logits_may_be_huge_or_impossible(backend: str, device: torch.device) -> None:
    given = example(device, masked=2.0, books=1)
    assert given.bias is not None
    bias = given.bias * 1e4
    bias[0, 5] = -torch.inf
    given = replace(given, bias=bias, targets=given.targets.where(given.targets != 5, 6)).leaves()
    found, expected = given.loss(backend=backend).loss, dense(given.to(torch.float64))
    assert_close([found], [expected], 1e-5)
    grads = given.gradients(found)
    assert all(grad.isfinite().all() for grad in grads)
    assert grads[1][0, 5].eq(0).all()
    assert grads[2][0, 5] == 0
    assert given.bias is not None
    impossible = replace(given, targets=torch.full_like(given.targets, 5))
    assert impossible.loss(backend=backend).loss.isposinf()
