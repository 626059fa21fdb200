"""Kaldi data folders."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
from lhotse.cut import Cut

from components.datasets.nemo import NemoSource
from core.data.audio import AudioError, probe
from core.data.source import Seconds
from core.errors import DataError
from core.registry import register

_FILES = ("wav.scp", "segments", "text", "utt2spk", "utt2lang", "reco2dur", "utt2dur")
_NAMED = 10


@register("dataset", "kaldi")
class KaldiSource:
    """A folder with ``wav.scp`` and, where there are any, ``segments``, ``text`` and ``utt2spk``.

    The tables are joined once into a manifest in the cache. Without ``segments`` the durations
    come from ``utt2dur``, ``reco2dur`` or the audio headers. Commands in ``wav.scp`` are refused:
    loading data executes nothing.

    Args:
        location: the folder.
        root: folder that relative paths in ``wav.scp`` start from; None for the working directory,
            as in Kaldi.
    """

    def __init__(self, *, location: str, root: str | None = None) -> None:
        self.location = location
        self._folder = Path(location).expanduser()
        self._root = Path(root).expanduser() if root else Path.cwd()
        self._manifest: NemoSource | None = None

    def open(self, cache_dir: Path | None) -> None:
        """Join the tables or find them joined. Raises DataError naming file and line."""
        if not (self._folder / "wav.scp").is_file():
            raise DataError(
                f"kaldi:{self.location}: no wav.scp there; expected a Kaldi data folder"
            )
        if cache_dir is None:
            raise DataError(f"kaldi:{self.location} needs a cache folder for the joined manifest")
        manifest = cache_dir / "kaldi" / f"{self._key()}.jsonl"
        if not manifest.is_file():
            _write(manifest, _rows(self._folder, self._root))
        self._manifest = NemoSource(location=str(manifest), root="/")
        self._manifest.open(cache_dir)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the joined manifest."""
        return self._opened.fingerprint

    @property
    def durations(self) -> Seconds:
        """(N,) seconds."""
        return self._opened.durations

    def __len__(self) -> int:
        return len(self._opened)

    def cut(self, index: int) -> Cut:
        """Return an utterance. Raises AudioError if the file's header cannot be read."""
        return self._opened.cut(index)

    def texts(self) -> Iterator[str]:
        """Yield the transcripts in order."""
        return self._opened.texts()

    @property
    def _opened(self) -> NemoSource:
        if self._manifest is None:
            raise RuntimeError(f"kaldi:{self.location} is used before open()")
        return self._manifest

    def _key(self) -> str:
        digest = hashlib.sha256(f"{self._folder.resolve()}\n{self._root.resolve()}".encode())
        for name in _FILES:
            path = self._folder / name
            digest.update(b"\0" + (path.read_bytes() if path.is_file() else b""))
        return digest.hexdigest()[:24]


def _rows(folder: Path, root: Path) -> Iterator[dict[str, object]]:
    wavs = {key: root / value for key, value in _table(folder / "wav.scp", audio=True).items()}
    segments = _segments(folder / "segments", wavs)
    texts = _table(folder / "text", blank=True)
    speakers, languages = _table(folder / "utt2spk"), _table(folder / "utt2lang")
    if segments is None:
        lengths = _table(folder / "reco2dur") | _table(folder / "utt2dur")
        segments = {key: (key, 0.0, end) for key, end in _durations(wavs, lengths).items()}
    for utterance, (recording, start, end) in segments.items():
        row: dict[str, object] = {
            "id": utterance,
            "audio_filepath": str(wavs[recording].resolve()),
            "offset": start,
            "duration": round(end - start, 6),
        }
        fields = {"text": texts, "speaker": speakers, "lang": languages}
        yield row | {name: table[utterance] for name, table in fields.items() if utterance in table}


def _table(path: Path, *, audio: bool = False, blank: bool = False) -> dict[str, str]:
    """Read ``key value`` lines; a missing file is an empty table. Raises DataError."""
    table: dict[str, str] = {}
    if not path.is_file():
        return table
    for number, line in _lines(path):
        key, _, value = line.partition(" ")
        value = value.strip()
        if not key or not (value or blank):
            raise DataError(f"{path}:{number}: expected 'key value', found '{line}'")
        if key in table:
            raise DataError(f"{path}:{number}: '{key}' is there twice")
        if audio and (value.endswith("|") or value.startswith("|")):
            raise DataError(
                f"{path}:{number}: '{key}' is the output of a command; loading data never executes "
                "one: write the audio to files and name them here"
            )
        table[key] = value
    return table


def _segments(path: Path, wavs: dict[str, Path]) -> dict[str, tuple[str, float, float]] | None:
    if not path.is_file():
        return None
    segments: dict[str, tuple[str, float, float]] = {}
    for number, line in _lines(path):
        try:
            key, recording, begin, finish = line.split()
            start, end = float(begin), float(finish)
        except ValueError:
            raise DataError(
                f"{path}:{number}: expected 'utterance recording start end', found '{line}'"
            ) from None
        if recording not in wavs:
            raise DataError(f"{path}:{number}: recording '{recording}' is not in wav.scp")
        if not 0 <= start < end or key in segments:
            fault = f"'{key}' is there twice" if key in segments else f"{start} to {end} s is empty"
            raise DataError(f"{path}:{number}: {fault}")
        segments[key] = (recording, start, end)
    return segments


def _durations(wavs: dict[str, Path], known: dict[str, str]) -> dict[str, float]:
    """Return seconds by recording, from a table or the audio headers."""

    def measure(item: tuple[str, Path]) -> float | AudioError:
        name, path = item
        try:
            if name in known:
                return float(known[name])
            info = probe(path, utterance=name)
        except AudioError as error:
            return error
        return info.frames / info.sample_rate

    with ThreadPoolExecutor() as pool:
        measured = dict(zip(wavs, pool.map(measure, wavs.items()), strict=True))
    faults = [value for value in measured.values() if isinstance(value, AudioError)]
    if faults:
        named = "\n  ".join(str(fault) for fault in faults[:_NAMED])
        raise DataError(
            f"{len(faults)} of {len(wavs)} recordings in wav.scp have no readable header, so their "
            f"durations are not known (a reco2dur file would give them):\n  {named}"
        )
    return {name: value for name, value in measured.items() if not isinstance(value, AudioError)}


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                text = line.decode("utf-8").replace("\t", " ").strip()
            except UnicodeDecodeError as error:
                raise DataError(f"{path}:{number}: not UTF-8: {error.reason}") from error
            yield number, text


def _write(manifest: Path, rows: Iterator[dict[str, object]]) -> None:
    manifest.parent.mkdir(parents=True, exist_ok=True)
    partial = manifest.with_name(f".{manifest.name}.{os.getpid()}")
    with partial.open("wb") as file:
        for row in rows:
            file.write(orjson.dumps(row) + b"\n")
    partial.replace(manifest)
