"""Manifests as NVIDIA NeMo writes them: one JSON object a line."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import orjson
from lhotse import SupervisionSegment
from lhotse.cut import Cut, MonoCut

from core.data.audio import AudioError, probe, recording
from core.data.index import ManifestIndex, checked_duration, open_index
from core.data.lines import Row
from core.data.source import Seconds
from core.registry import register

_PATH_FIELDS = ("audio_filepath", "audio_filename")
_TEXT_FIELDS = ("text", "speaker", "lang", "id")


@register("dataset", "nemo")
class NemoSource:
    """A JSONL manifest with ``audio_filepath`` and ``duration`` on each line.

    Optional fields: ``text``, ``offset`` (seconds), ``speaker``, ``lang`` and ``id``. Where there
    is no id, path and offset make one. ``audio_filename`` is another name of ``audio_filepath``.

    A line without ``duration`` lasts from its offset to the end of its file. The headers of such
    files are read when the manifest is indexed; a line whose header cannot be read has no known
    duration and is left out, with a line in the summary.

    Args:
        location: path of the manifest.
        root: folder that relative audio paths start from; None for the manifest's own.
    """

    def __init__(self, *, location: str, root: str | None = None) -> None:
        self.location = location
        self._path = Path(location).expanduser()
        self._root = Path(root).expanduser() if root else self._path.parent
        # Durations from headers hold for the folder that the headers were found in.
        self._kind = f"nemo from {self._root}" if root else "nemo"
        self._index: ManifestIndex | None = None

    def open(self, cache_dir: Path | None) -> None:
        """Read or build the index. Raises DataError naming bad lines."""
        self._index = open_index(
            self._path,
            kind=self._kind,
            check=check_row,
            measure=self._measure,
            cache_dir=cache_dir,
        )

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the manifest and of what audio headers added to it."""
        return self._opened.fingerprint

    @property
    def durations(self) -> Seconds:
        """(N,) seconds, declared or from the header; NaN where neither is known."""
        return self._opened.durations

    def __len__(self) -> int:
        return len(self._opened)

    def cut(self, index: int) -> Cut:
        """Return a line as a cut. Raises AudioError if the file's header cannot be read."""
        row = self._opened.row(index)
        path, offset = audio_path(row), float(row.get("offset") or 0.0)
        name = _name(row)
        cut = recording(self._root / path, utterance=name).to_cut()
        declared = row.get("duration")
        seconds = float(declared) if declared is not None else max(0.0, cut.duration - offset)
        cut.start, cut.duration = offset, seconds
        cut.supervisions = [_supervision(row, name, seconds, cut.channel)]
        return cut

    def described(self, index: int) -> Cut:
        """Return a line as a cut without its recording; no audio file is looked at."""
        row = self._opened.row(index)
        name, seconds = _name(row), float(self._opened.durations[index])
        return MonoCut(
            id=name,
            start=float(row.get("offset") or 0.0),
            duration=seconds,
            channel=0,
            supervisions=[_supervision(row, name, seconds, 0)],
        )

    def texts(self) -> Iterator[str]:
        """Yield the transcripts in order."""
        with self._opened.path.open("rb") as file:
            file.seek(int(self._opened.offsets[0]))
            for line in file:
                text = orjson.loads(line).get("text")
                if text is not None:
                    yield text

    def notes(self) -> list[str]:
        """Say how many durations came from headers, and how many could not be had."""
        index = self._opened
        if not index.undeclared.size:
            return []
        lines = [
            f"{index.undeclared.size:,} of {len(index):,} rows have no duration; read from the "
            "files' headers"
        ]
        if index.unknown.size:
            first = audio_path(index.row(int(index.unknown[0])))
            lines.append(
                f"without a readable header either: {index.unknown.size:,}, the first of them "
                f"{self._root / first}"
            )
        return lines

    def _measure(self, row: Row) -> float:
        path = audio_path(row)
        try:
            info = probe(self._root / path, utterance=path)
        except AudioError:
            return math.nan
        return max(0.0, info.frames / info.sample_rate - float(row.get("offset") or 0.0))

    @property
    def _opened(self) -> ManifestIndex:
        if self._index is None:
            raise RuntimeError(f"nemo:{self.location} is used before open()")
        return self._index


def check_row(row: Row) -> tuple[float, str | None]:
    """Return duration (NaN: not declared) and id of a manifest line.

    Raises:
        ValueError: saying what is wrong.
    """
    paths = {field: row[field] for field in _PATH_FIELDS if row.get(field) is not None}
    if not paths:
        raise ValueError(f"no '{_PATH_FIELDS[0]}'")
    for field, path in paths.items():
        if not isinstance(path, str) or not path:
            raise ValueError(f"{field} is {path!r}; expected a path")
    if len(set(paths.values())) > 1:
        raise ValueError(" and ".join(f"{f} is '{path}'" for f, path in paths.items()))
    for field in _TEXT_FIELDS:
        value = row.get(field)
        if value is not None and type(value) is not str:
            raise ValueError(f"{field} is {value!r}, a {type(value).__name__}; expected a string")
    offset = row.get("offset")
    if offset is not None and (type(offset) not in (int, float) or offset < 0):
        raise ValueError(f"offset is {offset!r}; expected seconds, 0 or more")
    declared = row.get("duration") is not None
    return checked_duration(row) if declared else math.nan, row.get("id")


def _name(row: Row) -> str:
    path, offset = audio_path(row), float(row.get("offset") or 0.0)
    name: str = row.get("id") or (f"{path}@{offset:g}" if offset else path)
    return name


def _supervision(
    row: Row, name: str, seconds: float, channel: int | list[int]
) -> SupervisionSegment:
    return SupervisionSegment(
        id=name,
        recording_id=name,
        start=0.0,
        duration=seconds,
        channel=channel,
        text=row.get("text"),
        language=row.get("lang"),
        speaker=row.get("speaker"),
    )


def audio_path(row: Row) -> str:
    """Return the path in a line that was checked."""
    path: str = next(row[field] for field in _PATH_FIELDS if row.get(field) is not None)
    return path
