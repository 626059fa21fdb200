"""What passes between data, tasks and trackers: batches, sums, transcripts, artifacts.

Shapes use B for utterances in a batch, S for samples, T for frames, F for feature bins, D for model
width, U for target tokens and V for vocabulary entries.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, Self, runtime_checkable

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class LossSum:
    """A loss as a sum over targets, so that ragged batches and ranks can be weighed exactly.

    Args:
        total: scalar, summed over targets, differentiable.
        count: number of targets in ``total``; a scalar tensor or a number.
        weight: factor of this loss in the objective.
    """

    total: Tensor
    count: Tensor | float
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSum:
    """A metric as a sum and a count; its value is ``total / count`` after sums over all ranks."""

    total: Tensor | float
    count: Tensor | float


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """An utterance that was left out, and why."""

    id: str
    reason: str
    """Short and countable, such as ``missing file`` or ``non-finite samples``."""
    detail: str = ""


@runtime_checkable
class Batch(Protocol):
    """What the training loop knows of a batch."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the utterances in the batch."""

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """What the plan had put into the batch and could not be used."""

    @property
    def seconds(self) -> float:
        """Seconds of real audio in the batch."""

    @property
    def padded_seconds(self) -> float:
        """Seconds that the batch occupies, padding included."""

    def to(self, device: torch.device) -> Self:
        """Return the batch with its tensors on ``device``."""

    def __len__(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechBatch:
    """Padded audio with transcripts.

    Args:
        ids: utterance ids.
        audio: (B, S) float32 in [-1, 1], zero beyond each length.
        audio_lengths: (B,) int64, samples.
        targets: (B, U) int64 token ids, zero beyond each length; U is 0 where there is no text.
        target_lengths: (B,) int64, tokens.
        sample_rate: of ``audio``, in Hz.
        texts: transcripts as read, before tokenisation.
        speakers: speaker ids, None where unknown.
        untold: ids of utterances that came without a transcript; their text is empty.
        skipped: what the plan had put into this batch and could not be used.
    """

    ids: tuple[str, ...]
    audio: Tensor
    audio_lengths: Tensor
    targets: Tensor
    target_lengths: Tensor
    sample_rate: int
    texts: tuple[str, ...] = ()
    speakers: tuple[str | None, ...] = ()
    untold: frozenset[str] = frozenset()
    skipped: tuple[Skipped, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def seconds(self) -> float:
        """Seconds of real audio."""
        return float(self.audio_lengths.sum()) / self.sample_rate

    @property
    def padded_seconds(self) -> float:
        """Seconds of audio and padding."""
        return self.audio.numel() / self.sample_rate

    def to(self, device: torch.device) -> SpeechBatch:
        """Return the batch with its tensors on ``device``."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> SpeechBatch:
        """Return the batch in page-locked memory; called by torch's DataLoader."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, move: Any) -> SpeechBatch:  # noqa: ANN401
        return replace(
            self,
            audio=move(self.audio),
            audio_lengths=move(self.audio_lengths),
            targets=move(self.targets),
            target_lengths=move(self.target_lengths),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTime:
    """A token with the seconds it spans and the model's probability for it."""

    token: str
    start: float
    end: float
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """What a model heard in one utterance."""

    id: str
    text: str
    tokens: tuple[TokenTime, ...] = ()
    score: float | None = None
    """Log probability of the hypothesis; None where the model gives none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hypothesis:
    """A decoded token sequence with the frames its tokens occupy.

    Args:
        ids: token ids, blanks removed and repeats collapsed.
        starts: first frame of each token.
        ends: frame after the last one of each token.
        probabilities: of each token.
        score: log probability of the sequence (of the best path, for greedy decoding).
    """

    ids: tuple[int, ...]
    starts: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()
    probabilities: tuple[float, ...] = ()
    score: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """Something to look at or listen to, produced by a task and shown by the trackers.

    Args:
        name: stable over steps, such as ``alignment/utt-17``.
        kind: ``text``, ``audio`` or ``image``.
        value: a string; (S,) float32 samples; or (H, W, 3) uint8 pixels.
        caption: one line, such as the reference transcript.
        sample_rate: in Hz, for audio.
    """

    name: str
    kind: Literal["text", "audio", "image"]
    value: str | np.ndarray[Any, Any]
    caption: str = ""
    sample_rate: int | None = None
