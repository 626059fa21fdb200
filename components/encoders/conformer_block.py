"""One Conformer layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from components.encoders.convolution import ConvNorm, ConvolutionModule
from components.encoders.dropout import Dropout
from components.encoders.feed_forward import FeedForward
from components.encoders.relative_attention import RelativeAttention


class ConformerBlock(nn.Module):
    """Half-step feed-forward, attention, convolution, half-step feed-forward, norm.

    Gulati et al. 2020, equation 1; every module is normalised before it and has a residual around.

    Args:
        dim: width.
        heads: attention heads.
        feed_forward_dim: hidden width of the feed-forward modules.
        kernel_size: of the depthwise convolution.
        conv_norm: norm inside the convolution module.
        dropout: in feed-forward modules and on every residual branch.
        attention_dropout: on attention weights.
        layer_drop: probability that an utterance passes this layer by in training.
        bias: whether linear and convolution layers have biases.
    """

    def __init__(
        self,
        *,
        dim: int,
        heads: int,
        feed_forward_dim: int,
        kernel_size: int,
        conv_norm: ConvNorm,
        dropout: float,
        attention_dropout: float,
        layer_drop: float,
        bias: bool,
    ) -> None:
        super().__init__()
        self.layer_drop = layer_drop
        self.norm_feed_forward1 = nn.LayerNorm(dim)
        self.feed_forward1 = FeedForward(
            dim=dim, hidden_dim=feed_forward_dim, dropout=dropout, bias=bias
        )
        self.norm_attention = nn.LayerNorm(dim)
        self.attention = RelativeAttention(
            dim=dim, heads=heads, dropout=attention_dropout, bias=bias
        )
        self.norm_convolution = nn.LayerNorm(dim)
        self.convolution = ConvolutionModule(
            dim=dim, kernel_size=kernel_size, norm=conv_norm, bias=bias
        )
        self.norm_feed_forward2 = nn.LayerNorm(dim)
        self.feed_forward2 = FeedForward(
            dim=dim, hidden_dim=feed_forward_dim, dropout=dropout, bias=bias
        )
        self.norm_out = nn.LayerNorm(dim)
        self.dropout = Dropout(dropout)

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


def drop_layer(entered: Tensor, left: Tensor, probability: float) -> Tensor:
    """Replace a layer's output by its input for a random share of the utterances.

    Stochastic depth (Huang et al. 2016), drawn for each utterance. What the layer adds is divided
    by the probability of keeping it, so that evaluation needs no factor. A layer is gated, never
    skipped: all its parameters stay in the graph, as distributed training requires.
    """
    kept = 1.0 - probability
    gate = torch.rand(left.shape[0], 1, 1, device=left.device) < kept
    return entered + (left - entered) * (gate / kept).to(left.dtype)
