"""Coloured noise, made when it is asked for."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
from lhotse.cut import Cut

from core.data.audio import Samples, recording
from core.data.source import Seconds
from core.errors import ConfigError
from core.registry import register

_SLOPES = {"white": 0.0, "pink": -0.5, "brown": -1.0}
"""Exponent of the amplitude spectrum over frequency: 0, -3 and -6 dB an octave."""
_LEVEL = 0.05
_LOWEST_HZ = 20.0
_VERSION = 1


@register("dataset", "synthetic_noise")
class SyntheticNoise:
    """Stationary noise of falling spectra, for runs without a noise corpus.

    Clips of white, pink and brown noise take turns. A clip is a function of location, seed and
    number, computed anew each time: nothing is kept on disk. Recorded noise is richer; what is
    learned from this one says little about a street.

    Args:
        location: a name; another name gives other clips, so that ``synthetic_noise:train`` and
            ``synthetic_noise:validation`` share none.
        colour: of all clips: ``white``, ``pink`` or ``brown``; ``mixed`` to take turns.
        clips: how many.
        seconds: length of each clip.
        sample_rate: in Hz.
        seed: of all clips.
    """

    def __init__(
        self,
        *,
        location: str = "train",
        colour: Literal["mixed", "white", "pink", "brown"] = "mixed",
        clips: int = 300,
        seconds: float = 10.0,
        sample_rate: int = 16000,
        seed: int = 0,
    ) -> None:
        if clips < 1 or seconds <= 0 or sample_rate < 1:
            raise ConfigError(
                f"synthetic_noise:{location}: clips={clips}, seconds={seconds:g} and "
                f"sample_rate={sample_rate} must be above 0"
            )
        self.location = location
        self._colours = tuple(_SLOPES) if colour == "mixed" else (colour,)
        self._clips = clips
        self._samples = max(1, round(seconds * sample_rate))
        self._sample_rate = sample_rate
        self._seed = seed

    def open(self, cache_dir: Path | None) -> None:
        """Do nothing: there is nothing to read."""

    @property
    def fingerprint(self) -> str:
        """Digest of what determines the clips."""
        parts = (_VERSION, self._key, self._colours, self._clips, self._samples, self._sample_rate)
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    @property
    def durations(self) -> Seconds:
        """(N,) seconds, all the same."""
        return np.full(self._clips, self._samples / self._sample_rate, dtype=np.float32)

    def __len__(self) -> int:
        return self._clips

    def cut(self, index: int) -> Cut:
        """Return clip ``index`` with its samples in memory."""
        colour = self._colours[index % len(self._colours)]
        name = f"{colour}-{self.location}-{index:05d}"
        generator = np.random.default_rng([*self._key, index])
        audio = coloured_noise(
            self._samples, slope=_SLOPES[colour], sample_rate=self._sample_rate, rng=generator
        )
        file = io.BytesIO()
        soundfile.write(file, audio, self._sample_rate, format="WAV", subtype="FLOAT")
        return recording(file.getvalue(), utterance=name).to_cut()

    def texts(self) -> Iterator[str]:
        """Yield nothing: noise has no transcript."""
        return iter(())

    @property
    def _key(self) -> tuple[int, int]:
        digest = hashlib.sha256(self.location.encode()).digest()
        return self._seed, int.from_bytes(digest[:8], "big")


def coloured_noise(
    samples: int, *, slope: float, sample_rate: int, rng: np.random.Generator
) -> Samples:
    """Return (samples,) Gaussian noise with a root mean square of 0.05.

    Args:
        samples: at least 1.
        slope: exponent of the amplitude spectrum over frequency, flat below 20 Hz.
        sample_rate: in Hz.
        rng: of the noise.
    """
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequencies = np.fft.rfftfreq(samples, 1.0 / sample_rate)
    spectrum *= np.maximum(frequencies, _LOWEST_HZ) ** slope
    noise = np.fft.irfft(spectrum, samples)
    level = np.sqrt(np.mean(noise**2))
    shaped: Samples = (noise * (_LEVEL / level)).astype(np.float32)
    return shaped
