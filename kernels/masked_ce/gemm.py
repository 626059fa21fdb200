"""Matrix products of half-precision operands whose sums stay in float32."""

from __future__ import annotations

import torch
from torch import Tensor


def product_into(out: Tensor, left: Tensor, right: Tensor, *, add: bool) -> None:
    """Write ``left @ right`` to ``out``, or add it; the sum of several stays in float32.

    CUDA also returns each product in float32. CPUs round one of bfloat16 once before it is added.

    Args:
        out: (m, n) of the operands' dtype or float32.
        left: (m, k).
        right: (k, n) of the same dtype as ``left``.
        add: whether to add to what ``out`` holds; else that is ignored, NaN too.
    """
    wide = left.device.type == "cuda" and torch.version.hip is None
    if left.dtype == torch.float16 and not wide:
        # There is no product with a float32 result, and one in float16 would overflow.
        left, right = left.float(), right.float()
    if out.dtype == left.dtype:
        if add:
            out.addmm_(left, right)
        else:
            torch.mm(left, right, out=out)
    elif wide:
        # Not addmm, whose out_dtype refuses a float32 addend in some versions of torch.
        if add:
            out.add_(torch.mm(left, right, out_dtype=out.dtype))
        else:
            torch.mm(left, right, out_dtype=out.dtype, out=out)
    elif add:
        out.add_(torch.mm(left, right))
    else:
        out.copy_(torch.mm(left, right))
