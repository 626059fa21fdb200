"""Utterances as batches of chunks: features from audio, or what a cache has of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from lhotse.cut import Cut
from torch import Tensor

from components.features.encoder_cache import EncoderCache
from components.features.stored import StoredFeatures
from components.features.whisper import (
    CHUNK_FRAMES,
    CHUNK_SAMPLES,
    NUM_BINS,
    SAMPLE_RATE,
    WhisperFeatures,
    chunk_count,
)
from core.contracts import FeatureBatch, Skipped
from core.contracts.components import TextForm
from core.data.audio import TRUNCATION_TOLERANCE, AudioError, load_audio
from core.data.collate import Key
from core.data.feature_index import DTYPES, StoredDtype
from core.data.speech import skip, speaker, transcript

CHUNK_SECONDS = CHUNK_SAMPLES / SAMPLE_RATE


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcripts:
    """Which text an utterance is given with.

    Args:
        form: normal form; None for the text as it is, in form NFC.
        required: leave out what has no text, or none that the form is certain of.
    """

    form: TextForm | None
    required: bool

    def __call__(self, cut: Cut) -> str | Skipped:
        """Return the text of a cut, or why there is none."""
        text = transcript(cut)
        if text is None:
            return Skipped(id=cut.id, reason="no transcript") if self.required else ""
        if self.form is not None:
            if self.required and (fault := self.form.fault(text)):
                return Skipped(id=cut.id, reason=fault, detail=text)
            text = self.form(text)
        if self.required and not text:
            return Skipped(id=cut.id, reason="empty transcript", detail=transcript(cut) or "")
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioFeatures:
    """Cuts to a :class:`FeatureBatch`: decoded once, averaged to one channel, at 16 kHz.

    Args:
        extractor: of features.
        dtype: that they are rounded to, as a cache would.
        transcripts: which text is given.
        most_chunks: that the model takes at once; features of longer audio are those of its parts,
            and where a text is required it is left out. None for any number.
    """

    extractor: WhisperFeatures
    dtype: StoredDtype
    transcripts: Transcripts
    most_chunks: int | None = None

    def __call__(self, cuts: Iterable[Cut | AudioError], key: Key = ()) -> FeatureBatch:
        """Decode and extract; a cut that fails becomes an entry of ``skipped``."""
        used: list[tuple[Cut, str, int]] = []
        skipped: list[Skipped] = []
        parts: list[Tensor] = []
        for cut in cuts:
            if isinstance(cut, AudioError):
                skipped.append(skip(cut))
                continue
            text = self.transcripts(cut)
            if isinstance(text, Skipped):
                skipped.append(text)
                continue
            try:
                audio = load_audio(cut, sample_rate=SAMPLE_RATE, channel="mean")
            except AudioError as error:
                skipped.append(skip(error))
                continue
            if self.transcripts.required and (
                long := _too_long(cut.id, audio.size, self.most_chunks)
            ):
                skipped.append(long)
                continue
            found = self.extractor.by_parts(torch.from_numpy(audio), chunks=self.most_chunks)
            parts.append(found.to(DTYPES[self.dtype]))
            used.append((cut, text, audio.size))
        nothing = torch.empty((0, NUM_BINS, CHUNK_FRAMES), dtype=DTYPES[self.dtype])
        return _batch(used, skipped, features=torch.cat(parts) if parts else nothing)


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedFeatures:
    """Cuts to a :class:`FeatureBatch` of what is stored for their ids; no audio is looked at.

    An utterance is left out where nothing is stored for it, or where what is stored lasts longer
    or shorter than the manifest says: it is of other audio with the same id.

    Args:
        store: features, or encoder outputs.
        transcripts: which text is given.
        most_chunks: that the model takes at once; where a text is required, longer audio is left
            out. None for any number.
    """

    needs_audio: ClassVar[Literal[False]] = False

    store: StoredFeatures
    transcripts: Transcripts
    most_chunks: int | None = None

    def __call__(self, cuts: Iterable[Cut | AudioError], key: Key = ()) -> FeatureBatch:
        """Read from the shards, straight to where the batch is."""
        used: list[tuple[Cut, str, int]] = []
        skipped: list[Skipped] = []
        for cut in cuts:
            if isinstance(cut, AudioError):
                skipped.append(skip(cut))
                continue
            text = self._fault(cut) or self.transcripts(cut)
            if isinstance(text, Skipped):
                skipped.append(text)
                continue
            used.append((cut, text, self.store.samples(cut.id)))
        found = self.store.batch([cut.id for cut, _, _ in used])
        if isinstance(self.store, EncoderCache):
            return _batch(used, skipped, encoded=found)
        return _batch(used, skipped, features=found)

    def _fault(self, cut: Cut) -> Skipped | None:
        if cut.id not in self.store.reader:
            place = str(self.store.reader.folder)
            return Skipped(id=cut.id, reason="not in the cache", detail=place)
        samples = self.store.samples(cut.id)
        stored = samples / SAMPLE_RATE
        if abs(stored - cut.duration) <= TRUNCATION_TOLERANCE:
            return (
                _too_long(cut.id, samples, self.most_chunks) if self.transcripts.required else None
            )
        detail = f"{stored:.2f} s are stored; the manifest says {cut.duration:.2f} s"
        return Skipped(id=cut.id, reason="other audio in the cache", detail=detail)


def _too_long(identity: str, samples: int, most_chunks: int | None) -> Skipped | None:
    """Return why a text cannot be asked of audio; None where it can."""
    if most_chunks is None or chunk_count(samples) <= most_chunks:
        return None
    detail = f"{samples / SAMPLE_RATE:.2f} s; at most {most_chunks * CHUNK_SECONDS:g} s"
    return Skipped(id=identity, reason="longer than the model takes at once", detail=detail)


def _batch(
    used: list[tuple[Cut, str, int]],
    skipped: list[Skipped],
    *,
    features: Tensor | None = None,
    encoded: Tensor | None = None,
) -> FeatureBatch:
    samples = [count for _, _, count in used]
    return FeatureBatch(
        ids=tuple(cut.id for cut, _, _ in used),
        texts=tuple(text for _, text, _ in used),
        chunks=tuple(chunk_count(count) for count in samples),
        samples=torch.tensor(samples, dtype=torch.int64),
        sample_rate=SAMPLE_RATE,
        chunk_seconds=CHUNK_SECONDS,
        features=features,
        encoded=encoded,
        speakers=tuple(speaker(cut) for cut, _, _ in used),
        untold=frozenset(cut.id for cut, _, _ in used if transcript(cut) is None),
        skipped=tuple(skipped),
    )
