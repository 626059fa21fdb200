"""Whisper features from shards instead of from audio."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import soundfile
import torch
from torch import Tensor

from components.features.whisper import (
    CHUNK_FRAMES,
    NUM_BINS,
    TRIM_RULE,
    WhisperFeatures,
    chunk_count,
    restore_into,
)
from core.data.feature_index import DTYPES
from core.data.feature_map import as_bits
from core.data.feature_shards import FeatureReader
from core.data.fingerprint import Fingerprint

VALUES = ("fill", "samples", "audio")
"""What is stored with the frames: the constant after them, the samples of the audio at 16 kHz, and
a digest of name, size, time and range of the audio file."""


def audio_fields() -> dict[str, Any]:
    """Return what features depend on from the file to the extractor, as this installation is."""
    return {
        "features": WhisperFeatures().settings,
        "decoder": f"libsndfile {soundfile.__libsndfile_version__}",
        "channels": "mean",
        "resampler": "windowed sinc, Hann, 6 zero crossings, rolloff 0.99",
    }


def cache_fingerprint() -> Fingerprint:
    """Return what cached features depend on beside the audio, as this installation makes them."""
    return Fingerprint(fields={**audio_fields(), "trim": TRIM_RULE})


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
        return self.batch([identity])

    def samples(self, identity: str) -> int:
        """Return the samples of audio at 16 kHz behind an utterance. Raises DataError."""
        return int(self.reader.values(identity)["samples"])

    def batch(self, identities: Sequence[str]) -> Tensor:
        """Return the chunks of utterances one after the other, (C, 128, 3000), in one allocation.

        Raises:
            DataError: an id that is not stored, or damage.
        """
        values = [self.reader.values(identity) for identity in identities]
        samples = [int(found["samples"]) for found in values]
        ends = list(accumulate(chunk_count(count) for count in samples))
        shape = (ends[-1] if ends else 0, NUM_BINS, CHUNK_FRAMES)
        whole = torch.empty(shape, dtype=DTYPES[self.reader.dtype])
        room, start = as_bits(whole), 0
        for identity, found, count, end in zip(identities, values, samples, ends, strict=True):
            frames = self.reader.bits(identity)
            restore_into(room[start:end], frames, found["fill"], count)
            start = end
        return whole
