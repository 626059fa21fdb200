"""The Conformer encoder."""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

from torch import Tensor, nn

from components.encoders.conformer_block import BlockOptions, ConformerBlock
from components.encoders.dropout import Dropout
from components.encoders.masks import attention_mask, check_context, valid_frames
from components.encoders.relative_attention import relative_positions
from components.encoders.subsampling import ConvSubsampling, subsampled_lengths
from core.errors import ConfigError
from core.registry import register


@register("encoder", "conformer")
class ConformerEncoder(nn.Module):
    """Conformer (Gulati et al. 2020) with relative positions and convolutional subsampling.

    With ``subsampling_method="dw_striding"``, ``subsampling=8`` and ``kernel_size=9`` it is the
    FastConformer (Rekesh et al. 2023); with ``scale_input`` too, NeMo's. Padding never changes a
    result: subsampling, attention, convolution and batch statistics see real frames only, in
    training as in evaluation. ``mask_subsampling`` and ``batch_norm_over`` give that up where NeMo
    does, for weights and training runs to be equal to its own.

    A causal encoder has ``causal_subsampling``, ``conv_context="causal"``, layer norm or the batch
    norm of evaluation, and a limited right context.

    Args:
        dim: model width D.
        layers: Conformer blocks.
        heads: attention heads; they divide ``dim``.
        feed_forward_expansion: hidden width of feed-forward modules, in units of ``dim``.
        kernel_size: frames that the depthwise convolution of a block sees; odd if it is centred.
        conv_context: where they lie: ``centred``, ``causal`` for the frame and those before it, or
            the counts before and after it, which with it make up ``kernel_size``.
        conv_norm: norm in the convolution module.
        batch_norm_over: frames that batch statistics count in training; ``all_frames`` counts
            padding too, which is NeMo's behaviour.
        subsampling: input frames for each output frame.
        subsampling_method: full convolutions, or depthwise-separable ones after the first.
        subsampling_channels: channels of the subsampling convolutions.
        causal_subsampling: pad subsampling convolutions by 2 before and 1 after, on time and
            frequency; each stage then leaves ``n // 2 + 1`` of n frames or bins.
        mask_subsampling: zero what lies past a length before every convolution. False lets padding
            leak into the last frames of an utterance, as NeMo did up to version 2.4: the released
            NEST weights were trained so, on features padded to a multiple of 16 frames.
        attention_context: output frames that a frame attends to on its left and right, -1 for all
            of a side; None for the whole utterance.
        attention_context_style: ``regular`` counts them from each frame. ``chunked_limited`` cuts
            the utterance into chunks of ``right + 1`` frames, of which a frame sees its own and
            ``left // (right + 1)`` before it; with all of the right side there are no chunks.
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
        conv_context: Literal["centred", "causal"] | tuple[int, int] = "centred",
        conv_norm: Literal["batch_norm", "layer_norm"] = "batch_norm",
        batch_norm_over: Literal["real_frames", "all_frames"] = "real_frames",
        subsampling: Literal[2, 4, 8] = 4,
        subsampling_method: Literal["conv2d", "dw_striding"] = "conv2d",
        subsampling_channels: int = 256,
        causal_subsampling: bool = False,
        mask_subsampling: bool = True,
        attention_context: tuple[int, int] | None = None,
        attention_context_style: Literal["regular", "chunked_limited"] = "regular",
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
        layer_drop: float = 0.0,
        scale_input: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        check_context(attention_context, attention_context_style)
        if not 0.0 <= layer_drop < 1.0:
            raise ConfigError(f"encoder: layer_drop must be in [0, 1), found {layer_drop}")
        self.output_dim = dim
        self.depth = layers
        self.block_options = BlockOptions(
            dim=dim,
            heads=heads,
            feed_forward_dim=feed_forward_expansion * dim,
            kernel_size=kernel_size,
            conv_context=conv_context,
            conv_norm=conv_norm,
            batch_norm_over=batch_norm_over,
            dropout=dropout,
            attention_dropout=attention_dropout,
            bias=bias,
        )
        self.subsampling: int = subsampling
        self.causal_subsampling = causal_subsampling
        self._make_subsampling = partial(
            ConvSubsampling,
            output_dim=dim,
            channels=subsampling_channels,
            factor=subsampling,
            method=subsampling_method,
            causal=causal_subsampling,
            masked=mask_subsampling,
        )
        self.attention_context = attention_context if attention_context != (-1, -1) else None
        self.attention_context_style = attention_context_style
        self.layer_drop = layer_drop
        self.input_scale = math.sqrt(dim) if scale_input else 1.0
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList()

    def setup(self, *, input_dim: int) -> None:
        """Create all parameters, drawing from torch's global generator.

        Args:
            input_dim: feature bins F.
        """
        self.subsample = self._make_subsampling(input_dim=input_dim)
        for number in range(1, self.depth + 1):
            layer_drop = self.layer_drop * number / self.depth
            self.layers.append(ConformerBlock(self.block_options, layer_drop=layer_drop))

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Map (B,) input frame counts to (B,) output frame counts.

        Division rounded up, and with ``causal_subsampling`` up to one frame more: 400 frames are
        51 after three stages, and none are 1.
        """
        return subsampled_lengths(lengths, self.subsampling, self.causal_subsampling)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a padded batch.

        Args:
            features: (B, T, F), T at least 1; what lies past a length is not looked at, but must
                be finite. Without ``mask_subsampling`` it is looked at, and should be zero.
            lengths: (B,) int64 frame counts, 0 allowed.

        Returns:
            (B, T', D) hidden states, zero past each length, and their (B,) lengths; T' is what
            :meth:`output_lengths` makes of T.
        """
        x, lengths = self.subsample(features, lengths)
        x = self.dropout(x * self.input_scale if self.input_scale != 1.0 else x)
        valid = valid_frames(lengths, x.shape[1])
        mask = attention_mask(valid, self.attention_context, x.dtype, self.attention_context_style)
        positions = relative_positions(x.shape[1], self.output_dim, x.device).to(x.dtype)
        for layer in self.layers:
            x = layer(x, positions, mask, valid)
        return x.masked_fill(~valid.unsqueeze(-1), 0.0), lengths
