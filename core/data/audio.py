"""Audio of a cut as samples, or a refusal that can be counted.

What is named ``.pcm`` and has no header is taken for what KsponSpeech and other corpora of AI Hub
have under that name: 16-bit little-endian samples of one channel, at 16 kHz unless a cut manifest
declares another rate. Half a sample at the end of such a file, which some of them have, is dropped.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import soundfile
from lhotse import AudioSource, Recording
from lhotse.audio.utils import AudioLoadingError, DurationMismatchError
from lhotse.cut import Cut, MonoCut, MultiCut

from core.data.resample import resampled
from core.errors import DataError

Samples: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]
Channel: TypeAlias = Literal["refuse", "mean"] | int
"""What to do with several channels: refuse them, average them, or take the one of this number."""

TRUNCATION_TOLERANCE = 0.1
"""Seconds by which audio may fall short of its declared duration: more than an MP3 encoder's
padding or a rounded manifest, less than a word."""

LOUDEST = 1e5
"""Magnitude that no sample may exceed, where full scale is 1: above 16-bit integers that were
written as floating point, far below where the power of a spectrum overflows."""

HEADERLESS = ".pcm"
HEADERLESS_RATE = 16_000

Reason: TypeAlias = Literal[
    "missing file",
    "empty file",
    "unreadable file",
    "not audio",
    "truncated",
    "sample rate",
    "channels",
    "non-finite samples",
    "samples out of range",
    "zero duration",
]
"""Why audio cannot be used; short and countable."""


class AudioError(DataError):
    """Audio that cannot be used.

    Args:
        reason: by which it is counted.
        detail: what was found and what was expected.
        utterance: id of the utterance.
    """

    def __init__(self, *, reason: Reason, detail: str, utterance: str) -> None:
        self.reason = reason
        self.detail = detail
        self.utterance = utterance
        super().__init__(f"{utterance}: {reason}: {detail}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioInfo:
    """What an audio header says."""

    sample_rate: int
    channels: int
    frames: int


def probe(audio: Path | bytes, *, utterance: str) -> AudioInfo:
    """Read the header of an audio file, or of its bytes. Raises AudioError."""
    with _opened(audio, utterance) as file:
        return AudioInfo(
            sample_rate=file.samplerate, channels=file.channels, frames=max(file.frames, 0)
        )


def recording(audio: Path | bytes, *, utterance: str) -> Recording:
    """Describe audio as a Lhotse recording, from its header. Raises AudioError."""
    info = probe(audio, utterance=utterance)
    channels = list(range(info.channels))
    if isinstance(audio, bytes):
        source = AudioSource(type="memory", channels=channels, source=audio)
    else:
        source = AudioSource(type="file", channels=channels, source=str(audio))
    return Recording(
        id=utterance,
        sources=[source],
        sampling_rate=info.sample_rate,
        num_samples=info.frames,
        duration=info.frames / info.sample_rate,
        channel_ids=channels,
    )


def load_audio(cut: Cut, *, sample_rate: int, channel: Channel = "refuse") -> Samples:
    """Return the samples of ``cut`` as (S,) float32 at ``sample_rate``, all finite and in range.

    A cut that itself names one channel of several is taken at its word; ``channel`` decides for
    all other audio with several channels.

    Raises:
        AudioError: for every way in which audio is known to be unusable.
    """
    plain = _plain_source(cut)
    audio, rate = _read_plain(cut, plain) if plain is not None else _read_with_lhotse(cut)
    mono = _one_channel(cut, audio, channel)
    if mono.size == 0:
        raise AudioError(reason="zero duration", detail="no samples", utterance=cut.id)
    _check_samples(mono, utterance=cut.id)
    return mono if rate == sample_rate else resampled(mono, rate, sample_rate)


def _plain_source(cut: Cut) -> AudioSource | None:
    """Return the one file or memory block behind a cut that needs no processing, else None."""
    if not isinstance(cut, MonoCut | MultiCut) or not cut.has_recording:
        return None
    if cut.recording.transforms or len(cut.recording.sources) != 1:
        return None
    source = cut.recording.sources[0]
    return source if source.type in ("file", "memory") else None


def _read_plain(cut: MonoCut | MultiCut, source: AudioSource) -> tuple[Samples, int]:
    """Read (S, C) samples of the cut and the sample rate."""
    audio = source.source if source.type == "memory" else Path(source.source)
    with _opened(audio, cut.id, headerless_rate=cut.recording.sampling_rate) as file:
        rate = int(file.samplerate)
        if rate != cut.recording.sampling_rate:
            raise AudioError(
                reason="sample rate",
                detail=f"{_name(audio)} has {rate} Hz, its manifest says "
                f"{cut.recording.sampling_rate} Hz",
                utterance=cut.id,
            )
        start, wanted = round(cut.start * rate), round(cut.duration * rate)
        try:
            file.seek(min(start, file.frames))
            samples = file.read(frames=wanted, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise AudioError(
                reason="truncated",
                detail=f"{_name(audio)} cannot be decoded: {error}",
                utterance=cut.id,
            ) from error
    _check_length(samples.shape[0], wanted, rate, name=_name(audio), utterance=cut.id)
    return samples, rate


def _check_length(found: int, wanted: int, rate: int, *, name: str, utterance: str) -> None:
    missing = wanted - found
    if missing > TRUNCATION_TOLERANCE * rate:
        raise AudioError(
            reason="truncated",
            detail=f"{name} ends {missing / rate:.2f} s before the {wanted / rate:.2f} s "
            "that its manifest declares",
            utterance=utterance,
        )


def _read_with_lhotse(cut: Cut) -> tuple[Samples, int]:
    """Read (S, C) samples of a mixed, padded or transformed cut."""
    for source in command_sources(cut):
        raise AudioError(
            reason="not audio",
            detail=f"'{source}' is a command, and loading data never executes one",
            utterance=cut.id,
        )
    try:
        samples = np.atleast_2d(np.asarray(cut.load_audio(), dtype=np.float32)).T
    except DurationMismatchError as error:
        raise AudioError(reason="truncated", detail=str(error), utterance=cut.id) from error
    except (AudioLoadingError, OSError) as error:
        raise AudioError(reason="not audio", detail=str(error), utterance=cut.id) from error
    return samples, int(cut.sampling_rate)


def command_sources(cut: Cut) -> list[str]:
    """Return the shell commands that Lhotse would run to read ``cut``."""
    parts = [track.cut for track in getattr(cut, "tracks", ())] or [cut]
    recordings = [getattr(part, "recording", None) for part in parts]  # padding has none
    return [s.source for r in recordings if r for s in r.sources if s.type == "command"]


def _one_channel(cut: Cut, audio: Samples, channel: Channel) -> Samples:
    """Reduce (S, C) to (S,)."""
    count = audio.shape[1]
    if count == 1:
        return audio[:, 0]
    if isinstance(cut, MonoCut) and cut.recording.num_channels == count:
        return np.ascontiguousarray(audio[:, cut.recording.channel_ids.index(cut.channel)])
    if channel == "mean":
        mean: Samples = audio.mean(axis=1, dtype=np.float32)
        return mean
    if channel == "refuse" or not 0 <= channel < count:
        raise AudioError(
            reason="channels",
            detail=f"{count} channels, and channel={channel!r}; "
            "set channel to 'mean' or to the number of one",
            utterance=cut.id,
        )
    return np.ascontiguousarray(audio[:, channel])


def _check_samples(audio: Samples, *, utterance: str) -> None:
    if audio.min() >= -LOUDEST and audio.max() <= LOUDEST:  # false where one is NaN
        return
    bad = int(audio.size - np.isfinite(audio).sum())
    if bad:
        raise AudioError(
            reason="non-finite samples",
            detail=f"{bad} of {audio.size} samples",
            utterance=utterance,
        )
    raise AudioError(
        reason="samples out of range",
        detail=f"up to {np.abs(audio).max():.3g}; expected up to 1, and at most {LOUDEST:g}",
        utterance=utterance,
    )


def headerless(audio: Path | bytes) -> bool:
    """Say whether audio is a ``.pcm`` file without a header; one that cannot be read has none."""
    if isinstance(audio, bytes) or audio.suffix.lower() != HEADERLESS:
        return False
    try:
        with audio.open("rb") as file:
            return file.read(4) != b"RIFF"
    except OSError:
        return True


def _opened(
    audio: Path | bytes, utterance: str, *, headerless_rate: int = HEADERLESS_RATE
) -> soundfile.SoundFile:
    if isinstance(audio, bytes) and not audio:
        raise AudioError(reason="empty file", detail="no bytes", utterance=utterance)
    try:
        if headerless(audio):
            raw = soundfile.SoundFile(
                audio,
                samplerate=headerless_rate,
                channels=1,
                format="RAW",
                subtype="PCM_16",
                endian="LITTLE",
            )
            if raw.frames:
                return raw
            raise AudioError(reason="empty file", detail=_name(audio), utterance=utterance)
        return soundfile.SoundFile(io.BytesIO(audio) if isinstance(audio, bytes) else audio)
    except (soundfile.LibsndfileError, OSError, TypeError) as error:
        reason: Reason = "not audio" if isinstance(audio, bytes) else _file_fault(audio)
        detail = _name(audio) if reason != "not audio" else f"{_name(audio)}: {error}"
        raise AudioError(reason=reason, detail=detail, utterance=utterance) from error


def _file_fault(path: Path) -> Reason:
    if not path.exists():
        return "missing file"
    if not os.access(path, os.R_OK):
        return "unreadable file"
    return "empty file" if path.is_file() and path.stat().st_size == 0 else "not audio"


def _name(audio: Path | bytes) -> str:
    return "audio in memory" if isinstance(audio, bytes) else str(audio)
