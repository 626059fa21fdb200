"""Semantic codes of the demo of Stage 2: nearest centroids of what is said and how, not by whom."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torchaudio.transforms import MFCC

from components.datasets.espeak_worker import SAMPLE_RATE
from components.features.pitch import RATE as PITCH_RATE
from components.features.pitch import pitch
from core.data.audio import load_audio, recording

CODES = 256
CODE_SECONDS = 0.08
MEASURES = 14
"""Of a frame: 13 cepstral coefficients, of which the first is loudness, and the log of F0."""

_HOP = round(CODE_SECONDS * SAMPLE_RATE)
_PITCH_WEIGHT = 3.0
_ROUNDS = 20
_MOST_FRAMES = 40_000
_LEAST_DEVIATION = 1e-3


def measured(path: Path) -> Tensor:
    """Return (T, 14) float32 measures of a recording, one row for each semantic code.

    Mel-frequency cepstral coefficients, and the log of F0. Frames that are not voiced take that of
    the last one that is.

    Raises:
        AudioError: the recording cannot be used.
    """
    cut = recording(path, utterance=path.stem).to_cut()
    audio = torch.from_numpy(load_audio(cut, sample_rate=SAMPLE_RATE, channel="mean"))
    cepstrum = MFCC(
        sample_rate=SAMPLE_RATE,
        n_mfcc=MEASURES - 1,
        melkwargs={"n_fft": 2048, "hop_length": _HOP, "n_mels": 40},
    )(audio)
    slow = torch.from_numpy(load_audio(cut, sample_rate=PITCH_RATE, channel="mean"))
    tone = pitch(slow, hop=round(CODE_SECONDS * PITCH_RATE))
    frames = min(cepstrum.shape[1], len(tone))
    tone = _held(tone[:frames].clamp_min(1.0).log(), tone[:frames] > 0.0)
    return torch.cat([cepstrum[:, :frames].T, tone[:, None]], dim=1)


def _held(values: Tensor, sure: Tensor) -> Tensor:
    """Replace (T,) values that are not sure by the last one that is, or the first."""
    places = torch.arange(len(values))
    last = places.masked_fill(~sure, -1).cummax(0).values
    return values[last.masked_fill(last < 0, int(sure.int().argmax()))]


def of_voice(measures: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return (14,) origin and unit of a voice, from all frames of its utterances.

    Units are deviations; that of pitch is a third of one, for it tells most of a style.
    """
    frames = torch.cat(measures)
    unit = frames.std(0).clamp_min(_LEAST_DEVIATION)
    unit[-1] /= _PITCH_WEIGHT
    return frames.mean(0), unit


def centroids(frames: Tensor, *, seed: int) -> Tensor:
    """Return (256, 14) centroids of (N, 14) frames, by k-means (Lloyd 1982).

    It starts from frames drawn at random; a centroid that loses all frames starts anew at one.
    """
    generator = torch.Generator().manual_seed(seed)
    if len(frames) > _MOST_FRAMES:
        frames = frames[torch.randperm(len(frames), generator=generator)[:_MOST_FRAMES]]
    drawn = torch.randint(len(frames), (CODES,), generator=generator)
    if len(frames) >= CODES:
        drawn = torch.randperm(len(frames), generator=generator)[:CODES]
    found = frames[drawn].clone()
    for _ in range(_ROUNDS):
        nearest = codes(frames, found)
        counts = torch.bincount(nearest, minlength=CODES)
        sums = torch.zeros_like(found).index_add_(0, nearest, frames)
        lost = counts == 0
        anew = torch.randint(len(frames), (int(lost.sum()),), generator=generator)
        found = sums / counts.clamp_min(1)[:, None]
        found[lost] = frames[anew]
    return found


def codes(frames: Tensor, table: Tensor) -> Tensor:
    """Return (T,) int64 numbers of the centroids that are nearest to (T, 14) frames."""
    distances = torch.cdist(frames, table, compute_mode="donot_use_mm_for_euclid_dist")
    return distances.argmin(1)
