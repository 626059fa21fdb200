"""How something is said, in numbers: pitch, energy and rate of an utterance."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from components.features.pitch import RATE, pitch
from core.contracts import SpeechPairBatch
from core.data.audio import AudioError, load_audio, recording

NAMES = ("pitch", "pitch_range", "energy", "energy_range", "rate")
LEVELS = ("pitch", "energy")
"""What differs between speakers whatever the emotion, and is to be taken relative to each."""

_LOUD = 7.0
"""Frames this far below the loudest, in nats of power (30 dB), are pauses."""
_FEWEST = 10


def prosody(batch: SpeechPairBatch) -> Tensor:
    """Return (B, 5) float64 numbers in the order of ``NAMES``; NaN for what cannot be known.

    ``pitch`` is the median of log2 of the fundamental frequency, ``pitch_range`` the distance
    between its 10th and 90th percentile, both in octaves, from audio. ``energy`` and
    ``energy_range`` are mean and standard deviation of the log power of mel frames that are no
    pause. ``rate`` is the log of text tokens a mel frame, known for the target side alone.

    Args:
        batch: with ``audio`` and ``sides``; paths without a readable file give no pitch.
    """
    found = torch.full((len(batch), len(NAMES)), math.nan, dtype=torch.float64)
    for row in range(len(batch)):
        path = batch.audio[row] if batch.audio else ""
        found[row, 0], found[row, 1] = _pitch(path)
        if batch.mel is None or not int(batch.mel.lengths[row]):
            continue
        frames = int(batch.mel.lengths[row])
        found[row, 2], found[row, 3] = _energy(batch.mel.values[row, :frames])
        if batch.sides and batch.sides[row] == "target":
            found[row, 4] = math.log(max(int(batch.text.lengths[row]), 1) / frames)
    return found


def relative_to(values: Tensor, groups: Tensor) -> Tensor:
    """Return (N,) values less the mean over the finite ones of their group."""
    finite = torch.isfinite(values)
    names, places = torch.unique(groups, return_inverse=True)
    zeros = torch.zeros(len(names), dtype=values.dtype)
    sums = zeros.index_add(0, places[finite], values[finite])
    counts = zeros.index_add(0, places[finite], torch.ones_like(values[finite]))
    return values - (sums / counts.clamp_min(1.0))[places]


def _pitch(path: str) -> tuple[float, float]:
    """Return level and range in octaves; NaN where the file is not there or hardly voiced."""
    if not path or not Path(path).is_file():
        return math.nan, math.nan
    try:
        cut = recording(Path(path), utterance=path).to_cut()
        samples = load_audio(cut, sample_rate=RATE, channel="mean")
    except AudioError:
        return math.nan, math.nan
    track = pitch(torch.from_numpy(samples))
    tones = track[track > 0].double().log2()
    if len(tones) < _FEWEST:
        return math.nan, math.nan
    low, middle, high = tones.quantile(torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)).tolist()
    return middle, high - low


def _energy(mel: Tensor) -> tuple[float, float]:
    """Return mean and deviation of the log power of (T, F) log-mel frames, pauses left out."""
    power = mel.double().logsumexp(1)
    loud = power[power > power.max() - _LOUD]
    return float(loud.mean()), float(loud.std(correction=0))
