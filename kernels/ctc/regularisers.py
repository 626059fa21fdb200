"""A pass over logits whose loss has more terms than CTC."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from kernels.ctc.engine import RowStatistics, Terms

BLOCK_BYTES: Final = 1 << 20
"""On CPU the pass goes by blocks of rows whose temporaries stay in the second-level cache."""


def regularised_rows(
    work: Tensor, places: Tensor, terms: Terms, *, gradient: bool
) -> RowStatistics:
    """Return the statistics of rows of logits; with ``gradient``, turn the logits into it.

    With p the softmax of a row, l its logarithm, H its entropy and q the other view's softmax, the
    gradient of all terms but the posteriors is::

        p + entropy_bonus * p (l + H) - label_smoothing / V + consistency * (p - q)

    Args:
        work: (n, V) float32 or float64 logits with the blank penalty.
        places: (n, S) columns of each row.
        terms: options of the loss.
        gradient: whether to overwrite ``work`` with the gradient of rows of weight 1.
    """
    views = 2 if terms.consistency else 1
    pairs = work.unflatten(0, (views, -1))
    chosen = places.unflatten(0, (views, -1))
    height = pairs.shape[1]
    block = height
    if work.device.type == "cpu":
        block = max(1, BLOCK_BYTES // (views * work.shape[1] * work.dtype.itemsize))
    parts = [
        _block(
            pairs[:, start : start + block],
            chosen[:, start : start + block],
            terms,
            gradient=gradient,
        )
        for start in range(0, height, block)
    ]
    emissions, regulariser, entropy = (
        torch.cat(part, dim=1).flatten(0, 1) for part in zip(*parts, strict=True)
    )
    return RowStatistics(emissions, regulariser, entropy if terms.entropy_bonus else entropy[:0])


def _block(
    logits: Tensor, places: Tensor, terms: Terms, *, gradient: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Do (views, m, V) logits in place; return emissions, regulariser and entropy of the rows."""
    logs = torch.log_softmax(logits, dim=2)
    emissions = logs.gather(2, places)
    probabilities = logs.exp()
    regulariser = torch.zeros_like(logs[..., 0])
    entropy = torch.zeros_like(regulariser)
    if gradient:
        torch.mul(probabilities, 1.0 + terms.consistency, out=logits)
    if terms.label_smoothing:
        regulariser -= terms.label_smoothing * logs.mean(dim=2)
        if gradient:
            logits -= terms.label_smoothing / logs.shape[2]
    if terms.entropy_bonus:
        surprise = torch.where(probabilities == 0, 0.0, probabilities * logs)
        entropy = -surprise.sum(dim=2)
        regulariser -= terms.entropy_bonus * entropy
        if gradient:
            logits += terms.entropy_bonus * (surprise + probabilities * entropy.unsqueeze(2))
    if terms.consistency:
        other = probabilities.flip(0)
        divergence = torch.where(other == 0, 0.0, other * (logs.flip(0) - logs)).sum(dim=2)
        regulariser += terms.consistency * divergence
        if gradient:
            logits -= terms.consistency * other
    return emissions, regulariser, entropy
