"""What the op accepts: shapes, dtypes and devices at once, content where asked for."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.errors import KernelInputError, LabelError
from kernels.sharding import is_sharded

REDUCTIONS = ("none", "mean", "sum")
OP = "masked_cross_entropy"


def check_arguments(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    mask: Tensor,
    *,
    reduction: str,
    max_masked: int | None,
    chunk_bytes: int | None,
) -> None:
    """Refuse what no computation can be done with; looks at no element.

    Raises:
        KernelInputError: says which argument, what was found and what was expected.
    """
    if reduction not in REDUCTIONS:
        raise KernelInputError(f"{OP}: reduction is {reduction!r}; expected none, mean or sum")
    if max_masked is not None and max_masked < 0:
        raise KernelInputError(f"{OP}: max_masked is {max_masked}; expected at least 0")
    if chunk_bytes is not None and chunk_bytes < 1:
        raise KernelInputError(f"{OP}: chunk_bytes is {chunk_bytes}; expected at least 1")
    _check_shapes(hidden, weight, bias, targets, mask)
    named = {"hidden": hidden, "weight": weight, "targets": targets, "mask": mask}
    if bias is not None:
        named["bias"] = bias
    for name, tensor in named.items():
        _check_place(name, tensor, hidden.device)
    for name in ("hidden", "weight", "bias"):
        if name in named and not named[name].dtype.is_floating_point:
            raise KernelInputError(f"{OP}: {name} is {named[name].dtype}; expected floating point")
    if targets.dtype not in (torch.int64, torch.int32):
        raise KernelInputError(f"{OP}: targets are {targets.dtype}; expected torch.int64")
    if mask.dtype != torch.bool:
        raise KernelInputError(f"{OP}: mask is {mask.dtype}; expected torch.bool")


def _check_shapes(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, mask: Tensor
) -> None:
    if hidden.dim() != 3:
        raise KernelInputError(f"{OP}: hidden is {_shape(hidden)}; expected (B, T, D)")
    if weight.dim() != 3:
        hint = "; for one codebook pass weight[None]" if weight.dim() == 2 else ""
        raise KernelInputError(f"{OP}: weight is {_shape(weight)}; expected (C, V, D){hint}")
    batch, frames, width = hidden.shape
    books, vocabulary, _ = weight.shape
    expected = {
        "weight": (weight, (books, vocabulary, width)),
        "targets": (targets, (batch, frames, books)),
        "mask": (mask, (batch, frames)),
    }
    if bias is not None:
        expected["bias"] = (bias, (books, vocabulary))
    for name, (tensor, shape) in expected.items():
        if tensor.shape != shape:
            raise KernelInputError(
                f"{OP}: {name} is {_shape(tensor)}; expected {shape}, since hidden is "
                f"{_shape(hidden)} (B, T, D) and weight {_shape(weight)} (C, V, D)"
            )
    if books < 1 or vocabulary < 1:
        raise KernelInputError(f"{OP}: weight is {_shape(weight)}; expected C and V of at least 1")


def _check_place(name: str, tensor: Tensor, device: torch.device) -> None:
    if is_sharded(tensor):
        raise KernelInputError(
            f"{OP}: {name} is a DTensor; pass {name}.full_tensor(), whose backward pass "
            "shards the gradient again"
        )
    if tensor.device != device and not (name == "mask" and tensor.device.type == "cpu"):
        raise KernelInputError(
            f"{OP}: {name} is on {tensor.device}, hidden on {device}; expected one device"
        )


def check_content(targets: Tensor, mask: Tensor, vocabulary: int, max_masked: int | None) -> None:
    """Refuse targets of masked frames outside [0, V), and too many masked frames.

    Makes the host wait for the device.

    Raises:
        KernelInputError: too many frames.
        LabelError: with the first index at fault.
    """
    count = int(mask.sum())
    if max_masked is not None and count > max_masked:
        raise KernelInputError(f"{OP}: mask selects {count} frames; max_masked is {max_masked}")
    wrong = ((targets < 0) | (targets >= vocabulary)) & mask.to(targets.device).unsqueeze(-1)
    if bool(wrong.any()):
        frame = tuple(wrong.nonzero()[0].tolist())
        raise LabelError(
            f"{OP}: targets[{', '.join(map(str, frame))}] is {int(targets[frame])} in a masked "
            f"frame; expected an id in [0, {vocabulary})"
        )


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)
