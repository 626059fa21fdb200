"""Whisper features from shards instead of from audio."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import soundfile
from torch import Tensor

from components.features.whisper import TRIM_RULE, Trimmed, WhisperFeatures, restore
from core.data.feature_shards import FeatureReader
from core.data.fingerprint import Fingerprint

VALUES = ("fill", "samples", "audio")
"""What is stored with the frames: the constant after them, the samples of the audio at 16 kHz, and
a digest of name, size, time and range of the audio file."""


def cache_fingerprint() -> Fingerprint:
    """Return what cached features depend on beside the audio, as this installation makes them."""
    fields: dict[str, Any] = {
        "features": WhisperFeatures().settings,
        "decoder": f"libsndfile {soundfile.__libsndfile_version__}",
        "channels": "mean",
        "resampler": "windowed sinc, Hann, 6 zero crossings, rolloff 0.99",
        "trim": TRIM_RULE,
    }
    return Fingerprint(fields=fields)


class WhisperCache:
    """The features that ``python -m core.prepare cache`` stored, by utterance id.

    Args:
        folder: of the shards.

    Raises:
        FingerprintError: they were made with other settings than this installation would use.
        DataError: they are missing, not finished or damaged.
    """

    def __init__(self, *, folder: Path) -> None:
        self.reader = FeatureReader(folder=folder, expected=cache_fingerprint())

    def __call__(self, identity: str) -> Tensor:
        """Return (chunks, 128, 3000) in the stored dtype. Raises DataError."""
        values = self.reader.values(identity)
        frames = self.reader.read(identity)
        return restore(Trimmed(frames=frames, fill=values["fill"], samples=int(values["samples"])))
