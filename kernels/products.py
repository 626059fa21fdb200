"""Matrix products that are added up in float32 whatever the dtype of their operands."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

aten = torch.ops.aten


def multiply(left: Tensor, right: Tensor, out: Tensor) -> None:
    """Write the product of two matrices, or of two batches of them, to ``out``.

    ``out`` has the operands' dtype or float32. On CUDA the library writes its float32 sums;
    elsewhere a product of bfloat16 operands is rounded once, one of float16 could overflow.
    """
    left, right = _safe(left), _safe(right)
    if out.dtype == left.dtype:
        torch.matmul(left, right, out=out)
    elif _is_cuda(left):
        product = aten.mm.dtype_out if left.ndim == 2 else aten.bmm.dtype_out
        product(left, right, out.dtype, out=out)
    else:
        out.copy_(left @ right)


def accumulate(left: Tensor, right: Tensor, total: Tensor) -> None:
    """Add the product of two matrices, or of two batches of them, to ``total``; as above."""
    left, right = _safe(left), _safe(right)
    if total.dtype == left.dtype:
        total.addmm_(left, right) if left.ndim == 2 else total.baddbmm_(left, right)
    elif _is_cuda(left) and _adds_wide(left.device, left.dtype):
        add = aten.addmm.dtype_out if left.ndim == 2 else aten.baddbmm.dtype_out
        add(total, left, right, total.dtype, out=total)
    elif _is_cuda(left):
        product = torch.empty_like(total)
        multiply(left, right, product)
        total.add_(product)
    else:
        total.add_(left @ right)


def _safe(operand: Tensor) -> Tensor:
    return operand.float() if operand.dtype == torch.float16 and not _is_cuda(operand) else operand


def _is_cuda(operand: Tensor) -> bool:
    return operand.device.type == "cuda" and torch.version.hip is None


@functools.cache
def _adds_wide(device: torch.device, dtype: torch.dtype) -> bool:
    """Say whether the library adds narrow products to float32 in place; torch 2.8 refused."""
    left = torch.zeros((1, 8, 8), dtype=dtype, device=device)
    total = torch.zeros((1, 8, 8), dtype=torch.float32, device=device)
    try:
        aten.addmm.dtype_out(total[0], left[0], left[0], torch.float32, out=total[0])
        aten.baddbmm.dtype_out(total, left, left, torch.float32, out=total)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError):  # fake tensors raise the latter
        return False
    return True
