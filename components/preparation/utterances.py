"""Utterances of a list or a Kaldi folder, with the seconds that audio headers tell."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from core.data.audio import TRUNCATION_TOLERANCE, AudioError, headerless, probe
from core.data.tables import Encoding, read_segments, read_table, read_trn
from core.errors import DataError, suggest

_NEAREST_AMONG = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """What the tables and the audio header say of an utterance.

    Args:
        id: of the utterance.
        audio: absolute path.
        offset: seconds into the audio; None for all of it.
        seconds: that it lasts; None where ``fault`` says why they are not known.
        text: as the transcript has it; None if there is none.
        speaker: None if none is given.
        fault: why its audio cannot be used: a reason that can be counted, and details.
    """

    id: str
    audio: Path
    offset: float | None
    seconds: float | None
    text: str | None
    speaker: str | None
    fault: tuple[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The tables of a corpus.

    Args:
        audio: absolute path by recording.
        segments: recording, start and end by utterance; None where a recording is an utterance.
        texts: transcript by utterance.
        speakers: by utterance.
        place: of the transcripts, for messages.
    """

    audio: dict[str, Path]
    segments: dict[str, tuple[str, float, float]] | None
    texts: dict[str, str]
    speakers: dict[str, str]
    place: Path

    @property
    def headerless(self) -> int:
        """Number of audio files whose rate is not written in them."""
        return sum(headerless(path) and path.is_file() for path in self.audio.values())

    @property
    def unheard(self) -> list[str]:
        """Ids of transcripts without audio."""
        known = self.audio if self.segments is None else self.segments
        return [key for key in self.texts if key not in known]

    def utterances(self) -> Iterator[Utterance]:
        """Yield the utterances in the order of their list; each header is read once."""
        used = list(dict.fromkeys(part[0] for part in self._parts().values()))
        with ThreadPoolExecutor() as pool:
            lengths = dict(zip(used, pool.map(self._measure, used), strict=True))
        for key, (recording, offset, end) in self._parts().items():
            length = lengths[recording]
            fault: tuple[str, str] | None = None
            seconds: float | None = None
            if isinstance(length, AudioError):
                fault = (length.reason, length.detail)
            elif end is not None and end > length + TRUNCATION_TOLERANCE:
                detail = f"{self.audio[recording]} has {length:.2f} s, the segment ends at {end} s"
                fault = ("segment past the end", detail)
            else:
                seconds = min(length, end or length) - (offset or 0.0)
            yield Utterance(
                id=key,
                audio=self.audio[recording],
                offset=offset,
                seconds=seconds,
                text=self.texts.get(key),
                speaker=self.speakers.get(key),
                fault=fault,
            )

    def _parts(self) -> dict[str, tuple[str, float | None, float | None]]:
        if self.segments is None:
            return {key: (key, None, None) for key in self.audio}
        return {key: (name, start, end) for key, (name, start, end) in self.segments.items()}

    def _measure(self, recording: str) -> float | AudioError:
        try:
            info = probe(self.audio[recording], utterance=recording)
        except AudioError as error:
            return error
        return info.frames / info.sample_rate


def read_listing(
    source: Path, transcripts: Path | None, *, root: Path | None, encoding: Encoding
) -> Listing:
    """Read the tables of a corpus.

    Args:
        source: Kaldi folder, SCP list with ``id path`` lines, or ``.trn`` file with
            ``path :: text`` lines.
        transcripts: ``id text`` lines; None for ``text`` in a Kaldi folder, or a ``.trn`` file.
        root: folder that relative paths start from; None for the working directory, as in Kaldi.
        encoding: of the transcripts; all else is UTF-8.

    Raises:
        DataError: a table is missing or bad, or no transcript belongs to any audio.
    """
    start = (root or Path.cwd()).expanduser()
    if source.suffix == ".trn" and source.is_file():
        return _read_trn(source, transcripts, start=start, encoding=encoding)
    folder = source if source.is_dir() else None
    scp = folder / "wav.scp" if folder else source
    place = transcripts or (folder / "text" if folder else None)
    if place is None:
        raise DataError(f"{source} is a list of audio; name its transcripts with --transcripts")
    for path, what in ((scp, "list of audio ('id path' lines)"), (place, "transcripts")):
        if not path.is_file():
            raise DataError(f"{path}: no such file; expected {what}")
    audio = {k: (start / v).resolve() for k, v in read_table(scp, audio=True).items()}
    found = Listing(
        audio=audio,
        segments=read_segments(folder / "segments", audio) if folder else None,
        texts=read_table(place, blank=True, encoding=encoding),
        speakers=read_table(folder / "utt2spk") if folder else {},
        place=place,
    )
    known = found.audio if found.segments is None else found.segments
    if not known:
        raise DataError(f"{scp}: no audio is listed; expected 'id path' lines")
    if not any(key in found.texts for key in known):
        first = next(iter(known))
        near = list(found.texts)[:_NEAREST_AMONG]
        raise DataError(
            f"{place}: none of the {len(known):,} utterances has a transcript here; for the first, "
            f"'{first}': " + suggest(first, near, noun="ids")
        )
    return found


def _read_trn(
    source: Path, transcripts: Path | None, *, start: Path, encoding: Encoding
) -> Listing:
    if transcripts is not None:
        raise DataError(f"{source} has transcripts of its own; leave out --transcripts")
    paths, texts = read_trn(source, encoding=encoding)
    if not paths:
        raise DataError(f"{source}: no audio is listed; expected 'path :: text' lines")
    audio = {key: (start / path).resolve() for key, path in paths.items()}
    return Listing(audio=audio, segments=None, texts=texts, speakers={}, place=source)
