"""The Conformer that reads a prompt, in the form and with the names of WeNet."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.encoders.masks import BLOCKED_SCORE, valid_frames
from components.models.conditioner_block import ConditionerBlock
from core.errors import DataError

LONGEST = 5000
"""Frames after subsampling that there are positions for: the length of the published table."""
SEES = 3
"""Input frames behind each output frame."""


class Conditioner(nn.Module):
    """Conformer over half the frame rate (Gulati et al. 2020; one feed-forward module a block).

    What an utterance gets depends on its own frames alone, also in a padded batch.

    Args:
        features: width F of the input frames, at least 3.
        dim: model width.
        layers: blocks.
        heads: attention heads; they divide ``dim``.
        feed_forward_dim: width inside the feed-forward modules.
        kernel_size: frames that a depthwise convolution sees; odd.
    """

    def __init__(
        self,
        *,
        features: int,
        dim: int,
        layers: int,
        heads: int,
        feed_forward_dim: int,
        kernel_size: int,
    ) -> None:
        super().__init__()
        self.embed = ConditionerInput(features=features, dim=dim)
        self.encoders = nn.ModuleList(
            ConditionerBlock(
                dim=dim, heads=heads, feed_forward_dim=feed_forward_dim, kernel_size=kernel_size
            )
            for _ in range(layers)
        )
        self.after_norm = nn.LayerNorm(dim)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a padded batch.

        Args:
            features: (B, T, F); what lies past a length is not looked at.
            lengths: (B,) int64 frame counts; below 3 there is no output frame.

        Returns:
            (B, T', D) hidden states, arbitrary but finite past a length, and (B, T') bool, true
            for real ones; T' is ``max((T - 1) // 2, 1)``.

        Raises:
            DataError: T' is above 5000, the published number of positions.
        """
        x, positions, valid = self.embed(features, lengths)
        blocked = torch.zeros_like(valid, dtype=x.dtype).masked_fill(~valid, BLOCKED_SCORE)
        weight = valid.unsqueeze(-1).to(x.dtype)
        for block in self.encoders:
            x = block(x, positions, blocked, weight)
        return self.after_norm(x), valid


class ConditionerInput(nn.Module):
    """A 3x3 convolution of stride 2 over time and features, and a projection (conv2d2 of WeNet).

    An output frame is real if all three input frames behind it are: n frames give ``(n - 1) // 2``.

    Args:
        features: width F of the input frames.
        dim: width of the output, and channels of the convolution.
    """

    def __init__(self, *, features: int, dim: int) -> None:
        super().__init__()
        self.scale = math.sqrt(dim)
        self.conv = nn.Sequential(nn.Conv2d(1, dim, 3, stride=2), nn.ReLU())
        self.out = nn.Sequential(nn.Linear(dim * ((features - 1) // 2), dim))
        self.pos_enc = PositionTable(dim=dim)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map (B, T, F) and (B,) to (B, T', D), (T', D) positions and (B, T') bool."""
        padding = ~valid_frames(lengths, features.shape[1])
        x = features.masked_fill(padding.unsqueeze(-1), 0.0).to(self.pos_enc.pe.dtype)
        x = F.pad(x, (0, 0, 0, max(0, SEES - x.shape[1])))
        x = self.conv(x.unsqueeze(1))  # (B, C, T', F')
        x = self.out(x.transpose(1, 2).flatten(2)) * self.scale
        valid = valid_frames((lengths - 1) // 2, x.shape[1])
        return x, self.pos_enc(x.shape[1]), valid


class PositionTable(nn.Module):
    """Sinusoids of positions, of which even columns are sines and odd ones cosines.

    They are a buffer because published checkpoints have them, rounded to bfloat16, and inference
    uses what the checkpoint has.

    Args:
        dim: width, even.
    """

    pe: Tensor

    def __init__(self, *, dim: int) -> None:
        super().__init__()
        rates = torch.exp(torch.arange(0, dim, 2) * (-math.log(10000.0) / dim))
        angles = torch.arange(LONGEST).unsqueeze(1) * rates
        table = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
        self.register_buffer("pe", table.unsqueeze(0))

    def forward(self, frames: int) -> Tensor:
        """Return (frames, D) of positions 0 and up."""
        if frames > LONGEST:
            raise DataError(
                f"a prompt is {frames} frames long after subsampling; there are positions for "
                f"{LONGEST}. Cut prompts to at most {2 * LONGEST} input frames"
            )
        return self.pe[0, :frames]
