"""Masked-token prediction over C codebooks: the public function."""

from __future__ import annotations

from typing import Literal, NamedTuple, overload

import torch
from torch import Tensor

from kernels.dtypes import accumulation_dtype, product_dtype
from kernels.gradients import needed_gradients
from kernels.masked_ce import library, reference
from kernels.masked_ce.arguments import OP, check_arguments, check_content
from kernels.masked_ce.reduction import reduce
from kernels.masked_ce.rows import select_rows


class MaskedLoss(NamedTuple):
    """The loss with what the same pass counts; nothing but ``loss`` is differentiable.

    Args:
        loss: () or, with reduction none, (B, T, C).
        losses: (C,) of each codebook: the sum over masked frames with reduction sum, else the mean
            (0 without masked frames).
        correct: (C,) int64 masked frames whose most likely class is the target.
        masked: () int64 masked frames.
    """

    loss: Tensor
    losses: Tensor
    correct: Tensor
    masked: Tensor


@overload
def masked_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    mask: Tensor,
    *,
    reduction: str = ...,
    max_masked: int | None = ...,
    validate: bool | None = ...,
    chunk_bytes: int | None = ...,
    backend: str = ...,
    with_statistics: Literal[False] = ...,
) -> Tensor: ...


@overload
def masked_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    mask: Tensor,
    *,
    reduction: str = ...,
    max_masked: int | None = ...,
    validate: bool | None = ...,
    chunk_bytes: int | None = ...,
    backend: str = ...,
    with_statistics: Literal[True],
) -> MaskedLoss: ...


def masked_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    mask: Tensor,
    *,
    reduction: str = "mean",
    max_masked: int | None = None,
    validate: bool | None = None,
    chunk_bytes: int | None = None,
    backend: str = "auto",
    with_statistics: bool = False,
) -> Tensor | MaskedLoss:
    """Return the cross-entropy of masked frames' targets under one linear head per codebook.

    The loss of BEST-RQ (Chiu et al. 2022, section 3) and NEST (Huang et al. 2024), with
    logits computed for masked frames alone and a chunk at a time. For mean and sum the gradient is
    computed in the forward pass, 6 N C V D operations in all for N frames; no gradient is
    filtered. For none, whose gradient needs the incoming weights, the backward pass computes the
    logits again. Losses and the gradients' sums are float32 (float64 for float64 arguments); a
    gradient is cast once, to its argument's dtype.

    On CPU exactly the masked frames are computed; so they are on CUDA if ``mask`` is on the host.
    With a mask on CUDA their number is not known without waiting for the device: ``max_masked``
    frames are computed then, or without it all B * T, at their full cost. What stands in frames
    that are not masked, in ``hidden`` and ``targets``, does not matter. Without masked frames loss
    and gradients are 0.

    Under autocast the operands of matrix products, and the logits, have its dtype.

    Args:
        hidden: (B, T, D) float16, bfloat16, float32 or float64.
        weight: (C, V, D).
        bias: (C, V), or None.
        targets: (B, T, C) int64 ids in [0, V) where masked.
        mask: (B, T) bool, on the device of ``hidden`` or on CPU.
        reduction: mean over masked frames and codebooks, sum, or none: (B, T, C), 0 where not
            masked.
        max_masked: bound on the number of masked frames. More than that give a NaN loss, an error
            when validating.
        validate: whether to refuse wrong targets with their index, which on CUDA makes the host
            wait for the device; None validates on CPU alone. Unvalidated, a wrong target gives a
            NaN loss and reads no foreign memory.
        chunk_bytes: budget for logits; by default 8 MiB on CPU and 128 MiB on CUDA.
        backend: auto, reference, torch or triton; see :func:`kernels.dispatch.choose`.
        with_statistics: whether to return :class:`MaskedLoss`; costs nothing.

    Raises:
        KernelInputError: an argument's shape, dtype, device or content is wrong.
            LabelError, which is one, for a target.
        BackendError: the backend cannot run here, or a second derivative is asked for.
    """
    check_arguments(
        hidden,
        weight,
        bias,
        targets,
        mask,
        reduction=reduction,
        max_masked=max_masked,
        chunk_bytes=chunk_bytes,
    )
    dtype = product_dtype(OP, hidden, weight, bias)
    check = hidden.device.type == "cpu" if validate is None else validate
    if backend == "reference":
        if check:
            check_content(targets, mask, weight.shape[1], max_masked)
        result = _reference(hidden, weight, bias, targets, mask, reduction, max_masked)
    else:
        loss, losses, correct, masked, *_ = library.forward(
            hidden,
            weight,
            bias,
            targets,
            mask,
            reduction,
            max_masked,
            check,
            chunk_bytes,
            backend,
            dtype,
            needed_gradients(hidden, weight, bias),
        )
        result = MaskedLoss(loss, losses.detach(), correct, masked)
    return result if with_statistics else result.loss


def _reference(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    mask: Tensor,
    reduction: str,
    max_masked: int | None,
) -> MaskedLoss:
    losses, hits = reference.losses_and_hits(hidden, weight, bias, targets, mask)
    rows = select_rows(mask.cpu(), hidden.device, None)
    if max_masked is not None and len(rows) > max_masked:
        losses = losses * torch.nan
    loss, per_book, correct, masked, _ = reduce(losses, hits, rows, mask, reduction)
    dtype = accumulation_dtype(hidden.dtype)
    return MaskedLoss(loss.to(dtype), per_book.detach().to(dtype), correct, masked)
