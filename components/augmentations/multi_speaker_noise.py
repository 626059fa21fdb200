"""Other speakers and noise over part of an utterance."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from components.augmentations.segments import Segmentation, place, repeated, split, stretch
from core.data.noisy import Mixed
from core.errors import ConfigError
from core.registry import register

NO_OTHER_SPEAKER = "no other speaker"
SILENT_INTERFERENCE = "silent interference"

_SILENCE = 1e-20
"""Mean square below which nothing can be heard at any volume: -200 dB."""


@register("augmentation", "multi_speaker_noise")
class MultiSpeakerNoise:
    """The augmentation of NEST (Huang et al. 2024, section 2.2), on batches of waveforms.

    An utterance is augmented with probability ``prob``. Part of it, ``mix_rate`` of its length in
    one or more segments, is then mixed either with noise (probability ``noise_ratio``) or with
    other utterances of the batch, as they were recorded. The ratio of speech to what is mixed in is
    that of their energies over the whole utterance: 5 dB asked is 5 dB measured.

    Right by default, and equal to NeMo 2.5 to 3.0 (same draws from the same generator, too) with
    ``unaugmented="raw_noise"``, ``unaugmented_length="noise"``, ``same_speaker=True`` and
    ``segmentation="multinomial"``. In any form, an utterance or noise without energy is mixed with
    nothing, and a batch that has no other speaker to offer takes noise.

    Args:
        prob: of an utterance to be augmented.
        noise_ratio: probability of noise, rather than speech, in an augmented utterance. Where
            there is no noise at all, such an utterance stays clean.
        speech_snr: lowest and highest ratio to other speech, in dB.
        noise_snr: lowest and highest ratio to noise, in dB.
        mix_rate: lowest and highest share of an utterance that is mixed over.
        segments: fewest and most segments of that share.
        speakers: fewest and most other utterances for these segments.
        unaugmented: ``clean`` leaves an utterance that is not augmented as it was. ``raw_noise``
            is NeMo's behaviour: its noise is added from its beginning, unscaled.
        unaugmented_length: ``speech`` gives an utterance that is not augmented its own length.
            ``noise`` is NeMo's behaviour: it gets the length of its noise, which may be shorter
            and then cuts off the model's view of the utterance.
        same_speaker: whether another utterance of the same speaker, where speakers are known, may
            be mixed in. True is NeMo's behaviour; it makes two voices of one speaker a target.
        segmentation: ``break_points`` cuts at uniform random points. ``multinomial`` is NeMo's:
            segments of nearly equal lengths, for one random number a sample.
    """

    def __init__(
        self,
        *,
        prob: float = 0.5,
        noise_ratio: float = 0.5,
        speech_snr: tuple[float, float] = (-5.0, 5.0),
        noise_snr: tuple[float, float] = (-5.0, 20.0),
        mix_rate: tuple[float, float] = (0.5, 0.5),
        segments: tuple[int, int] = (1, 1),
        speakers: tuple[int, int] = (1, 1),
        unaugmented: Literal["clean", "raw_noise"] = "clean",
        unaugmented_length: Literal["speech", "noise"] = "speech",
        same_speaker: bool = False,
        segmentation: Segmentation = "break_points",
    ) -> None:
        _check_range("prob", (prob, prob), 0.0, 1.0)
        _check_range("noise_ratio", (noise_ratio, noise_ratio), 0.0, 1.0)
        _check_range("speech_snr", speech_snr)
        _check_range("noise_snr", noise_snr)
        _check_range("mix_rate", mix_rate, 0.0, 1.0)
        _check_range("segments", segments, 1)
        _check_range("speakers", speakers, 1)
        self.prob = prob
        self.noise_ratio = noise_ratio
        self.speech_snr = speech_snr
        self.noise_snr = noise_snr
        self.mix_rate = mix_rate
        self.segments = segments
        self.speakers = speakers
        self.unaugmented = unaugmented
        self.unaugmented_length = unaugmented_length
        self.same_speaker = same_speaker
        self.segmentation = segmentation

    def mix(
        self,
        audio: Tensor,
        lengths: Tensor,
        *,
        noise: Callable[[int], Tensor] | None,
        speakers: Sequence[str | None],
        rng: random.Random,
    ) -> Mixed:
        """Return what a model gets to hear; see :class:`core.data.noisy.SpeechMixer`."""
        events: Counter[str] = Counter()
        mixed, mixed_lengths = audio.clone(), lengths.clone()
        batch = [row[:length] for row, length in zip(audio, lengths.tolist(), strict=True)]
        for index, speech in enumerate(batch):
            if rng.random() < self.prob:
                others = self._others(index, speakers)
                added = self._interference(index, batch, others, noise, rng, events)
                mixed[index, : speech.numel()] += added
                continue
            if noise is None or (self.unaugmented, self.unaugmented_length) == ("clean", "speech"):
                continue
            raw = noise(index)
            if self.unaugmented == "raw_noise":
                mixed[index, : raw.numel()] += raw
            if self.unaugmented_length == "noise":
                mixed_lengths[index] = raw.numel()
        return Mixed(audio=mixed, lengths=mixed_lengths, events=events)

    def _others(self, index: int, speakers: Sequence[str | None]) -> list[int]:
        """Return the utterances that may be mixed into utterance ``index``."""
        mine = speakers[index]
        return [
            other
            for other, speaker in enumerate(speakers)
            if other != index and (self.same_speaker or mine is None or speaker != mine)
        ]

    def _interference(
        self,
        index: int,
        batch: Sequence[Tensor],
        others: Sequence[int],
        noise: Callable[[int], Tensor] | None,
        rng: random.Random,
        events: Counter[str],
    ) -> Tensor:
        """Return (S,) what is added to an utterance of S samples. Draws come in NeMo's order."""
        speech = batch[index]
        low, high = self.mix_rate
        share = max(1, int(speech.numel() * (rng.uniform(low, high) if low < high else low)))
        pieces, voices = rng.randint(*self.segments), rng.randint(*self.speakers)
        sizes = split(share, pieces, rng, form=self.segmentation)
        with_noise = rng.random() < self.noise_ratio
        if not with_noise and not others:
            events[NO_OTHER_SPEAKER] += 1
            with_noise = True
        ratio = rng.uniform(*(self.noise_snr if with_noise else self.speech_snr))
        if with_noise and noise is None:
            return torch.zeros_like(speech)
        if noise is not None and with_noise:
            parts = list(torch.split(repeated(noise(index), share), sizes))
        else:
            chosen = rng.sample(others, min(voices, len(others)))
            parts = _said([batch[other] for other in chosen], sizes, rng)
        placed = place(parts, speech.numel(), rng)
        return placed * _scale(speech, placed, ratio, events)


def _said(voices: Sequence[Tensor], sizes: Sequence[int], rng: random.Random) -> list[Tensor]:
    """Return a stretch of speech for each size; each voice has one before any has a second."""
    parts: list[Tensor] = []
    voice = 0
    for size in sizes:
        parts.append(stretch(voices[voice], size, rng))
        voice += 1
        # Drawn after the last part as well, like NeMo, so that what is drawn next is the same.
        if voice == len(voices):
            voice = rng.randrange(len(voices))
    return parts


def _scale(speech: Tensor, added: Tensor, ratio: float, events: Counter[str]) -> float:
    """Return the factor of ``added`` at which ``speech`` is ``ratio`` dB above it."""
    wanted = _energy(speech) / 10.0 ** (ratio / 10.0)
    found = _energy(added)
    if found < _SILENCE:
        events[SILENT_INTERFERENCE] += 1
        return 0.0
    return math.sqrt(wanted / found)


def _energy(audio: Tensor) -> float:
    """Return the mean square of (S,) samples."""
    return float(audio.double().square().mean())


def _check_range(
    name: str, bounds: tuple[float, float], least: float = -math.inf, most: float = math.inf
) -> None:
    low, high = bounds
    if not least <= low <= high <= most:
        raise ConfigError(
            f"multi_speaker_noise: {name} is {bounds}; expected two numbers in order, from "
            f"{least:g} to {most:g}"
        )
