"""Audio at another sample rate, at a cost that does not depend on what the rates have in common."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import torch
from torchaudio.transforms import Resample

Signal: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]

_ZEROS, _ROLLOFF = 6, 0.99
"""Zero crossings on each side, and cut-off as a share of the lower Nyquist frequency: the
defaults of torchaudio's Resample."""

_KERNEL = 2**20
"""Most weights of a polyphase kernel. 44.1 to 16 kHz takes 76 thousand. Rates without a common
divisor, such as 11,111 and 16,000 Hz, would take 178 million, nearly all of them zero: most of a
minute to make and 700 MB to keep."""

_AT_ONCE = 2**20


@torch.inference_mode()
def resampled(audio: Signal, source: int, target: int) -> Signal:
    """Return (S,) samples at ``source`` Hz as (ceil(S * target / source),) at ``target`` Hz.

    A sinc filter with a Hann window of six zero crossings on each side, for all rates. Between
    common ones torchaudio's kernel is kept, whose phases are rounded to float32 (errors up to 1e-4
    of full scale); between others each sample's weights are computed, within 1e-6 of the filter.
    """
    common = math.gcd(source, target)
    source, target = source // common, target // common
    if target * (source + 2 * _reach(source, target)) > _KERNEL:
        return _by_sample(audio, source, target)
    changed: Signal = _polyphase(source, target)(torch.from_numpy(audio)).numpy()
    return changed


@lru_cache(maxsize=16)
def _polyphase(source: int, target: int) -> Resample:
    return Resample(source, target, lowpass_filter_width=_ZEROS, rolloff=_ROLLOFF)


def _reach(source: int, target: int) -> int:
    """Return how many samples before and after a place the filter needs."""
    return math.ceil(_ZEROS * source / (min(source, target) * _ROLLOFF))


def _by_sample(audio: Signal, source: int, target: int) -> Signal:
    """Compute for each new sample the few weights that are not zero, instead of keeping them."""
    reach = _reach(source, target)
    taps = np.arange(-reach, reach + 2)
    cutoff = min(source, target) * _ROLLOFF / source
    near = np.lib.stride_tricks.sliding_window_view(np.pad(audio, (reach, reach + 1)), taps.size)
    changed = np.empty(-(-audio.size * target // source), dtype=np.float32)
    step = max(1, _AT_ONCE // taps.size)
    for start in range(0, changed.size, step):
        part = changed[start : start + step]
        place, phase = np.divmod(np.arange(start, start + part.size) * source, target)
        crossings = (taps - (phase / target)[:, None]) * cutoff
        np.clip(crossings, -_ZEROS, _ZEROS, out=crossings)
        window = np.cos(crossings * (np.pi / 2 / _ZEROS)) ** 2
        part[:] = np.einsum("nk,nk->n", near[place], cutoff * window * np.sinc(crossings))
    return changed
