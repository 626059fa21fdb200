"""Batches of stored features, for models whose encoder is frozen, and the tasks that adapt them."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from core.contracts.records import Skipped


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureBatch:
    """Chunks of features with transcripts, or what a frozen encoder made of them.

    The C chunks of all utterances lie one after the other; an utterance has as many as its audio
    fills, the last one in part. Exactly one of ``features`` and ``encoded`` is there.

    Args:
        ids: utterance ids.
        texts: transcripts in the form that is trained on.
        chunks: of each utterance; they sum to C.
        samples: (B,) int64 samples of audio behind each utterance.
        sample_rate: of those samples, in Hz.
        chunk_seconds: of audio that a chunk has room for.
        features: (C, F, T) features in the dtype they are stored in.
        encoded: (C, R, W) rows of width W as the projector takes them.
        speakers: speaker ids, None where unknown.
        untold: ids of utterances that came without a transcript; their text is empty.
        skipped: what the plan had put into this batch and could not be used.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    chunks: tuple[int, ...]
    samples: Tensor
    sample_rate: int
    chunk_seconds: float
    features: Tensor | None = None
    encoded: Tensor | None = None
    speakers: tuple[str | None, ...] = ()
    untold: frozenset[str] = frozenset()
    skipped: tuple[Skipped, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def seconds(self) -> float:
        """Seconds of real audio."""
        return float(self.samples.sum()) / self.sample_rate

    @property
    def padded_seconds(self) -> float:
        """Seconds that the chunks have room for."""
        return sum(self.chunks) * self.chunk_seconds

    def to(self, device: torch.device) -> FeatureBatch:
        """Return the batch with its features on ``device``."""
        return replace(
            self, features=_moved(self.features, device), encoded=_moved(self.encoded, device)
        )

    def pin_memory(self) -> FeatureBatch:
        """Return the batch in page-locked memory; called by torch's DataLoader."""
        features, encoded = self.features, self.encoded
        return replace(
            self,
            features=None if features is None else features.pin_memory(),
            encoded=None if encoded is None else encoded.pin_memory(),
        )


@runtime_checkable
class Adapted(Protocol):
    """A task that adds to a frozen model what can be taken away again for comparison."""

    def unadapted(self) -> AbstractContextManager[None]:
        """Compute with the frozen model alone while the context lasts."""


def _moved(tensor: Tensor | None, device: torch.device) -> Tensor | None:
    return None if tensor is None else tensor.to(device, non_blocking=True)
