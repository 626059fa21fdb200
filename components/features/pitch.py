"""Fundamental frequency by normalised autocorrelation."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

RATE = 8000
"""Hz that the audio is expected at: speech has no harmonic above that tracking would gain from."""

_LOW, _HIGH = 60.0, 500.0
_WINDOW, _HOP = 400, 80
_SIZE = 1024
_VOICED = 0.6
_NEAR = 0.9
_QUIET = 1e-3


@torch.no_grad()
def pitch(audio: Tensor, *, hop: int = 80) -> Tensor:
    """Return (T,) fundamental frequencies in Hz, 0 where a frame is not voiced.

    A frame of 50 ms every ``hop`` samples is compared with itself at every lag between 1/500 and
    1/60 s: the correlation of its two overlapping ends, each divided by its energy, is 1 for what
    repeats exactly (the cross-correlation of Talkin 1995, within a frame). The lag is the first
    peak that comes within 10 % of the highest, so that no multiple of a period is taken for it,
    refined by a parabola. Frames without a peak above 0.6, and those 60 dB below the loudest, are
    not voiced.

    Args:
        audio: (S,) float32 at ``RATE``.
        hop: samples between frames; there are ``1 + (S - 400) // hop``.
    """
    if len(audio) < _WINDOW:
        return torch.zeros(0)
    frames = audio.unfold(0, _WINDOW, hop)
    frames = frames - frames.mean(1, keepdim=True)
    energy = frames.square().sum(1)
    first, last = int(RATE / _HIGH), int(RATE / _LOW) + 1
    curve = _correlation(frames)[:, first - 1 : last + 2]
    inner = curve[:, 1:-1]
    peaks = (inner >= curve[:, :-2]) & (inner >= curve[:, 2:])
    heights = inner.masked_fill(~peaks, -1.0)
    highest = heights.amax(1, keepdim=True)
    near = heights >= _NEAR * highest
    lag = near.float().argmax(1)
    rows = torch.arange(len(lag))
    left, top, right = (curve[rows, lag + place] for place in range(3))
    bend = (left - 2.0 * top + right).clamp_max(-1e-9)
    shift = (0.5 * (left - right) / bend).clamp(-0.5, 0.5)
    voiced = (highest.squeeze(1) > _VOICED) & (energy > _QUIET**2 * energy.max().clamp_min(1e-12))
    return (RATE / (lag + first + shift)).masked_fill(~voiced, 0.0)


def _correlation(frames: Tensor) -> Tensor:
    """Return (N, lags) correlations of the ends of (N, S) frames that overlap at each lag."""
    spectrum = torch.fft.rfft(frames, n=_SIZE)
    raw = torch.fft.irfft(spectrum.abs().square(), n=_SIZE)[:, : frames.shape[1]]
    squares = F.pad(frames.square().cumsum(1), (1, 0))
    total = squares[:, -1:]
    head = squares[:, 1:].flip(1)  # Energy of all but the last ``lag`` samples.
    tail = total - squares[:, :-1]  # Of all but the first.
    found: Tensor = raw / (head * tail).clamp_min(1e-12).sqrt()
    return found
