"""A recurrent encoder."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from components.encoders.masks import valid_frames
from components.encoders.subsampling import ConvSubsampling
from core.errors import ConfigError
from core.registry import register


@register("encoder", "blstm")
class BLSTMEncoder(nn.Module):
    """Bidirectional LSTM (Graves and Schmidhuber 2005) after convolutional subsampling.

    Sequences are packed, so the backward direction starts at each utterance's last real frame.
    Packing reads the lengths on the host, which waits for the device once a batch.

    Args:
        dim: width of the output, both directions together; even.
        layers: stacked LSTM layers.
        subsampling: input frames for each output frame.
        subsampling_method: full convolutions, or depthwise-separable ones after the first.
        subsampling_channels: channels of the subsampling convolutions.
        dropout: after subsampling and between layers.
    """

    subsample: ConvSubsampling
    lstm: nn.LSTM

    def __init__(
        self,
        *,
        dim: int = 512,
        layers: int = 4,
        subsampling: Literal[2, 4, 8] = 4,
        subsampling_method: Literal["conv2d", "dw_striding"] = "dw_striding",
        subsampling_channels: int = 256,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if dim % 2:
            raise ConfigError(f"encoder: dim is shared by two directions, found {dim}")
        self.output_dim = dim
        self.depth = layers
        self.subsampling: int = subsampling
        self.subsampling_method = subsampling_method
        self.subsampling_channels = subsampling_channels
        self.dropout = nn.Dropout(dropout)

    def setup(self, *, input_dim: int) -> None:
        """Create all parameters, drawing from torch's global generator.

        Args:
            input_dim: feature bins F.
        """
        self.subsample = ConvSubsampling(
            input_dim=input_dim,
            output_dim=self.output_dim,
            channels=self.subsampling_channels,
            factor=self.subsampling,
            method=self.subsampling_method,
        )
        self.lstm = nn.LSTM(
            self.output_dim,
            self.output_dim // 2,
            num_layers=self.depth,
            dropout=self.dropout.p if self.depth > 1 else 0.0,
            bidirectional=True,
            batch_first=True,
        )

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Map (B,) input frame counts to (B,) output frame counts: division rounded up."""
        return (lengths + (self.subsampling - 1)) // self.subsampling

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, T, F) and (B,) to (B, ceil(T / subsampling), D) and (B,), zero past lengths."""
        x, lengths = self.subsample(features, lengths)
        frames = x.shape[1]
        # An empty utterance cannot be packed: it runs one frame, which is zeroed below.
        packed = pack_padded_sequence(
            self.dropout(x), lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False
        )
        hidden, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        hidden = F.pad(hidden, (0, 0, 0, frames - hidden.shape[1]))
        return hidden.masked_fill(~valid_frames(lengths, frames).unsqueeze(-1), 0.0), lengths
