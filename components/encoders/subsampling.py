"""Strided convolutions that shorten the frame sequence before the encoder."""

from __future__ import annotations

from typing import Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.encoders.masks import valid_frames
from core.errors import ConfigError

SubsamplingMethod = Literal["conv2d", "dw_striding"]
Count = TypeVar("Count", int, Tensor)


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
        causal: pad 2 before and 1 after, on both axes, in place of 1 and 1: output frame n of a
            stage sees frames up to 2n, and n frames or bins become ``n // 2 + 1``.
        masked: False leaves frames past a length as they come: zeros turn into what biases make
            of them, and reach the last frames of an utterance from the second stage on.
    """

    def __init__(
        self,
        *,
        input_dim: int,
        output_dim: int,
        channels: int,
        factor: int,
        method: SubsamplingMethod,
        causal: bool = False,
        masked: bool = True,
    ) -> None:
        super().__init__()
        check_factor(factor)
        self.factor = factor
        self.causal = causal
        self.masked = masked
        bins = input_dim
        stages: list[nn.Module] = []
        for index in range(_stages(factor)):
            inputs = 1 if index == 0 else channels
            stages.append(_stage(inputs, channels, method, padding=0 if causal else 1))
            bins = _halve(bins, causal)
        self.stages = nn.ModuleList(stages)
        self.out = nn.Linear(channels * bins, output_dim)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, T, F) and (B,) to (B, T', D) and (B,); frames past a length are arbitrary."""
        x = features.unsqueeze(1)  # (B, 1, T, F)
        if x.device.type == "cpu":  # strided depthwise convolutions are several times faster so
            x = x.to(memory_format=torch.channels_last)
        if self.masked:
            x = x * valid_frames(lengths, x.shape[2]).to(x.dtype)[:, None, :, None]
        for stage in self.stages:
            x = stage(F.pad(x, (2, 1, 2, 1)) if self.causal else x)  # (B, C, T', F')
            lengths = _halve(lengths, self.causal)
            x = F.relu(x.add_(_barrier(lengths, x)) if self.masked else x, inplace=True)
        return self.out(x.permute(0, 2, 3, 1).flatten(2)), lengths


def subsampled_lengths(lengths: Tensor, factor: int, causal: bool = False) -> Tensor:
    """Map (B,) input frame counts to the (B,) frame counts after all stages.

    That is division rounded up; in causal form an empty utterance has one frame.
    """
    for _ in range(_stages(factor)):
        lengths = _halve(lengths, causal)
    return lengths


def check_factor(factor: int) -> None:
    """Raise ConfigError unless ``factor`` is a power of two and at least 2."""
    if factor < 2 or factor & (factor - 1):
        raise ConfigError(f"subsampling: expected a power of two such as 4 or 8, found {factor}")


def _stages(factor: int) -> int:
    return factor.bit_length() - 1


def _halve(count: Count, causal: bool) -> Count:
    """Return how many frames or bins one stage leaves."""
    return count // 2 + 1 if causal else (count + 1) // 2


def _stage(inputs: int, channels: int, method: SubsamplingMethod, padding: int) -> nn.Module:
    if inputs == 1 or method == "conv2d":
        return nn.Conv2d(inputs, channels, 3, stride=2, padding=padding)
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, stride=2, padding=padding, groups=channels),
        nn.Conv2d(channels, channels, 1),
    )


def _barrier(lengths: Tensor, x: Tensor) -> Tensor:
    """Return what makes the ReLU zero past each length, (B, 1, T, 1), when added before it.

    A sum has no backward of its own, where a product with a mask is two more passes over the
    largest activations of the model.
    """
    padding = ~valid_frames(lengths, x.shape[2])
    barrier = torch.zeros_like(padding, dtype=x.dtype)
    return barrier.masked_fill(padding, torch.finfo(x.dtype).min)[:, None, :, None]
