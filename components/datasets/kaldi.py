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
from core.data.tables import read_segments, read_table
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

    def described(self, index: int) -> Cut:
        """Return an utterance without its recording; no audio file is looked at."""
        return self._opened.described(index)

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
    wavs = {key: root / value for key, value in read_table(folder / "wav.scp", audio=True).items()}
    segments = read_segments(folder / "segments", wavs)
    texts = read_table(folder / "text", blank=True)
    speakers, languages = read_table(folder / "utt2spk"), read_table(folder / "utt2lang")
    if segments is None:
        lengths = read_table(folder / "reco2dur") | read_table(folder / "utt2dur")
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


def _write(manifest: Path, rows: Iterator[dict[str, object]]) -> None:
    manifest.parent.mkdir(parents=True, exist_ok=True)
    partial = manifest.with_name(f".{manifest.name}.{os.getpid()}")
    with partial.open("wb") as file:
        for row in rows:
            file.write(orjson.dumps(row) + b"\n")
    partial.replace(manifest)
