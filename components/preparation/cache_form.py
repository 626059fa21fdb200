"""What a cache holds of an utterance: its features, or what an encoder makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from components.features import encoder_cache, whisper_cache
from components.features.encoder_cache import EncoderCache, encoder_fingerprint
from components.features.whisper import Trimmed, restore
from components.features.whisper_cache import WhisperCache, cache_fingerprint
from components.preparation.cache_work import Extracted
from components.speech_llm.encoding import FrozenEncoder
from components.speech_llm.quantization import Quantization
from core.data.feature_index import StoredDtype
from core.data.feature_shards import FeatureReader
from core.data.fingerprint import Fingerprint


class CacheForm(Protocol):
    """What is stored of extracted features."""

    @property
    def fingerprint(self) -> Fingerprint:
        """What it depends on beside the audio."""

    @property
    def values(self) -> tuple[str, ...]:
        """Names of the numbers that belong to an array."""

    def stored(self, result: Extracted) -> tuple[Tensor, dict[str, float]]:
        """Return the 2-D array to store, and the numbers that belong to it."""

    def open(self, folder: Path) -> FeatureReader:
        """Open what was stored."""


class FeatureForm:
    """The features themselves, trimmed."""

    values = whisper_cache.VALUES

    def __init__(self) -> None:
        self.fingerprint = cache_fingerprint()

    def stored(self, result: Extracted) -> tuple[Tensor, dict[str, float]]:
        """Return (128, T) frames, the constant behind them, samples and stamp."""
        values = {"fill": result.fill, "samples": result.samples, "audio": result.stamp}
        return result.tensor(), values

    def open(self, folder: Path) -> FeatureReader:
        """Open a folder of features."""
        return WhisperCache(folder=folder).reader


@dataclass(frozen=True, kw_only=True)
class EncoderSettings:
    """Which encoder computes, and how.

    Args:
        base: folder of the model, or id on the hub.
        quantization: of the model.
        dtype: that it computes in, and its outputs are stored in.
        device: that it computes on.
    """

    base: str
    quantization: Quantization
    dtype: StoredDtype
    device: torch.device


class EncoderForm:
    """What a frozen encoder makes of the features: (chunks x R, W), every row of every chunk.

    A chunk is encoded by itself, so its rows do not depend on what is encoded with it, nor on
    where a run that was stopped goes on.

    Args:
        settings: of the encoder; its weights are loaded when the first utterance comes.
    """

    values = encoder_cache.VALUES

    def __init__(self, settings: EncoderSettings) -> None:
        self._settings = settings
        self._encoder: FrozenEncoder | None = None
        self.fingerprint = encoder_fingerprint(
            base=settings.base, quantization=settings.quantization, dtype=settings.dtype
        )

    def stored(self, result: Extracted) -> tuple[Tensor, dict[str, float]]:
        """Return the rows of all chunks one after the other, samples and stamp."""
        trimmed = Trimmed(frames=result.tensor(), fill=result.fill, samples=result.samples)
        features = restore(trimmed)
        chunks = [features.shape[0]]
        encoded = self._loaded()(features, chunks=chunks, samples=[result.samples])
        return encoded.flatten(0, 1), {"samples": result.samples, "audio": result.stamp}

    def open(self, folder: Path) -> FeatureReader:
        """Open a folder of encoder outputs."""
        return EncoderCache(folder=folder, expected=self.fingerprint).reader

    def _loaded(self) -> FrozenEncoder:
        if self._encoder is None:
            settings = self._settings
            self._encoder = FrozenEncoder(
                base=settings.base,
                quantization=settings.quantization,
                dtype=settings.dtype,
                device=settings.device,
            )
        return self._encoder
