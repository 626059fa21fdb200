"""CTC by enumeration of all alignments, for small numbers of frames and tokens."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby, product

import torch
from torch import Tensor


def collapse(path: Sequence[int]) -> tuple[int, ...]:
    return tuple(token for token, _ in groupby(path) if token != 0)


def alignments(log_probs: Tensor) -> dict[tuple[int, ...], dict[tuple[int, ...], Tensor]]:
    """Map each token sequence to the log probability of each of its V**T paths, in float64."""
    frames, vocab = log_probs.shape
    result: dict[tuple[int, ...], dict[tuple[int, ...], Tensor]] = defaultdict(dict)
    for path in product(range(vocab), repeat=frames):
        score = log_probs.double()[range(frames), list(path)].sum()
        result[collapse(path)][path] = score
    return result


def sequence_scores(log_probs: Tensor) -> dict[tuple[int, ...], Tensor]:
    """Map each token sequence to its log probability."""
    return {
        tokens: torch.stack(list(paths.values())).logsumexp(0)
        for tokens, paths in alignments(log_probs).items()
    }
