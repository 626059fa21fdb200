"""The output layer of a CTC model."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.registry import register


@register("head", "ctc")
class CTCHead(nn.Module):
    """Dropout and a linear layer from hidden states to logits over the vocabulary.

    Args:
        dropout: probability on hidden states.
        use_bias: whether logits have a bias.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, *, dropout: float = 0.0, use_bias: bool = True) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.use_bias = use_bias
        self.register_parameter("weight", None)
        self.register_parameter("bias", None)

    def setup(self, *, input_dim: int, vocab_size: int) -> None:
        """Create the projection, initialised like ``torch.nn.Linear``.

        Args:
            input_dim: width D of hidden states.
            vocab_size: number of logits V, blank included.
        """
        bound = 1.0 / math.sqrt(input_dim)
        self.weight = nn.Parameter(torch.empty(vocab_size, input_dim).uniform_(-bound, bound))
        if self.use_bias:
            self.bias = nn.Parameter(torch.empty(vocab_size).uniform_(-bound, bound))

    def inputs(self, hidden: Tensor) -> Tensor:
        """Apply dropout to (B, T, D) hidden states."""
        dropped: Tensor = self.dropout(hidden)
        return dropped

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (B, T, D) hidden states to (B, T, V) logits."""
        return F.linear(self.inputs(hidden), self.weight, self.bias)
