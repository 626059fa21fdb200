"""Slaney's mel scale and its triangular filters."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from core.errors import ConfigError

LINEAR_HZ = 200.0 / 3.0
"""Hz per mel below the break."""
BREAK_HZ = 1000.0
BREAK_MEL = BREAK_HZ / LINEAR_HZ
LOG_STEP = math.log(6.4) / 27.0
"""Logarithm of the ratio of frequencies one mel apart above the break."""


def hz_to_mel(frequency: float) -> float:
    """Return the mel value of a frequency: linear up to 1 kHz, logarithmic above (Slaney 1998)."""
    if frequency < BREAK_HZ:
        return frequency / LINEAR_HZ
    return BREAK_MEL + math.log(frequency / BREAK_HZ) / LOG_STEP


def mel_to_hz(mels: Tensor) -> Tensor:
    """Return the frequencies of mel values; the inverse of :func:`hz_to_mel`."""
    above = BREAK_HZ * torch.exp(LOG_STEP * (mels - BREAK_MEL).clamp(min=0.0))
    return torch.where(mels < BREAK_MEL, mels * LINEAR_HZ, above)


def mel_filters(
    *,
    num_bins: int,
    n_fft: int,
    sample_rate: int,
    min_frequency: float,
    max_frequency: float,
) -> Tensor:
    """Return triangles of equal area on Slaney's mel scale, (n_fft // 2 + 1, num_bins) float32.

    Edges and centres are equally spaced in mel. They are computed in float64: a narrow triangle is
    a difference of close frequencies, of which float32 would leave four digits.

    Args:
        num_bins: filters.
        n_fft: points of the Fourier transform.
        sample_rate: of the signal, in Hz.
        min_frequency: lower edge of the first filter, in Hz.
        max_frequency: upper edge of the last filter, in Hz.

    Raises:
        ConfigError: a filter lies between two points of the transform, so that it would hear
            nothing.
    """
    low, high = hz_to_mel(min_frequency), hz_to_mel(max_frequency)
    corners = mel_to_hz(torch.linspace(low, high, num_bins + 2, dtype=torch.float64))
    filters = triangles(corners, n_fft=n_fft, sample_rate=sample_rate, name="log_mel")
    return (filters * (2.0 / (corners[2:] - corners[:-2]))).float()


def triangles(corners: Tensor, *, n_fft: int, sample_rate: int, name: str) -> Tensor:
    """Return triangles of height 1, (n_fft // 2 + 1, num_bins) in the dtype of ``corners``.

    Args:
        corners: (num_bins + 2,) Hz; filter i rises from i to i + 1 and falls to i + 2.
        n_fft: points of the Fourier transform.
        sample_rate: of the signal, in Hz.
        name: of the features, for the error.

    Raises:
        ConfigError: a filter lies between two points of the transform, so that it would hear
            nothing.
    """
    bins = torch.arange(n_fft // 2 + 1, dtype=corners.dtype).unsqueeze(1) * (sample_rate / n_fft)
    lower, centre, upper = corners[:-2], corners[1:-1], corners[2:]
    rising = (bins - lower) / (centre - lower)
    falling = (upper - bins) / (upper - centre)
    filters = torch.minimum(rising, falling).clamp(min=0.0)
    if not filters.is_meta and not filters.any(0).all():
        deaf = int((~filters.any(0)).sum())
        raise ConfigError(
            f"{name}: {deaf} of {filters.shape[1]} filters lie between two points of a transform "
            f"with n_fft={n_fft}, {sample_rate / n_fft:.1f} Hz apart; take fewer bins or a larger "
            "n_fft"
        )
    return filters
