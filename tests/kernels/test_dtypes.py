from __future__ import annotations

import pytest
import torch

from kernels.dtypes import accumulation_dtype, product_dtype
from kernels.errors import KernelInputError

HALF, SINGLE, DOUBLE = torch.float16, torch.float32, torch.float64


@pytest.mark.parametrize("dtype", [HALF, torch.bfloat16, SINGLE])
def test_sums_are_float32_unless_the_arguments_are_wider(dtype: torch.dtype) -> None:
    assert accumulation_dtype(dtype) == SINGLE
    assert accumulation_dtype(DOUBLE) == DOUBLE


@pytest.mark.parametrize("dtype", [HALF, SINGLE, DOUBLE])
@pytest.mark.parametrize("biased", [False, True])
def test_without_autocast_products_have_the_arguments_dtype(
    dtype: torch.dtype, biased: bool
) -> None:
    argument = torch.zeros(1, dtype=dtype)
    assert product_dtype("op", argument, argument, argument if biased else None) == dtype


def test_autocast_unites_what_is_not_float64() -> None:
    hidden, weight, bias = (torch.zeros(1, dtype=dtype) for dtype in (HALF, SINGLE, HALF))
    wide = torch.zeros(1, dtype=DOUBLE)
    with torch.autocast("cpu", torch.bfloat16):
        assert product_dtype("op", hidden, weight, bias) == torch.bfloat16
        assert product_dtype("op", wide, wide, wide) == DOUBLE


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize(
    ("dtypes", "message"),
    [
        ((DOUBLE, SINGLE, DOUBLE), "weight is torch.float32 but hidden is torch.float64"),
        ((SINGLE, DOUBLE, SINGLE), "weight is torch.float64 but hidden is torch.float32"),
        ((SINGLE, SINGLE, DOUBLE), "bias is torch.float64 but hidden is torch.float32"),
    ],
)
def test_float64_is_not_mixed_with_others(
    dtypes: tuple[torch.dtype, ...], message: str, autocast: bool
) -> None:
    hidden, weight, bias = (torch.zeros(1, dtype=dtype) for dtype in dtypes)
    with (
        torch.autocast("cpu", torch.bfloat16, enabled=autocast),
        pytest.raises(KernelInputError, match=rf"op: {message}; expected one dtype"),
    ):
        product_dtype("op", hidden, weight, bias)
