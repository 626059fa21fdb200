"""Stretches of noise from any corpus with random access; a draw always gives noise."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
from lhotse.cut import Cut

from core.data.audio import AudioError, Channel, Samples, load_audio
from core.data.source import Noted, Source
from core.errors import DataError

RETRIES = "noise retries"
FALLBACKS = "noise fallbacks"
SILENT = "silent noise"

_CLIPS = 20
_WINDOWS = 100
_LEVELS = (-90, -47)


class NoiseSampler:
    """Draws noise for utterances, uniformly over the clips of a source.

    A clip that cannot be read gives way to another draw, at most 20 times; then white noise stands
    in, at the level of a quiet room. A clip longer than the speech gives a stretch of it at random,
    drawn again while it is silent, at most 100 times. What is silent after that gets white noise.
    Each of these is counted.

    NeMo (2.5 to 3.0) differs in three ways, none of which has an option here, because none can be
    wanted: after 20 failures it falls back to silence, so that an utterance meant to be noisy is
    clean without a word; it takes a stretch for silent unless its samples add up to more than
    zero, which refuses every other good one; and from a long clip it reads as if the entry had no
    offset, which can be outside the noise that the manifest names.

    Args:
        source: opened; clips of unknown or no duration are never drawn.
        sample_rate: of the noise, in Hz.
        channel: what to do with several channels.

    Raises:
        DataError: if no clip can be drawn.
    """

    def __init__(self, *, source: Source, sample_rate: int, channel: Channel = "refuse") -> None:
        self._source = source
        self._sample_rate = sample_rate
        self._channel = channel
        self._clips = np.flatnonzero(source.durations > 0)  # NaN is not above 0
        if not self._clips.size:
            raise DataError(f"noise {source.location}: none of {len(source)} clips has a duration")

    def draw(self, samples: int, *, rng: random.Random, events: Counter[str]) -> Samples:
        """Return (N,) float32 noise, 0 < N <= ``samples``; N is smaller where the clip is shorter.

        Args:
            samples: of the speech, at least 1.
            rng: of everything that is drawn.
            events: gets what had to be drawn again or replaced.
        """
        for _ in range(_CLIPS):
            index = int(self._clips[rng.randrange(self._clips.size)])
            try:
                noise = self._read(self._source.cut(index), samples, rng)
            except AudioError:
                events[RETRIES] += 1
                continue
            if noise.any():
                return noise
            events[SILENT] += 1
            return white_noise(noise.size, rng)
        events[FALLBACKS] += 1
        return white_noise(samples, rng)

    @property
    def fingerprint(self) -> str:
        """Digest of the source."""
        return self._source.fingerprint

    def summary(self) -> list[str]:
        """Return clips, hours and what the source has to say."""
        durations = self._source.durations[self._clips]
        hours = float(durations.sum(dtype=np.float64)) / 3600
        noun = "clip" if durations.size == 1 else "clips"
        notes = self._source.notes() if isinstance(self._source, Noted) else []
        return [f"{durations.size:,} {noun}, {hours:.2f} h", *notes]

    def _read(self, cut: Cut, samples: int, rng: random.Random) -> Samples:
        """Return a clip, or a stretch of one that is longer than the speech."""
        seconds = samples / self._sample_rate
        if cut.duration <= seconds:
            return self._load(cut, samples)
        for _ in range(_WINDOWS):
            offset = rng.uniform(0.0, cut.duration - seconds)
            window = cut.truncate(offset=offset, duration=seconds, preserve_id=True)
            noise = self._load(window, samples)
            if noise.any():
                break
        return noise

    def _load(self, cut: Cut, samples: int) -> Samples:
        audio = load_audio(cut, sample_rate=self._sample_rate, channel=self._channel)
        return audio[:samples]


def white_noise(samples: int, rng: random.Random) -> Samples:
    """Return (samples,) Gaussian noise, its level a whole number of decibels from -90 to -47."""
    deviation = np.float32(10.0 ** (rng.randint(*_LEVELS) / 20.0))
    generator = np.random.default_rng(rng.getrandbits(64))
    noise: Samples = deviation * generator.standard_normal(samples, dtype=np.float32)
    return noise
