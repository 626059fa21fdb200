"""In which dtype the losses multiply, and in which they add up."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.errors import KernelInputError


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of losses, statistics and sums: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def product_dtype(op: str, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> torch.dtype:
    """Return the dtype of the operands of a projection: autocast's, else the arguments' own.

    Autocast leaves float64 alone, as it does in the framework's own products.

    Args:
        op: name of the op, for messages.
        hidden: what is projected; its device decides whether autocast is on.
        weight: of the projection.
        bias: likewise, or None.

    Raises:
        KernelInputError: the dtypes differ and autocast does not unite them.
    """
    parameters = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    dtypes = {hidden.dtype, *(tensor.dtype for tensor in parameters.values())}
    device_type = hidden.device.type
    if torch.is_autocast_enabled(device_type) and torch.float64 not in dtypes:
        return torch.get_autocast_dtype(device_type)
    for name, tensor in parameters.items():
        if tensor.dtype != hidden.dtype:
            raise KernelInputError(
                f"{op}: {name} is {tensor.dtype} but hidden is {hidden.dtype}; expected one dtype, "
                "or autocast for others than torch.float64"
            )
    return hidden.dtype
