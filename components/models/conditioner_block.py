"""A block of the Conformer that reads a prompt."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from components.encoders.convolution import depthwise_over_time
from components.models.position_attention import PositionAttention


class ConditionerBlock(nn.Module):
    """Attention, convolution and feed-forward, each behind a norm, and a norm of their sum.

    Args:
        dim: width of input and output.
        heads: attention heads; they divide ``dim``.
        feed_forward_dim: width inside the feed-forward module.
        kernel_size: frames that the depthwise convolution sees; odd.
    """

    def __init__(self, *, dim: int, heads: int, feed_forward_dim: int, kernel_size: int) -> None:
        super().__init__()
        self.self_attn = PositionAttention(dim=dim, heads=heads)
        self.feed_forward = FeedForward(dim=dim, hidden_dim=feed_forward_dim)
        self.conv_module = GatedConvolution(dim=dim, kernel_size=kernel_size)
        self.norm_ff = nn.LayerNorm(dim)
        self.norm_mha = nn.LayerNorm(dim)
        self.norm_conv = nn.LayerNorm(dim)
        self.norm_final = nn.LayerNorm(dim)

    def forward(self, x: Tensor, positions: Tensor, blocked: Tensor, valid: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D).

        Args:
            x: frames.
            positions: (T, D) sinusoids.
            blocked: (B, T), added to the attention scores of each frame.
            valid: (B, T, 1), one for real frames and zero for others.
        """
        x = x + self.self_attn(self.norm_mha(x), positions, blocked)
        x = x + self.conv_module(self.norm_conv(x), valid)
        x = x + self.feed_forward(self.norm_ff(x))
        out: Tensor = self.norm_final(x)
        return out


class GatedConvolution(nn.Module):
    """Pointwise with GLU, depthwise, LayerNorm, SiLU, pointwise (Gulati et al. 2020, figure 2).

    Frames past a length are zeroed after the gate. The published code zeroes them before it, where
    the bias of the first layer makes them non-zero again, and the depthwise convolution carries
    them into the last seven frames of an utterance; one that is alone in its batch has none.

    Args:
        dim: width of input and output.
        kernel_size: frames that the depthwise convolution sees; odd.
    """

    def __init__(self, *, dim: int, kernel_size: int) -> None:
        super().__init__()
        # Convolutions over single frames, for the sake of their published shapes: (2D, D, 1).
        self.pointwise_conv1 = nn.Conv1d(dim, 2 * dim, 1)
        self.depthwise_conv = nn.Conv1d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.pointwise_conv2 = nn.Conv1d(dim, dim, 1)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D); ``valid`` is (B, T, 1), one for real frames."""
        x = F.glu(_pointwise(x, self.pointwise_conv1), dim=-1)
        x = x * valid.to(x.dtype)
        x = depthwise_over_time(x, self.depthwise_conv, self.depthwise_conv.bias)
        return _pointwise(F.silu(self.norm(x)), self.pointwise_conv2)


class FeedForward(nn.Module):
    """Linear, SiLU, linear.

    Args:
        dim: width of input and output.
        hidden_dim: width between the two.
    """

    def __init__(self, *, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.w_1 = nn.Linear(dim, hidden_dim)
        self.w_2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D), frame by frame."""
        out: Tensor = self.w_2(F.silu(self.w_1(x)))
        return out


def _pointwise(x: Tensor, convolution: nn.Conv1d) -> Tensor:
    """Apply a convolution over single frames to channels-last frames, without turning them."""
    return F.linear(x, convolution.weight.squeeze(-1), convolution.bias)
