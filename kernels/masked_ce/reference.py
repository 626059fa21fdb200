"""The loss as its equation says, in float64, differentiated by autograd. For tests."""

from __future__ import annotations

import torch
from torch import Tensor


def losses_and_hits(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Return -log p[target] and whether the target is the first maximum, for masked frames.

    Args:
        hidden: (B, T, D).
        weight: (C, V, D).
        bias: (C, V) or None.
        targets: (B, T, C) int64; one outside [0, V) gives NaN.
        mask: (B, T) bool.

    Returns:
        Two (N, C) tensors, float64 and bool, in the order of ``mask.nonzero()``.
    """
    mask = mask.to(hidden.device)
    with torch.autocast(hidden.device.type, enabled=False):
        logits = torch.einsum("nd,cvd->ncv", hidden[mask].double(), weight.double())
    if bias is not None:
        logits = logits + bias.double()
    wanted = targets[mask].long()
    known = (wanted >= 0) & (wanted < weight.shape[1])
    column = wanted.where(known, 0).unsqueeze(-1)
    losses = -logits.log_softmax(dim=-1).gather(-1, column).squeeze(-1)
    return losses.where(known, torch.nan), (logits.argmax(dim=-1) == wanted) & known
