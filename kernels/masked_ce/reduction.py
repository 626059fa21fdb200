"""From the losses of rows to the loss of a batch."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kernels.masked_ce.rows import Rows


class Reduced(NamedTuple):
    """The fields of MaskedLoss, and what the gradient of the losses' sum has to be scaled by."""

    loss: Tensor
    losses: Tensor
    correct: Tensor
    masked: Tensor
    scale: Tensor


def reduce(losses: Tensor, hits: Tensor, rows: Rows, mask: Tensor, reduction: str) -> Reduced:
    """Reduce (N, C) losses and hits; NaN losses if masked frames are missing among the rows.

    Args:
        losses: of rows; those of frames that are not masked do not matter.
        hits: likewise.
        rows: which frames they are.
        mask: (B, T).
        reduction: none, mean or sum.
    """
    losses = rows.blank(losses)
    share = 1.0 / rows.count.clamp(min=1).to(losses.dtype)
    sums = losses.sum(dim=0)
    per_book = sums if reduction == "sum" else sums * share
    scale = torch.ones_like(share)
    if reduction == "mean":
        loss, scale = per_book.mean(), share / losses.shape[1]
    elif reduction == "sum":
        loss = per_book.sum()
    else:
        loss = rows.spread(losses, mask.numel()).view(*mask.shape, losses.shape[1])
    if reduction != "none":
        loss = rows.refuse(loss)
    elif rows.overflow is not None:
        missing = mask.to(loss.device).unsqueeze(-1) & rows.overflow
        loss = loss.masked_fill(missing, torch.nan)
    correct = rows.blank(hits).sum(dim=0)
    return Reduced(loss, rows.refuse(per_book), correct, rows.count, rows.refuse(scale))
