"""The Conformer encoder."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor, nn

from components.encoders.conformer_block import ConformerBlock
from components.encoders.dropout import Dropout
from components.encoders.masks import attention_mask, valid_frames
from components.encoders.relative_attention import relative_positions
from components.encoders.subsampling import ConvSubsampling
from core.errors import ConfigError
from core.registry import register


@register("encoder", "conformer")
class ConformerEncoder(nn.Module):
    """Conformer (Gulati et al. 2020) with relative positions and convolutional subsampling.

    With ``subsampling_method="dw_striding"``, ``subsampling=8`` and ``kernel_size=9`` it is the
    FastConformer (Rekesh et al. 2023). Padding never changes a result: subsampling, attention,
    convolution and batch statistics see real frames only, in training as in evaluation.

    Args:
        dim: model width D.
        layers: Conformer blocks.
        heads: attention heads; they divide ``dim``.
        feed_forward_expansion: hidden width of feed-forward modules, in units of ``dim``.
        kernel_size: frames that the depthwise convolution of a block sees; odd.
        conv_norm: norm in the convolution module; batch norm counts real frames only.
        subsampling: input frames for each output frame.
        subsampling_method: full convolutions, or depthwise-separable ones after the first.
        subsampling_channels: channels of the subsampling convolutions.
        attention_context: output frames that a frame attends to on its left and right; None for
            the whole utterance.
        dropout: after subsampling, in feed-forward modules and on residual branches.
        attention_dropout: on attention weights.
        layer_drop: probability of passing the last block by, in training; it rises linearly from
            ``layer_drop / layers`` at the first.
        scale_input: multiply what enters the blocks by ``sqrt(dim)`` (Vaswani et al. 2017).
        bias: whether linear and convolution layers of the blocks have biases.
    """

    subsample: ConvSubsampling

    def __init__(
        self,
        *,
        dim: int = 512,
        layers: int = 12,
        heads: int = 8,
        feed_forward_expansion: int = 4,
        kernel_size: int = 31,
        conv_norm: Literal["batch_norm", "layer_norm"] = "batch_norm",
        subsampling: Literal[2, 4, 8] = 4,
        subsampling_method: Literal["conv2d", "dw_striding"] = "conv2d",
        subsampling_channels: int = 256,
        attention_context: tuple[int, int] | None = None,
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
        layer_drop: float = 0.0,
        scale_input: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        _check(dim=dim, heads=heads, kernel_size=kernel_size, context=attention_context)
        if not 0.0 <= layer_drop < 1.0:
            raise ConfigError(f"encoder: layer_drop must be in [0, 1), found {layer_drop}")
        self.dim = dim
        self.output_dim = dim
        self.depth = layers
        self.heads = heads
        self.feed_forward_dim = feed_forward_expansion * dim
        self.kernel_size = kernel_size
        self.conv_norm = conv_norm
        self.subsampling: int = subsampling
        self.subsampling_method = subsampling_method
        self.subsampling_channels = subsampling_channels
        self.attention_context = attention_context
        self.attention_dropout = attention_dropout
        self.layer_drop = layer_drop
        self.input_scale = math.sqrt(dim) if scale_input else 1.0
        self.bias = bias
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList()

    def setup(self, *, input_dim: int) -> None:
        """Create all parameters, drawing from torch's global generator.

        Args:
            input_dim: feature bins F.
        """
        self.subsample = ConvSubsampling(
            input_dim=input_dim,
            output_dim=self.dim,
            channels=self.subsampling_channels,
            factor=self.subsampling,
            method=self.subsampling_method,
        )
        self.layers.extend(self._block(number) for number in range(1, self.depth + 1))

    def _block(self, number: int) -> ConformerBlock:
        return ConformerBlock(
            dim=self.dim,
            heads=self.heads,
            feed_forward_dim=self.feed_forward_dim,
            kernel_size=self.kernel_size,
            conv_norm=self.conv_norm,
            dropout=self.dropout.probability,
            attention_dropout=self.attention_dropout,
            layer_drop=self.layer_drop * number / self.depth,
            bias=self.bias,
        )

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Map (B,) input frame counts to (B,) output frame counts: division rounded up."""
        return (lengths + (self.subsampling - 1)) // self.subsampling

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a padded batch.

        Args:
            features: (B, T, F), T at least 1; what lies past a length is not looked at, but must
                be finite.
            lengths: (B,) int64 frame counts, 0 allowed.

        Returns:
            (B, ceil(T / subsampling), D) hidden states, zero past each length, and their (B,)
            lengths.
        """
        x, lengths = self.subsample(features, lengths)
        x = self.dropout(x * self.input_scale if self.input_scale != 1.0 else x)
        valid = valid_frames(lengths, x.shape[1])
        mask = attention_mask(valid, self.attention_context, x.dtype)
        positions = relative_positions(x.shape[1], self.dim, x.device).to(x.dtype)
        for layer in self.layers:
            x = layer(x, positions, mask, valid)
        return x.masked_fill(~valid.unsqueeze(-1), 0.0), lengths


def _check(*, dim: int, heads: int, kernel_size: int, context: tuple[int, int] | None) -> None:
    if dim % heads or dim % 2:
        raise ConfigError(f"encoder: dim must be even and a multiple of heads={heads}, found {dim}")
    if kernel_size % 2 == 0:
        raise ConfigError(f"encoder: kernel_size must be odd, found {kernel_size}")
    if context is not None and min(context) < 0:
        raise ConfigError(f"encoder: attention_context must not be negative, found {context}")
