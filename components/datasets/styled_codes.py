"""Semantic codes of the demo of Stage 2: nearest centroids of what is said and how, not by whom."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torchaudio.functional import detect_pitch_frequency
from torchaudio.transforms import MFCC

from components.datasets.espeak_worker import SAMPLE_RATE
from core.data.audio import load_audio, recording

CODES = 256
CODE_SECONDS = 0.04
MEASURES = 14
"""Of a frame: 13 cepstral coefficients, of which the first is loudness, and the log of F0."""

_HOP = round(CODE_SECONDS * SAMPLE_RATE)
_LOWEST, _HIGHEST = 50, 500
_PITCH_MEDIAN = 5
_PITCH_WEIGHT = 2.0
_QUIET = 0.05
_ROUNDS = 20
_MOST_FRAMES = 40_000
_LEAST_DEVIATION = 1e-3


def measured(path: Path) -> Tensor:
    """Return (T, 14) float32 measures of a recording, one row for each semantic code.

    Mel-frequency cepstral coefficients, and F0 by normalised cross-correlation with a median over
    five frames. Quiet frames, whose F0 is noise, take that of the last louder one.

    Raises:
        AudioError: the recording cannot be used.
    """
    cut = recording(path, utterance=path.stem).to_cut()
    audio = torch.from_numpy(load_audio(cut, sample_rate=SAMPLE_RATE, channel="mean"))[None]
    cepstrum = MFCC(
        sample_rate=SAMPLE_RATE,
        n_mfcc=MEASURES - 1,
        melkwargs={"n_fft": 1024, "hop_length": _HOP, "n_mels": 40},
    )(audio)[0].T
    pitch = detect_pitch_frequency(
        audio,
        SAMPLE_RATE,
        frame_time=CODE_SECONDS,
        win_length=_PITCH_MEDIAN,
        freq_low=_LOWEST,
        freq_high=_HIGHEST,
    )[0]
    frames = min(len(cepstrum), len(pitch))
    level = audio[0, : frames * _HOP].view(frames, _HOP).square().mean(1)
    held = _held(pitch[:frames].clamp_min(_LOWEST).log(), level > _QUIET * level.max())
    return torch.cat([cepstrum[:frames], held[:, None]], dim=1)


def _held(values: Tensor, sure: Tensor) -> Tensor:
    """Replace (T,) values that are not sure by the last one that is, or the first."""
    places = torch.arange(len(values))
    last = places.masked_fill(~sure, -1).cummax(0).values
    return values[last.masked_fill(last < 0, int(sure.int().argmax()))]


def of_voice(measures: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return (14,) origin and unit of a voice, from all frames of its utterances.

    Units are deviations; that of pitch is half of one, for it tells most of a style.
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
    return torch.cdist(frames, table).argmin(1)
