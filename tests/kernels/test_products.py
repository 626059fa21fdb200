"""Products with float32 sums."""

from __future__ import annotations

import pytest
import torch

from kernels.products import accumulate, multiply


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("batches", [(), (3,)])
def test_products(dtype: torch.dtype, batches: tuple[int, ...], device: torch.device) -> None:
    left = torch.randn(*batches, 5, 16, device=device).to(dtype)
    right = torch.randn(*batches, 16, 7, device=device).to(dtype)
    wide = torch.promote_types(dtype, torch.float32)
    out = torch.full((*batches, 5, 7), torch.nan, dtype=wide, device=device)
    multiply(left, right, out)
    expected = left.double() @ right.double()
    tolerance = 1e-2 if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(out.double(), expected, rtol=tolerance, atol=tolerance)
    before = out.clone()
    accumulate(left, right, out)
    torch.testing.assert_close(out, 2 * before, rtol=1e-5, atol=1e-5)


def test_many_small_terms_are_not_lost() -> None:
    one = torch.ones(1, 1, dtype=torch.bfloat16)
    total = torch.zeros(1, 1)
    for _ in range(1000):
        accumulate(one, one, total)
    assert total.item() == 1000.0


def test_float16_does_not_overflow() -> None:
    left = torch.full((1, 64), 60.0, dtype=torch.float16)
    out = torch.empty(1, 1)
    multiply(left, left.T, out)
    assert out.item() == 64 * 3600.0


def test_transposed_operands_and_parts_of_a_tensor(device: torch.device) -> None:
    left = torch.randn(16, 5, device=device, dtype=torch.bfloat16).T
    right = torch.randn(16, 7, device=device, dtype=torch.bfloat16)
    out = torch.zeros(3, 5, 7, device=device)
    multiply(left, right, out[1])
    accumulate(left, right, out[1])
    expected = 2 * (left.double() @ right.double())
    torch.testing.assert_close(out[1].double(), expected, rtol=1e-2, atol=2e-2)
    assert out[0].eq(0).all()
    assert out[2].eq(0).all()
