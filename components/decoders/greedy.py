"""Best-path CTC decoding."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from components.losses.ctc import BLANK
from core.contracts import Hypothesis
from core.registry import register


@register("decoder", "greedy")
class GreedyDecoder:
    """Take the best token of each frame, collapse repeats, drop blanks (Graves et al. 2006, 3.2).

    Softmax and argmax run on the device for the whole batch; two (B, T) arrays are copied to the
    host. ``score`` is the log probability of that one path. A token's probability is the geometric
    mean of its posteriors over the frames it occupies.
    """

    @torch.no_grad()
    def __call__(self, logits: Tensor, lengths: Tensor) -> list[Hypothesis]:
        """Decode a batch.

        Args:
            logits: (B, T, V), of any floating type; log probabilities will do.
            lengths: (B,) int64, valid frames.

        Returns:
            One hypothesis for each utterance, spans in frames.
        """
        batch, frames, _ = logits.shape
        if frames == 0:
            return [Hypothesis(ids=()) for _ in range(batch)]
        best, ids = logits.log_softmax(dim=-1, dtype=torch.float32).max(dim=-1)
        inside = torch.arange(frames, device=ids.device) < lengths.to(ids.device).unsqueeze(1)
        ids = ids.masked_fill(~inside, BLANK)
        best = best.masked_fill(~inside, 0.0)
        return _collapse(ids.cpu().numpy(), best.double().cpu().numpy())


def _collapse(ids: NDArray[np.int64], best: NDArray[np.float64]) -> list[Hypothesis]:
    """Turn (B, T) best ids and their log probabilities, 0 in padding, into hypotheses."""
    batch = ids.shape[0]
    edge = np.ones((batch, 1), dtype=bool)
    changed = ids[:, 1:] != ids[:, :-1]
    spoken = ids != BLANK
    rows, starts = np.nonzero(np.concatenate([edge, changed], axis=1) & spoken)
    last = np.nonzero(np.concatenate([changed, edge], axis=1) & spoken)[1]
    total = np.concatenate([np.zeros((batch, 1)), best.cumsum(axis=1)], axis=1)
    spans = last + 1 - starts
    probabilities = np.exp((total[rows, last + 1] - total[rows, starts]) / spans)
    tokens = ids[rows, starts]
    bounds = np.searchsorted(rows, np.arange(batch + 1))
    return [
        Hypothesis(
            ids=tuple(tokens[begin:end].tolist()),
            starts=tuple(starts[begin:end].tolist()),
            ends=tuple((last[begin:end] + 1).tolist()),
            probabilities=tuple(probabilities[begin:end].tolist()),
            score=float(total[row, -1]),
        )
        for row, (begin, end) in enumerate(pairwise(bounds))
    ]
