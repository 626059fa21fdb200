"""Self-attention with relative positions."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.encoders.dropout import dropout


def relative_positions(frames: int, dim: int, device: torch.device) -> Tensor:
    """Return the (2 * frames, dim) float32 sinusoids of the offsets ``frames - 1 ... -frames``.

    Row r is the encoding of query minus key = ``frames - 1 - r`` (Dai et al. 2019, section 3.3);
    even columns are sines, odd ones cosines, at rates ``10000 ** (-2i / dim)``. The last row is
    never used: an even row length makes :func:`relative_shift` a view.
    """
    offsets = torch.arange(frames - 1, -frames - 1, -1, device=device, dtype=torch.float32)
    exponents = torch.arange(0, dim, 2, device=device, dtype=torch.float32)
    angles = offsets.unsqueeze(1) * torch.exp(exponents * (-math.log(10000.0) / dim))
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


def relative_shift(scores: Tensor) -> Tensor:
    """View scores by offset, contiguous (B, T, 2T), as scores by key, (B, T, T), without a copy.

    Entry (i, j) of the result is entry (i, T - 1 - i + j) of the input: one row further is one
    column less, which is a row stride of 2T - 1 into the same memory.
    """
    batch, frames, offsets = scores.shape
    strides = (frames * offsets, offsets - 1, 1)
    return scores.as_strided((batch, frames, frames), strides, frames - 1)


class PositionScores(torch.autograd.Function):
    """Scores of queries and offsets, shifted to scores by key, with the mask: one head at a time.

    All heads use one buffer of scores by offset, half of whose entries no key has. Autograd would
    hold one for each head in both directions and clear it in every layer, a twentieth of a
    training step on CPU.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        rows: Tensor,
        projected: Tensor,
        mask: Tensor,
    ) -> Tensor:
        """Map (H, B, T, d), (H, 2T, d) and (B, 1 or T, T) to (H, B, T, T)."""
        heads, batch, frames, width = rows.shape
        ctx.save_for_backward(rows, projected, mask)
        by_offset = rows.new_empty(batch, frames, 2 * frames)
        by_key = rows.new_empty(heads, batch, frames, frames)
        for head in range(heads):
            flat = by_offset.view(-1, 2 * frames)
            torch.mm(rows[head].reshape(-1, width), projected[head].t(), out=flat)
            torch.add(relative_shift(by_offset), mask, out=by_key[head])
        return by_key

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(
        ctx: Any,  # noqa: ANN401
        grad: Tensor,
    ) -> tuple[Tensor, Tensor, None]:
        """Return gradients of the queries and of the projected positions."""
        rows, projected, mask = ctx.saved_tensors
        heads, batch, frames, width = rows.shape
        # A constant on all scores of a query changes nothing, so their gradients sum to zero. What
        # rounding leaves of that sum would be most of what the slowest sinusoids learn from.
        seen = (mask == 0).to(grad.dtype)
        share = seen / seen.sum(-1, keepdim=True).clamp(min=1)
        by_offset = rows.new_zeros(batch, frames, 2 * frames)
        flat = by_offset.view(-1, 2 * frames)
        grad_rows, grad_projected = rows.new_empty(rows.shape), torch.empty_like(projected)
        for head in range(heads):
            rest = grad[head].sum(-1, keepdim=True)
            scores = relative_shift(by_offset)  # always the same entries
            torch.addcmul(grad[head], rest, share, value=-1.0, out=scores)
            torch.mm(flat, projected[head], out=grad_rows[head].view(-1, width))
            torch.mm(flat.t(), rows[head].reshape(-1, width), out=grad_projected[head])
        return grad_rows, grad_projected, None


class RelativeAttention(nn.Module):
    """Multi-head self-attention of Transformer-XL (Dai et al. 2019, section 3.3).

    The score of query i and key j is ``((q_i + u) k_j + (q_i + v) p_{i-j}) / sqrt(d)``, where p is
    a projection of sinusoids and u, v are learnt in each layer.

    Args:
        dim: width of input and output.
        heads: attention heads; they divide ``dim``.
        dropout: probability on attention weights.
        bias: whether the projections of queries, keys, values and output have biases.
    """

    def __init__(self, *, dim: int, heads: int, dropout: float, bias: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.head_dim = dim // heads
        self.dropout = dropout
        self.qkv = nn.Linear(dim, 3 * dim, bias=bias)
        self.position = nn.Linear(dim, dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=bias)
        self.content_bias = nn.Parameter(torch.zeros(heads, self.head_dim))
        self.position_bias = nn.Parameter(torch.zeros(heads, self.head_dim))

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D).

        Args:
            x: frames.
            positions: (2T, D) from :func:`relative_positions`.
            mask: (B, 1, T) or (B, T, T), added to scores.
        """
        batch, frames, _ = x.shape
        # Heads go first: positions are the same for all utterances, so that their scores are one
        # product a head over all frames of the batch.
        qkv = self.qkv(x).view(batch, frames, 3, self.heads, self.head_dim)
        query, key, value = qkv.permute(2, 3, 0, 1, 4).unbind(0)  # each (H, B, T, d)
        bias = self._position_scores(query, positions, mask)
        attended = attend(
            query + self.content_bias.to(query.dtype)[:, None, None],
            key,
            value,
            bias,
            drop=self.dropout if self.training else 0.0,
        )
        out: Tensor = self.out(attended.permute(1, 2, 0, 3).flatten(2))
        return out

    def _position_scores(self, query: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """Return (H, B, T, T): scaled scores of queries and key positions, with the mask."""
        _, batch, frames, _ = query.shape
        projected = self.position(positions).view(-1, self.heads, self.head_dim)
        shifted = query + self.position_bias.to(query.dtype)[:, None, None]
        rows = shifted / math.sqrt(self.head_dim)
        heads_first = projected.permute(1, 0, 2)  # (H, 2T, d)
        mask = mask.to(rows.dtype)
        if rows.device.type == "cpu" and not torch.compiler.is_compiling():
            scores: Tensor = PositionScores.apply(rows, heads_first.to(rows.dtype), mask)
            return scores
        flat = rows.reshape(self.heads, -1, self.head_dim)
        by_offset = torch.bmm(flat, heads_first.transpose(1, 2))  # (H, B * T, 2T)
        by_key = relative_shift(by_offset.view(-1, frames, 2 * frames))
        return by_key.view(self.heads, batch, frames, frames) + mask


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, *, drop: float) -> Tensor:
    """Attend over (H, B, T, d); (H, B, T, T) is added to scaled scores, weights are dropped."""
    if query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=drop)
    # On CPU torch has no fused kernel for a bias with gradient, and its composed one makes three
    # more passes over the scores to guard against rows without keys, which there are none of here.
    heads, batch, frames, width = query.shape
    scaled = (query / math.sqrt(width)).reshape(-1, frames, width)
    keys = key.reshape(-1, frames, width).transpose(1, 2)
    weights = torch.baddbmm(bias.flatten(0, 1), scaled, keys).softmax(-1)
    attended = torch.bmm(dropout(weights, drop), value.reshape(-1, frames, width))
    return attended.view(heads, batch, frames, width)
