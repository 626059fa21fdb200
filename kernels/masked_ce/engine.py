"""What a backend has to provide: one pass over a chunk of logits."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class RowResults(NamedTuple):
    """What the pass yields for each row of logits.

    Args:
        losses: (n,) negative log-likelihood of the target in nats, float32 (float64 for float64
            logits); NaN for a target outside [0, V).
        hits: (n,) bool, whether the target is the most likely class; the lowest of equals counts.
    """

    losses: Tensor
    hits: Tensor


class Engine(Protocol):
    """The pass; it is deterministic and does not make the host wait for the device."""

    def bytes_per_logit(self, dtype: torch.dtype) -> int:
        """Return what a logit of ``dtype`` takes at the peak, for the size of a chunk."""
        ...

    def rows(
        self,
        logits: Tensor,
        targets: Tensor,
        weights: Tensor | None,
        *,
        gradient: bool,
    ) -> RowResults:
        """Return loss and hit of each row; overwrite the logits with their gradient.

        The gradient of a row is its weight times softmax minus one-hot. The target's element,
        -(1 - p), is taken from the sum over the other classes: the difference would lose all
        its digits where the model is confident.

        Args:
            logits: (n, V) contiguous; without ``gradient`` they become undefined.
            targets: (n,) int64. One outside [0, V) reads nothing; its loss and gradient are NaN.
            weights: (n,) of the dtype of the losses; None for ones. A row of weight 0 gets
                gradient 0 whatever its logits and target.
            gradient: whether to write it.
        """
        ...
