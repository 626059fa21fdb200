"""Stretches of noise from any corpus with random access; a draw always gives noise."""

from __future__ import annotations

import logging
import random
from collections import Counter
from typing import get_args

import numpy as np
import torch
from lhotse.cut import Cut

from core.data.audio import AudioError, Channel, Reason, Samples, load_audio
from core.data.source import Noted, Source
from core.errors import DataError

RETRIES = "noise retries"
FALLBACKS = "noise fallbacks"
SILENT = "silent noise"

_CLIPS = 20
_WINDOWS = 100
_LEVELS = (-90, -47)
_INSTEAD = "white noise is used in place of this noise"

_log = logging.getLogger(__name__)


class NoiseSampler:
    """Draws noise for utterances, uniformly over the clips of a source.

    A clip that cannot be read gives way to another draw, at most 20 times; then white noise stands
    in. A clip longer than the speech gives a stretch of it at random, drawn again while it is
    silent, at most 100 times. What is silent after that gets white noise. Where no clip has a
    duration, declared or in a header, every draw is white noise. White noise is quiet, but a mixer
    that sets the ratio of speech to noise makes it as loud as it would make any other noise.

    Each of these is counted, failures by reason as well. The first of each kind is logged as a
    warning that names clip and cause, once for a sampler and all loader workers that it is in.

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
        DataError: if the source is empty.
    """

    def __init__(self, *, source: Source, sample_rate: int, channel: Channel = "refuse") -> None:
        self._source = source
        self._sample_rate = sample_rate
        self._channel = channel
        self._clips = np.flatnonzero(source.durations > 0)  # NaN is not above 0
        self._told = _Told()
        if not len(source):
            raise DataError(f"noise {source.location}: no clips; expected at least one")
        if not self._clips.size and self._told.first(FALLBACKS):
            _log.warning("noise %s: %s", source.location, self._nothing_to_draw())

    def draw(self, samples: int, *, rng: random.Random, events: Counter[str]) -> Samples:
        """Return (N,) float32 noise, 0 < N <= ``samples``; N is smaller where the clip is shorter.

        Args:
            samples: of the speech, at least 1.
            rng: of everything that is drawn.
            events: gets what had to be drawn again or replaced.
        """
        for _ in range(_CLIPS if self._clips.size else 0):
            index = int(self._clips[rng.randrange(self._clips.size)])
            try:
                cut = self._source.cut(index)
                noise = self._read(cut, samples, rng)
            except AudioError as error:
                self._refuse(error, events)
                continue
            if noise.any():
                return noise
            events[SILENT] += 1
            self._warn(SILENT, f"{cut.id} is silent; {_INSTEAD}")
            return white_noise(noise.size, rng)
        events[FALLBACKS] += 1
        self._warn(FALLBACKS, f"{_CLIPS} clips in a row could not be used; {_INSTEAD}")
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
        if not durations.size:
            notes = [f"WARNING: {self._nothing_to_draw()}", *notes]
        return [f"{durations.size:,} {noun}, {hours:.2f} h", *notes]

    def _nothing_to_draw(self) -> str:
        return f"none of {len(self._source):,} clips has a duration; {_INSTEAD}, at every draw"

    def _refuse(self, error: AudioError, events: Counter[str]) -> None:
        """Count a clip that cannot be used, and name the first for each reason."""
        events[RETRIES] += 1
        by_reason = f"{RETRIES} {error.reason}"
        events[by_reason] += 1
        self._warn(error.reason, f"{error}; another clip is drawn, counted as '{by_reason}'")

    def _warn(self, kind: str, text: str) -> None:
        if self._told.first(kind):
            _log.warning("noise %s: %s", self._source.location, text)

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


class _Told:
    """Which kinds of warning were given; known to all processes that a loader hands it to.

    Workers are started anew for every evaluation, and each would otherwise say it all again.
    """

    _KINDS = (*get_args(Reason), FALLBACKS, SILENT)

    def __init__(self) -> None:
        self._given = torch.zeros(len(self._KINDS), dtype=torch.bool).share_memory_()

    def first(self, kind: str) -> bool:
        """Say whether ``kind`` is new, and take it for given from now on."""
        place = self._KINDS.index(kind)
        new = not bool(self._given[place])
        self._given[place] = True
        return new


def white_noise(samples: int, rng: random.Random) -> Samples:
    """Return (samples,) Gaussian noise, its level a whole number of decibels from -90 to -47."""
    deviation = np.float32(10.0 ** (rng.randint(*_LEVELS) / 20.0))
    generator = np.random.default_rng(rng.getrandbits(64))
    noise: Samples = deviation * generator.standard_normal(samples, dtype=np.float32)
    return noise
