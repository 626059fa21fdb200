"""Whisper's log-mel as Voxtral and its relatives read it, cut down to what is not padding."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.data.feature_map import Stored, as_bits
from core.errors import ConfigError, DataError

SAMPLE_RATE = 16000
HOP = 160
CHUNK_SAMPLES = 480_000
CHUNK_FRAMES = CHUNK_SAMPLES // HOP
NUM_BINS = 128

TRIM_RULE = "ceil(samples / 160) + 2 frames, then one measured constant"
"""A frame is centred on sample 160 t and its window reaches 200 samples to each side, so frames
from ceil(samples / 160) + 2 on see zeros only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trimmed:
    """Features without their padding.

    Args:
        frames: (128, T), contiguous, T at most the frames of all chunks.
        fill: what every later frame is in every bin.
        samples: of the audio.
    """

    frames: Tensor
    fill: float
    samples: int


class WhisperFeatures:
    """Features of 16 kHz mono audio, bit for bit those of ``VoxtralProcessor`` for 16-bit audio.

    The extractor of transformers is called as that processor calls it: audio is padded with zeros
    to whole chunks of 30 s, floored at 8 (in log10) below the loudest value of all chunks
    together, and split. Unlike the processor's, the audio is encoded nowhere on the way: neither
    rounded to 16 bits nor clipped at 1. One clip at a time, on CPU, so it is none of kind
    ``features``.
    """

    sample_rate = SAMPLE_RATE

    @property
    def settings(self) -> dict[str, Any]:
        """What the features depend on: settings of the extractor and version of transformers."""
        import transformers

        return {**self._extractor.to_dict(), "transformers": transformers.__version__}

    def load(self) -> None:
        """Import transformers now, once for all workers that are forked from this process.

        Raises:
            ConfigError: it is not installed.
        """
        _ = self._extractor

    def __call__(self, audio: Tensor) -> Tensor:
        """Map (S,) float32 samples to (chunks, 128, 3000) float32.

        Raises:
            DataError: no samples, or not one channel of float32.
        """
        if audio.ndim != 1 or audio.dtype != torch.float32 or not audio.numel():
            raise DataError(
                f"samples have shape {tuple(audio.shape)} and {audio.dtype}; "
                "expected (S,), S > 0, torch.float32"
            )
        made = self._extractor(
            audio.numpy(),
            sampling_rate=SAMPLE_RATE,
            padding=True,
            truncation=False,
            pad_to_multiple_of=CHUNK_SAMPLES,
            return_tensors="pt",
        )["input_features"][0]
        chunked: Tensor = made.reshape(NUM_BINS, -1, CHUNK_FRAMES).transpose(0, 1)
        return chunked

    def by_parts(self, audio: Tensor, *, chunks: int | None) -> Tensor:
        """Map (S,) samples to features as :meth:`__call__` does, of parts that know nothing of
        each other: of ``chunks`` chunks, or of the whole where that is None.
        """
        if chunks is None:
            return self(audio)
        return torch.cat([self(part) for part in audio.split(chunks * CHUNK_SAMPLES)])

    @cached_property
    def _extractor(self) -> Any:  # noqa: ANN401
        try:
            from transformers import WhisperFeatureExtractor
        except ImportError as error:
            raise ConfigError(
                "Whisper features need the package 'transformers': pip install 'transformers>=5,<6'"
            ) from error
        return WhisperFeatureExtractor(feature_size=NUM_BINS)


def chunk_count(samples: int) -> int:
    """Return how many chunks of 30 s audio of ``samples`` fills, the last one in part."""
    return -(-samples // CHUNK_SAMPLES)


def frame_count(samples: int) -> int:
    """Return how many frames :func:`trim` keeps."""
    return min(math.ceil(samples / HOP) + 2, chunk_count(samples) * CHUNK_FRAMES)


def trim(features: Tensor, *, samples: int) -> Trimmed:
    """Split (chunks, 128, 3000) features into frames that hear audio and the constant after them.

    The constant is taken from the features. It is max(-1.5, loudest - 2) only up to a rounding: the
    extractor floors before it scales, which often gives the next number of float32.

    Args:
        features: of :class:`WhisperFeatures`, whole.
        samples: of the audio.

    Raises:
        DataError: the shape is not that of ``samples``, or what follows the audio is not constant,
            as with an extractor that dithers.
    """
    chunks = chunk_count(samples)
    if tuple(features.shape) != (chunks, NUM_BINS, CHUNK_FRAMES):
        raise DataError(
            f"features of {samples:,} samples have shape {tuple(features.shape)}; "
            f"expected {(chunks, NUM_BINS, CHUNK_FRAMES)}"
        )
    joined = features.transpose(0, 1).reshape(NUM_BINS, -1)
    kept = frame_count(samples)
    tail = joined[:, kept:]
    fill = tail[0, 0].item() if tail.numel() else 0.0
    if not bool((tail == fill).all()):
        raise DataError(f"features after {kept} frames, where audio ends, are not constant")
    return Trimmed(frames=joined[:, :kept].contiguous(), fill=fill, samples=samples)


def restore(trimmed: Trimmed) -> Tensor:
    """Return (chunks, 128, 3000) in the dtype of the frames.

    In float32 these are the features that were trimmed; in bfloat16 they are those rounded.

    Raises:
        DataError: the frames are not as many as audio of that length has.
    """
    shape = (chunk_count(trimmed.samples), NUM_BINS, CHUNK_FRAMES)
    whole = torch.empty(shape, dtype=trimmed.frames.dtype)
    restore_into(as_bits(whole), as_bits(trimmed.frames), trimmed.fill, trimmed.samples)
    return whole


def restore_into(target: Stored, frames: Stored, fill: float, samples: int) -> None:
    """Write features that were trimmed to where a batch has room for them.

    Args:
        target: (chunks, 128, 3000), overwritten; bfloat16 as the integers that its bits are.
        frames: (128, T) in the same form.
        fill: what every later frame is in every bin.
        samples: of the audio.

    Raises:
        DataError: the frames are not as many as audio of that length has.
    """
    if frames.shape != (NUM_BINS, frame_count(samples)):
        raise DataError(
            f"features of {samples:,} samples have shape {frames.shape}; "
            f"expected {(NUM_BINS, frame_count(samples))}"
        )
    constant = _bits_of(fill) if target.dtype == np.int16 else fill
    for chunk, room in enumerate(target):
        part = frames[:, chunk * CHUNK_FRAMES : (chunk + 1) * CHUNK_FRAMES]
        room[:, : part.shape[1]] = part
        room[:, part.shape[1] :] = constant


def _bits_of(value: float) -> int:
    """Return the bits of a finite number rounded to bfloat16, to even where it is in the middle."""
    wide: int = struct.unpack("<i", struct.pack("<f", value))[0]
    return (wide + 0x7FFF + (wide >> 16 & 1)) >> 16
