"""Utterances of a source as padded batches; what cannot be used is named, never raised."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from lhotse.cut import Cut
from torch import Tensor

from core.contracts import Batch, Skipped, SpeechBatch, Tokenizer
from core.data.audio import AudioError, Channel, Samples, load_audio
from core.data.collate import Collate, Key, ReadsNoAudio
from core.data.plan import Indices
from core.data.source import Described, Source
from core.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class _Utterance:
    id: str
    audio: Samples
    text: str | None
    targets: list[int]
    speaker: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechCollator:
    """Cuts to a :class:`SpeechBatch`.

    Args:
        sample_rate: of the batch; audio of other rates is resampled.
        channel: what to do with several channels.
        tokenizer: of transcripts; None to give no targets.
    """

    sample_rate: int
    channel: Channel
    tokenizer: Tokenizer | None

    def __call__(self, cuts: Iterable[Cut | AudioError], key: Key = ()) -> SpeechBatch:
        """Load, tokenise and pad; a cut that fails becomes an entry of ``skipped``.

        Nothing is drawn at random, so ``key`` is not looked at.
        """
        used: list[_Utterance] = []
        skipped: list[Skipped] = []
        for cut in cuts:
            outcome = cut if isinstance(cut, AudioError) else self._utterance(cut)
            if isinstance(outcome, _Utterance):
                used.append(outcome)
            elif isinstance(outcome, Skipped):
                skipped.append(outcome)
            else:
                skipped.append(skip(outcome))
        audio, audio_lengths = padded([torch.from_numpy(item.audio) for item in used])
        targets, target_lengths = padded(
            [torch.tensor(item.targets, dtype=torch.int64) for item in used]
        )
        return SpeechBatch(
            ids=tuple(item.id for item in used),
            audio=audio.to(torch.float32),
            audio_lengths=audio_lengths,
            targets=targets.to(torch.int64),
            target_lengths=target_lengths,
            sample_rate=self.sample_rate,
            texts=tuple(item.text or "" for item in used),
            speakers=tuple(item.speaker for item in used),
            untold=frozenset(item.id for item in used if item.text is None),
            skipped=tuple(skipped),
        )

    def _utterance(self, cut: Cut) -> _Utterance | Skipped | AudioError:
        text = transcript(cut)
        targets: list[int] = []
        if self.tokenizer is not None:
            if text is None:
                return Skipped(id=cut.id, reason="no transcript")
            try:
                targets = self.tokenizer.encode(text)
            except DataError as error:
                return Skipped(id=cut.id, reason="text", detail=str(error))
        try:
            audio = load_audio(cut, sample_rate=self.sample_rate, channel=self.channel)
        except AudioError as error:
            return error
        return _Utterance(
            id=cut.id,
            audio=audio,
            text=text,
            targets=targets,
            speaker=speaker(cut),
        )


class SpeechLoader:
    """Micro-batches of a source by epoch and utterance numbers; runs in loader workers.

    Args:
        source: opened.
        rows: (N,) row of the source behind each utterance number.
        collator: makes the batch.
    """

    def __init__(self, *, source: Source, rows: Indices, collator: Collate) -> None:
        self._cut = source.cut
        if isinstance(source, Described) and isinstance(collator, ReadsNoAudio):
            self._cut = source.described
        self._rows = rows
        self._collator = collator

    def __call__(self, request: tuple[int, Indices]) -> Batch:
        """Return the batch of ``(epoch, utterances)``, which are also its key."""
        epoch, utterances = request
        return self._collator(self._cuts(self._rows[utterances]), (epoch, *utterances.tolist()))

    def _cuts(self, rows: Indices) -> Iterator[Cut | AudioError]:
        for row in rows.tolist():
            try:
                yield self._cut(row)
            except AudioError as error:
                yield error


def transcript(cut: Cut) -> str | None:
    """Return the NFC-normalised text of a cut, its supervisions in order of time."""
    ordered = sorted(cut.supervisions, key=lambda supervision: supervision.start)
    texts = [supervision.text for supervision in ordered if supervision.text is not None]
    return unicodedata.normalize("NFC", " ".join(texts)) if texts else None


def speaker(cut: Cut) -> str | None:
    """Return who speaks first in a cut, None where that is not known."""
    return cut.supervisions[0].speaker if cut.supervisions else None


def skip(error: AudioError) -> Skipped:
    """Return what a batch tells of audio that cannot be used."""
    return Skipped(id=error.utterance, reason=error.reason, detail=error.detail)


def padded(rows: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Stack (L,) rows to (B, max L), zero beyond each length, and return (B,) lengths."""
    lengths = torch.tensor([row.numel() for row in rows], dtype=torch.int64)
    longest = int(lengths.max()) if rows else 0
    stacked = torch.zeros(len(rows), longest, dtype=rows[0].dtype if rows else torch.float32)
    for row, target in zip(rows, stacked, strict=True):
        target[: row.numel()] = row
    return stacked, lengths
