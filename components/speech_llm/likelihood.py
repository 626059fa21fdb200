"""Cross-entropy of given tokens under a wide output layer, without all logits at once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

PIECE = 256
"""Positions whose logits exist at one time: 134 MB for 131,072 entries in float32."""


def answer_likelihood(hidden: Tensor, head: nn.Module, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the summed cross-entropy in float32, and how many labels were most likely.

    Logits are made piece by piece, and again in the backward pass.

    Args:
        hidden: (N, D) at the position before each label.
        head: maps them to (N, V) logits.
        labels: (N,) token ids.
    """
    total = hidden.new_zeros((), dtype=torch.float32)
    correct = torch.zeros((), dtype=torch.int64, device=hidden.device)
    for part, wanted in zip(hidden.split(PIECE), labels.split(PIECE), strict=True):
        loss, right = checkpoint(_piece, part, head, wanted, use_reentrant=False)
        total = total + loss
        correct = correct + right
    return total, correct


def _piece(hidden: Tensor, head: nn.Module, labels: Tensor) -> tuple[Tensor, Tensor]:
    logits = head(hidden).float()
    right = (logits.detach().argmax(-1) == labels).sum()
    return F.cross_entropy(logits, labels, reduction="sum"), right
