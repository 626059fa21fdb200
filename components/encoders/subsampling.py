"""Strided convolutions that shorten the frame sequence before the encoder."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.encoders.masks import valid_frames
from core.errors import ConfigError

SubsamplingMethod = Literal["conv2d", "dw_striding"]


class ConvSubsampling(nn.Module):
    """3x3 convolutions of stride 2 over time and frequency, then a projection to the model width.

    Each stage halves time and frequency, rounding up. Frames past a length are zeroed before every
    strided convolution, so what an utterance gets does not depend on its padding. The projection
    reads the channels of the lowest bin first, then those of the next.

    Args:
        input_dim: feature bins F.
        output_dim: model width D.
        channels: of every stage.
        factor: input frames for each output frame; a power of two, 2 or more.
        method: ``conv2d`` has full convolutions in every stage (Gulati et al. 2020);
            ``dw_striding`` has a depthwise and a pointwise convolution from the second stage on
            (Rekesh et al. 2023, FastConformer), a small part of the arithmetic.
    """

    def __init__(
        self,
        *,
        input_dim: int,
        output_dim: int,
        channels: int,
        factor: int,
        method: SubsamplingMethod,
    ) -> None:
        super().__init__()
        check_factor(factor)
        self.factor = factor
        bins = input_dim
        stages: list[nn.Module] = []
        for index in range(factor.bit_length() - 1):
            stages.append(_stage(1 if index == 0 else channels, channels, method))
            bins = (bins + 1) // 2
        self.stages = nn.ModuleList(stages)
        self.out = nn.Linear(channels * bins, output_dim)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Map (B,) input frame counts to (B,) output frame counts: division rounded up."""
        return (lengths + (self.factor - 1)) // self.factor

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, T, F) and (B,) to (B, T', D) and (B,); frames past a length are arbitrary."""
        x = features.unsqueeze(1)  # (B, 1, T, F)
        if x.device.type == "cpu":  # strided depthwise convolutions are several times faster so
            x = x.to(memory_format=torch.channels_last)
        x = x * valid_frames(lengths, x.shape[2]).to(x.dtype)[:, None, :, None]
        for stage in self.stages:
            x = stage(x)  # (B, C, ceil(T / 2), ceil(F / 2))
            lengths = (lengths + 1) // 2
            x = F.relu(x.add_(_barrier(lengths, x)), inplace=True)
        return self.out(x.permute(0, 2, 3, 1).flatten(2)), lengths


def _barrier(lengths: Tensor, x: Tensor) -> Tensor:
    """Return what makes the ReLU zero past each length, (B, 1, T, 1), when added before it.

    A sum has no backward of its own, where a product with a mask is two more passes over the
    largest activations of the model.
    """
    padding = ~valid_frames(lengths, x.shape[2])
    barrier = torch.zeros_like(padding, dtype=x.dtype)
    return barrier.masked_fill(padding, torch.finfo(x.dtype).min)[:, None, :, None]


def check_factor(factor: int) -> None:
    """Raise ConfigError unless ``factor`` is a power of two and at least 2."""
    if factor < 2 or factor & (factor - 1):
        raise ConfigError(f"subsampling: expected a power of two such as 4 or 8, found {factor}")


def _stage(inputs: int, channels: int, method: SubsamplingMethod) -> nn.Module:
    if inputs == 1 or method == "conv2d":
        return nn.Conv2d(inputs, channels, 3, stride=2, padding=1)
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, stride=2, padding=1, groups=channels),
        nn.Conv2d(channels, channels, 1),
    )
