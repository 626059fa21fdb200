"""What passes from data to a text-to-speech task: a target utterance with a prompt of its speaker.

Shapes use B for rows in a batch, U for text tokens, S for semantic tokens, T for mel frames, F for
mel bins, L for speaker latents and D for model width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from core.contracts.noisy import Padded
from core.contracts.records import Skipped

UNMAPPED = -1
"""Speaker index of a row whose speaker the mapping does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechPairBatch:
    """Rows of a pair manifest: what is said, how, and by whom.

    Args:
        ids: of the rows, ``target__prompt``.
        text: (B, U) int64 text ids with lengths, zero beyond each length.
        codes: (B, S) int64 semantic codes of the target with lengths, zero beyond each length.
        condition: (B, L, D) float32 latents of the prompt's speaker.
        mel: (B, T, F) float32 log-mel frames that the emotion vector is computed from, with
            lengths; length 0 where a row has none; None where no row has.
        emotion: (B, D) float32 stored emotion vectors, zeros where a row has none; None where no
            row has.
        speakers: (B,) int64 index of the target's speaker, ``UNMAPPED`` where the mapping has none.
        speaker_names: of the rows.
        sides: ``target`` or ``prompt``: the utterance that mel and stored vector are of.
        utterances: ids of those utterances.
        emotions: their labels, empty where a row has none.
        audio: paths of their audio, empty where a row names none.
        token_seconds: seconds that one semantic token stands for.
        skipped: what the plan had put into this batch and could not be used.
        events: how often something happened that the run should tell.
    """

    ids: tuple[str, ...]
    text: Padded
    codes: Padded
    condition: Tensor
    mel: Padded | None
    emotion: Tensor | None
    speakers: Tensor
    speaker_names: tuple[str, ...] = ()
    sides: tuple[str, ...] = ()
    utterances: tuple[str, ...] = ()
    emotions: tuple[str, ...] = ()
    audio: tuple[str, ...] = ()
    token_seconds: float = 0.02
    skipped: tuple[Skipped, ...] = ()
    events: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def seconds(self) -> float:
        """Seconds of target speech."""
        return float(self.codes.lengths.sum()) * self.token_seconds

    @property
    def padded_seconds(self) -> float:
        """Seconds of target speech and padding."""
        return self.codes.values.numel() * self.token_seconds

    def to(self, device: torch.device) -> SpeechPairBatch:
        """Return the batch with its tensors on ``device``."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> SpeechPairBatch:
        """Return the batch in page-locked memory; called by torch's DataLoader."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, move: Callable[[Tensor], Tensor]) -> SpeechPairBatch:
        return replace(
            self,
            text=self.text.map(move),
            codes=self.codes.map(move),
            condition=move(self.condition),
            mel=self.mel.map(move) if self.mel is not None else None,
            emotion=move(self.emotion) if self.emotion is not None else None,
            speakers=move(self.speakers),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenIds:
    """Ids that may stand in a sequence.

    Args:
        size: they are from 0 to below it.
        reserved: ids that the model itself puts around a sequence: start and stop.
    """

    size: int
    reserved: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairForm:
    """What a model can read of a row.

    Args:
        text: ids of the text.
        codes: semantic codes.
        latents: (L, D) of a speaker; stored emotion vectors have D elements.
    """

    text: TokenIds
    codes: TokenIds
    latents: tuple[int, int]


@runtime_checkable
class PairReader(Protocol):
    """A task that knows, before it is set up, what rows it can read."""

    def pair_form(self) -> PairForm:
        """Return what a row must be like."""


@runtime_checkable
class PairSource(Protocol):
    """Data that can hold its rows to what a task reads."""

    def expect(self, form: PairForm) -> None:
        """Leave out rows of another form from now on; called before :meth:`DataModule.setup`."""
