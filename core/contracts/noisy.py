"""What passes from data to a task that learns without transcripts: clean and noisy speech.

Shapes use B for utterances in a batch, S for samples, T for frames and F for feature bins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from core.contracts.records import Skipped
from core.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Padded:
    """Sequences of different lengths in one tensor.

    Args:
        values: (B, L) samples or (B, T, F) frames, zero beyond each length.
        lengths: (B,) int64.
    """

    values: Tensor
    lengths: Tensor

    def map(self, move: Callable[[Tensor], Tensor]) -> Padded:
        """Return both tensors after ``move``."""
        return Padded(values=move(self.values), lengths=move(self.lengths))


@runtime_checkable
class Eventful(Protocol):
    """A batch that counts what happened while it was made."""

    @property
    def events(self) -> Mapping[str, int]:
        """How often something happened that the run should tell, such as ``noise retries``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisySpeechBatch:
    """Speech as it was recorded, and as a model gets to hear it.

    Either audio or features computed beforehand, never both: which of two inputs was used would
    then depend on the order in which they are looked at. Clean and noisy forms have lengths of
    their own.

    Args:
        ids: utterance ids.
        sample_rate: of the audio, in Hz.
        clean_audio: (B, S) float32 in [-1, 1]; None where features are given.
        noisy_audio: (B, S') float32, of the same utterances; None where features are given.
        clean_features: (B, T, F) float32; None where audio is given.
        noisy_features: (B, T', F) float32; None where audio is given.
        seconds_per_frame: of given features.
        speakers: speaker ids, None where unknown.
        skipped: what the plan had put into this batch and could not be used.
        events: how often something happened that the run should tell, such as ``noise retries``.

    Raises:
        DataError: audio and features are both given, one form of either is missing, or neither is
            there.
    """

    ids: tuple[str, ...]
    sample_rate: int
    clean_audio: Padded | None = None
    noisy_audio: Padded | None = None
    clean_features: Padded | None = None
    noisy_features: Padded | None = None
    seconds_per_frame: float = 0.01
    speakers: tuple[str | None, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    events: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        audio = (self.clean_audio is not None, self.noisy_audio is not None)
        features = (self.clean_features is not None, self.noisy_features is not None)
        if audio != (True, True) and features != (True, True):
            raise DataError(
                "a batch needs clean and noisy audio, or clean and noisy features; found "
                f"{self._given() or 'neither'}"
            )
        if any(audio) and any(features):
            raise DataError(
                f"a batch has either audio or features, not both; found {self._given()}"
            )

    def _given(self) -> str:
        names = ("clean_audio", "noisy_audio", "clean_features", "noisy_features")
        return ", ".join(name for name in names if getattr(self, name) is not None)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def seconds(self) -> float:
        """Seconds of real clean speech."""
        return float(self._clean.lengths.sum()) * self._unit

    @property
    def padded_seconds(self) -> float:
        """Seconds of clean speech and padding."""
        rows, longest = self._clean.values.shape[:2]
        return rows * longest * self._unit

    @property
    def _clean(self) -> Padded:
        found = self.clean_audio or self.clean_features
        assert found is not None  # checked when the batch was made
        return found

    @property
    def _unit(self) -> float:
        return 1.0 / self.sample_rate if self.clean_audio else self.seconds_per_frame

    def to(self, device: torch.device) -> NoisySpeechBatch:
        """Return the batch with its tensors on ``device``."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> NoisySpeechBatch:
        """Return the batch in page-locked memory; called by torch's DataLoader."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, move: Callable[[Tensor], Tensor]) -> NoisySpeechBatch:
        def moved(padded: Padded | None) -> Padded | None:
            return padded.map(move) if padded is not None else None

        return replace(
            self,
            clean_audio=moved(self.clean_audio),
            noisy_audio=moved(self.noisy_audio),
            clean_features=moved(self.clean_features),
            noisy_features=moved(self.noisy_features),
        )
