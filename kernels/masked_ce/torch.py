"""The pass over logits in plain torch operations, in place, for any device."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from kernels.dtypes import accumulation_dtype
from kernels.masked_ce.engine import RowResults


class TorchEngine:
    """Softmax and gradient by in-place operations on a chunk that stays in cache."""

    def bytes_per_logit(self, dtype: torch.dtype) -> int:
        """Half-precision logits are widened to float32 beside their buffer."""
        return dtype.itemsize + (4 if dtype.itemsize == 2 else 0)

    def rows(
        self,
        logits: Tensor,
        targets: Tensor,
        weights: Tensor | None,
        *,
        gradient: bool,
    ) -> RowResults:
        """See :class:`kernels.masked_ce.engine.Engine`."""
        work = logits.to(accumulation_dtype(logits.dtype))
        known = (targets >= 0) & (targets < logits.shape[1])
        column = torch.where(known, targets, 0).unsqueeze(1)
        top, best = work.max(dim=1, keepdim=True)
        score = work.gather(1, column)
        hits = (best == column).squeeze(1) & known

        # Relative to the largest logit; the target leaves the sum, so that 1 - p is a quotient.
        work.sub_(top).exp_()
        mine = work.gather(1, column)
        work.scatter_(1, column, 0.0)
        others = work.sum(dim=1, keepdim=True)
        total = others + mine
        losses = (top - score) + torch.where(score == top, others.log1p(), total.log())
        losses = losses.squeeze(1).masked_fill(~known, torch.nan)
        if gradient:
            factors = torch.ones_like(total) if weights is None else weights.unsqueeze(1)
            factors = factors.masked_fill(~known.unsqueeze(1), torch.nan)
            work.mul_(factors / total)
            work.scatter_(1, column, -factors * others / total)
            if weights is not None:
                work.masked_fill_((weights == 0).unsqueeze(1), 0.0)
            if work is not logits:
                logits.copy_(work)
        return RowResults(losses, hits)


ENGINE: Final = TorchEngine()
