"""One Conformer layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from components.encoders.convolution import (
    ConvContext,
    ConvNorm,
    ConvolutionModule,
    frames_around,
)
from components.encoders.dropout import Dropout
from components.encoders.feed_forward import FeedForward
from components.encoders.masked_batch_norm import CountedFrames
from components.encoders.relative_attention import RelativeAttention
from core.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockOptions:
    """What all blocks of an encoder have in common.

    Args:
        dim: width.
        heads: attention heads.
        feed_forward_dim: hidden width of the feed-forward modules.
        kernel_size: of the depthwise convolution.
        conv_context: where the frames lie that it sees.
        conv_norm: norm inside the convolution module.
        batch_norm_over: frames that batch statistics count.
        dropout: in feed-forward modules and on every residual branch.
        attention_dropout: on attention weights.
        bias: whether linear and convolution layers have biases.

    Raises:
        ConfigError: the options do not fit each other.
    """

    dim: int
    heads: int
    feed_forward_dim: int
    kernel_size: int
    conv_context: ConvContext
    conv_norm: ConvNorm
    batch_norm_over: CountedFrames
    dropout: float
    attention_dropout: float
    bias: bool

    def __post_init__(self) -> None:
        if self.dim % self.heads or self.dim % 2:
            raise ConfigError(
                f"encoder: dim must be even and a multiple of heads={self.heads}, found {self.dim}"
            )
        frames_around(self.conv_context, self.kernel_size)
        if self.batch_norm_over == "all_frames" and self.conv_norm != "batch_norm":
            raise ConfigError(
                "encoder: batch_norm_over='all_frames' changes nothing where conv_norm is "
                f"{self.conv_norm!r}; take conv_norm='batch_norm' or leave batch_norm_over out"
            )


class ConformerBlock(nn.Module):
    """Half-step feed-forward, attention, convolution, half-step feed-forward, norm.

    Gulati et al. 2020, equation 1; every module is normalised before it and has a residual around.

    Args:
        options: what it shares with the other blocks.
        layer_drop: probability that an utterance passes this layer by in training.
    """

    def __init__(self, options: BlockOptions, *, layer_drop: float) -> None:
        super().__init__()
        dim, bias = options.dim, options.bias
        self.layer_drop = layer_drop
        self.norm_feed_forward1 = nn.LayerNorm(dim)
        self.feed_forward1 = _feed_forward(options)
        self.norm_attention = nn.LayerNorm(dim)
        self.attention = RelativeAttention(
            dim=dim, heads=options.heads, dropout=options.attention_dropout, bias=bias
        )
        self.norm_convolution = nn.LayerNorm(dim)
        self.convolution = ConvolutionModule(
            dim=dim,
            kernel_size=options.kernel_size,
            norm=options.conv_norm,
            bias=bias,
            context=options.conv_context,
            batch_norm_over=options.batch_norm_over,
        )
        self.norm_feed_forward2 = nn.LayerNorm(dim)
        self.feed_forward2 = _feed_forward(options)
        self.norm_out = nn.LayerNorm(dim)
        self.dropout = Dropout(options.dropout)

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor, valid: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D).

        Args:
            x: frames.
            positions: (2T, D) relative position encodings.
            mask: (B, 1 or T, T), added to attention scores.
            valid: (B, T) bool, true for real frames.
        """
        entered = x
        drop = self.dropout
        x = torch.add(x, drop(self.feed_forward1(self.norm_feed_forward1(x))), alpha=0.5)
        x = x + drop(self.attention(self.norm_attention(x), positions, mask))
        x = x + drop(self.convolution(self.norm_convolution(x), valid))
        x = torch.add(x, drop(self.feed_forward2(self.norm_feed_forward2(x))), alpha=0.5)
        x = self.norm_out(x)
        if self.training and self.layer_drop > 0:
            return drop_layer(entered, x, self.layer_drop)
        return x


def _feed_forward(options: BlockOptions) -> FeedForward:
    return FeedForward(
        dim=options.dim,
        hidden_dim=options.feed_forward_dim,
        dropout=options.dropout,
        bias=options.bias,
    )


def drop_layer(entered: Tensor, left: Tensor, probability: float) -> Tensor:
    """Replace a layer's output by its input for a random share of the utterances.

    Stochastic depth (Huang et al. 2016), drawn for each utterance. What the layer adds is divided
    by the probability of keeping it, so that evaluation needs no factor. A layer is gated, never
    skipped: all its parameters stay in the graph, as distributed training requires.
    """
    kept = 1.0 - probability
    gate = torch.rand(left.shape[0], 1, 1, device=left.device) < kept
    return entered + (left - entered) * (gate / kept).to(left.dtype)
