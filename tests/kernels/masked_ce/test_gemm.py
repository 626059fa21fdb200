from __future__ import annotations

import pytest
import torch

from kernels.masked_ce.gemm import product_into


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_products_are_written_and_added(dtype: torch.dtype, device: torch.device) -> None:
    torch.manual_seed(0)
    left = torch.randn(40, 5, device=device).to(dtype).T
    right = torch.randn(40, 6, device=device).to(dtype)
    wide = torch.promote_types(dtype, torch.float32)
    out = torch.full((5, 6), torch.nan, device=device, dtype=wide)
    exact = left.double() @ right.double()
    product_into(out, left, right, add=False)
    tolerance = 1e-2 if dtype == torch.bfloat16 else 1e-4
    assert torch.allclose(out.double(), exact, atol=tolerance, rtol=tolerance)
    first = out.clone()
    product_into(out, left, right, add=True)
    assert torch.allclose(out, 2 * first)


def test_half_precision_products_do_not_overflow(device: torch.device) -> None:
    ones = torch.full((1, 1000), 100.0, device=device, dtype=torch.float16)
    out = torch.zeros(1, 1, device=device)
    product_into(out, ones, ones.T, add=True)
    assert float(out) == 1e7


def test_many_small_products_are_not_lost(device: torch.device) -> None:
    out = torch.zeros(1, 1, device=device)
    small = torch.full((1, 1), 2.0**-5, device=device, dtype=torch.bfloat16)
    product_into(out, torch.ones_like(small), torch.ones_like(small), add=False)
    for _ in range(64):
        product_into(out, small, small, add=True)
    assert float(out) == 1 + 64 / 1024
