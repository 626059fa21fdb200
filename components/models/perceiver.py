"""The resampler that turns any number of frames into a fixed number of latents."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PerceiverResampler(nn.Module):
    """Learnt latents that attend to frames and to themselves (Alayrac et al. 2022, section 3.1.1).

    Args:
        dim: width of the latents.
        context_dim: width of the frames; projected to ``dim`` if it is another one.
        latents: number of latents L.
        layers: of attention and feed-forward.
        heads: attention heads.
        head_dim: width of a head.
        expansion: width inside the feed-forward modules, times 2/3, in units of ``dim``.
    """

    def __init__(
        self,
        *,
        dim: int,
        context_dim: int,
        latents: int,
        layers: int,
        heads: int,
        head_dim: int,
        expansion: int,
    ) -> None:
        super().__init__()
        self.proj_context: nn.Module = (
            nn.Linear(context_dim, dim) if context_dim != dim else nn.Identity()
        )
        self.latents = nn.Parameter(torch.empty(latents, dim).normal_(std=0.02))
        inner = int(dim * expansion * 2 / 3)
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    LatentAttention(dim=dim, heads=heads, head_dim=head_dim),
                    nn.Sequential(nn.Linear(dim, 2 * inner), GEGLU(), nn.Linear(inner, dim)),
                ]
            )
            for _ in range(layers)
        )
        self.norm = ScaledNorm(dim=dim)

    def forward(self, frames: Tensor, valid: Tensor) -> Tensor:
        """Map (B, T, C) frames and their (B, T) bool to (B, L, D).

        Without a real frame the latents attend to themselves alone.
        """
        context = self.proj_context(frames)
        latents = self.latents.to(context.dtype).expand(len(frames), -1, -1)
        own = valid.new_ones(len(frames), latents.shape[1])
        seen = torch.cat([own, valid], dim=1)[:, None, None]
        for layer in self.layers:
            attention, feed_forward = layer.children()
            latents = latents + attention(latents, context, seen)
            latents = latents + feed_forward(latents)
        normed: Tensor = self.norm(latents)
        return normed


class LatentAttention(nn.Module):
    """Attention of latents to latents and frames, without biases.

    Args:
        dim: width of latents and frames.
        heads: attention heads.
        head_dim: width of a head.
    """

    def __init__(self, *, dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads = heads
        inner = heads * head_dim
        self.to_q = nn.Linear(dim, inner, bias=False)
        self.to_kv = nn.Linear(dim, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, dim, bias=False)

    def forward(self, latents: Tensor, context: Tensor, seen: Tensor) -> Tensor:
        """Map (B, L, D) latents and (B, T, D) frames to (B, L, D).

        Args:
            latents: queries, and the first keys.
            context: the other keys.
            seen: (B, 1, 1, L + T) bool, true for keys to attend to.
        """
        key, value = self.to_kv(torch.cat([latents, context], dim=1)).chunk(2, dim=-1)
        query, key, value = (self._by_head(x) for x in (self.to_q(latents), key, value))
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        out: Tensor = self.to_out(attended.transpose(1, 2).flatten(2))
        return out

    def _by_head(self, x: Tensor) -> Tensor:
        """Map (B, T, H * d) to (B, H, T, d)."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


class GEGLU(nn.Module):
    """The first half of the channels, times the GELU of the second (Shazeer 2020)."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., 2D) to (..., D)."""
        values, gates = x.chunk(2, dim=-1)
        return values * F.gelu(gates)


class ScaledNorm(nn.Module):
    """``sqrt(D) * x / |x| * gamma``: RMSNorm (Zhang and Sennrich 2019).

    Args:
        dim: width D.
    """

    def __init__(self, *, dim: int) -> None:
        super().__init__()
        self.scale = math.sqrt(dim)
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., D) to (..., D)."""
        return F.normalize(x, dim=-1) * self.scale * self.gamma
