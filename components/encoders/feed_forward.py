"""The position-wise feed-forward module of the Conformer."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from components.encoders.dropout import Dropout


class FeedForward(nn.Module):
    """Linear, SiLU, dropout, linear (Gulati et al. 2020, figure 4, without norm and residual).

    Args:
        dim: width of input and output.
        hidden_dim: width between the two projections.
        dropout: probability after the activation.
        bias: whether the projections have biases.
    """

    def __init__(self, *, dim: int, hidden_dim: int, dropout: float, bias: bool = True) -> None:
        super().__init__()
        self.linear1 = nn.Linear(dim, hidden_dim, bias=bias)
        self.linear2 = nn.Linear(hidden_dim, dim, bias=bias)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D), frame by frame."""
        hidden: Tensor = self.linear2(self.dropout(F.silu(self.linear1(x))))
        return hidden
