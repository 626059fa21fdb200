"""Cuts to clean and noisy speech. What is drawn depends on the seed and on the batch's key only."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from lhotse.cut import Cut
from torch import Tensor

from core.contracts import NoisySpeechBatch, Padded, Skipped
from core.data.audio import AudioError, Channel, load_audio
from core.data.collate import Key
from core.data.noise import NoiseSampler
from core.data.speech import padded, skip, speaker

REPEATED = "repeated clips"
SILENT = "silent clips"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixed:
    """What a model gets to hear of a batch.

    Args:
        audio: (B, S) float32.
        lengths: (B,) int64.
        events: how often something happened that the run should tell.
    """

    audio: Tensor
    lengths: Tensor
    events: Mapping[str, int] = field(default_factory=dict)


class SpeechMixer(Protocol):
    """Mixes noise and other voices into speech, in the loader (kind ``augmentation``)."""

    def mix(
        self,
        audio: Tensor,
        lengths: Tensor,
        *,
        noise: Callable[[int], Tensor] | None,
        speakers: Sequence[str | None],
        rng: random.Random,
    ) -> Mixed:
        """Return the noisy form of a batch; the clean one is left as it is.

        Args:
            audio: (B, S) float32 clean speech.
            lengths: (B,) int64.
            noise: gives (N,) noise for an utterance, 0 < N <= its length, the same when asked
                again; None where there is no noise.
            speakers: of the B utterances, None where unknown.
            rng: of everything that is drawn.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisyCollator:
    """Cuts to a :class:`NoisySpeechBatch`.

    Args:
        sample_rate: of the batch; audio of other rates is resampled.
        channel: what to do with several channels.
        repeat_to: samples up to which shorter audio is repeated; 0 to leave it short.
        noise: None for none.
        mixer: None to hear what was recorded.
        seed: of everything that is drawn, together with the key of the batch.
    """

    sample_rate: int
    channel: Channel
    repeat_to: int
    noise: NoiseSampler | None
    mixer: SpeechMixer | None
    seed: str

    def __call__(self, cuts: Iterable[Cut | AudioError], key: Key) -> NoisySpeechBatch:
        """Load, pad and mix; a cut that fails becomes an entry of ``skipped``."""
        events: Counter[str] = Counter()
        used: list[Cut] = []
        rows: list[Tensor] = []
        skipped: list[Skipped] = []
        for cut in cuts:
            try:
                rows.append(self._audio(cut, events))
            except AudioError as error:
                skipped.append(skip(error))
                continue
            used.append(cut)
        values, lengths = padded(rows)
        clean = Padded(values=values.to(torch.float32), lengths=lengths)
        speakers = tuple(speaker(cut) for cut in used)
        noisy = self._mixed(clean, speakers, key, events)
        return NoisySpeechBatch(
            ids=tuple(cut.id for cut in used),
            sample_rate=self.sample_rate,
            clean_audio=clean,
            noisy_audio=noisy,
            speakers=speakers,
            skipped=tuple(skipped),
            events=dict(events),
        )

    def _audio(self, cut: Cut | AudioError, events: Counter[str]) -> Tensor:
        """Return (S,) samples, S at least ``repeat_to``. Raises AudioError."""
        if isinstance(cut, AudioError):
            raise cut
        audio = torch.from_numpy(
            load_audio(cut, sample_rate=self.sample_rate, channel=self.channel)
        )
        if not audio.any():
            events[SILENT] += 1
        if audio.numel() < self.repeat_to:
            events[REPEATED] += 1
            return audio.repeat(-(-self.repeat_to // audio.numel()))[: self.repeat_to]
        return audio

    def _mixed(
        self, clean: Padded, speakers: Sequence[str | None], key: Key, events: Counter[str]
    ) -> Padded:
        if self.mixer is None:
            return clean

        mixed = self.mixer.mix(
            clean.values,
            clean.lengths,
            noise=self._noise(clean.lengths, key, events),
            speakers=speakers,
            rng=random.Random(f"{self.seed}/{key}"),
        )
        events.update(mixed.events)
        beyond = torch.arange(mixed.audio.size(1)) >= mixed.lengths[:, None]
        return Padded(values=mixed.audio.masked_fill(beyond, 0.0), lengths=mixed.lengths)

    def _noise(
        self, lengths: Tensor, key: Key, events: Counter[str]
    ) -> Callable[[int], Tensor] | None:
        """Return what draws noise for an utterance: most utterances are never asked for theirs."""
        sampler = self.noise
        if sampler is None:
            return None

        def draw(index: int) -> Tensor:
            # Its own generator, so that noise does not depend on who else is given some.
            rng = random.Random(f"{self.seed}/{key}/{index}")
            return torch.from_numpy(sampler.draw(int(lengths[index]), rng=rng, events=events))

        return draw
