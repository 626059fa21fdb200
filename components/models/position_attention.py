"""Self-attention whose scores depend on the position of the key."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PositionAttention(nn.Module):
    """Multi-head self-attention with sinusoids of the keys' positions.

    The score of query i and key j is ``((q_i + u) k_j + (q_i + v) p_j) / sqrt(d)``, where p is a
    projection of sinusoids. These are the terms of Dai et al. 2019, section 3.3, without the
    shift that would make p a function of i - j: WeNet left it out, and the published weights are
    trained so. Then ``q_i (k_j + p_j)`` is a plain score and ``u k_j + v p_j`` a bias of the key,
    so that no position scores of (T, T) exist.

    Args:
        dim: width of input and output.
        heads: attention heads; they divide ``dim``.
    """

    def __init__(self, *, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.head_dim = dim // heads
        self.linear_q = nn.Linear(dim, dim)
        self.linear_k = nn.Linear(dim, dim)
        self.linear_v = nn.Linear(dim, dim)
        self.linear_out = nn.Linear(dim, dim)
        self.linear_pos = nn.Linear(dim, dim, bias=False)
        self.pos_bias_u = nn.Parameter(torch.empty(heads, self.head_dim))
        self.pos_bias_v = nn.Parameter(torch.empty(heads, self.head_dim))
        nn.init.xavier_uniform_(self.pos_bias_u)
        nn.init.xavier_uniform_(self.pos_bias_v)

    def forward(self, x: Tensor, positions: Tensor, blocked: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D).

        Args:
            x: frames.
            positions: (T, D) sinusoids.
            blocked: (B, T), added to the scores of each key.
        """
        query, key, value = (
            self._by_head(linear(x)) for linear in (self.linear_q, self.linear_k, self.linear_v)
        )
        position = self._by_head(self.linear_pos(positions))  # (H, T, d)
        bias = (key * self.pos_bias_u[:, None]).sum(-1)  # (B, H, T)
        bias = bias + (position * self.pos_bias_v[:, None]).sum(-1)
        bias = bias / math.sqrt(self.head_dim) + blocked[:, None]
        attended = F.scaled_dot_product_attention(
            query, key + position, value, attn_mask=bias[:, :, None].to(query.dtype)
        )
        out: Tensor = self.linear_out(attended.transpose(1, 2).flatten(2))
        return out

    def _by_head(self, x: Tensor) -> Tensor:
        """Map (..., T, D) to (..., H, T, d)."""
        return x.view(*x.shape[:-1], self.heads, self.head_dim).transpose(-3, -2)
