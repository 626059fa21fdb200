"""Manifests as NVIDIA NeMo writes them: one JSON object a line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson
from lhotse import SupervisionSegment
from lhotse.cut import Cut

from core.data.audio import recording
from core.data.index import ManifestIndex, Row, checked_duration, open_index
from core.data.source import Seconds
from core.registry import register

_TEXT_FIELDS = ("text", "speaker", "lang", "id")


@register("dataset", "nemo")
class NemoSource:
    """A JSONL manifest with ``audio_filepath`` and ``duration`` on each line.

    Optional fields: ``text``, ``offset`` (seconds), ``speaker``, ``lang`` and ``id``. Where there
    is no id, path and offset make one.

    Args:
        location: path of the manifest.
        root: folder that relative audio paths start from; None for the manifest's own.
    """

    def __init__(self, *, location: str, root: str | None = None) -> None:
        self.location = location
        self._path = Path(location).expanduser()
        self._root = Path(root).expanduser() if root else self._path.parent
        self._index: ManifestIndex | None = None

    def open(self, cache_dir: Path | None) -> None:
        """Read or build the index. Raises DataError naming bad lines."""
        self._index = open_index(self._path, kind="nemo", check=check_row, cache_dir=cache_dir)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the manifest."""
        return self._opened.digest

    @property
    def durations(self) -> Seconds:
        """(N,) declared seconds."""
        return self._opened.durations

    def __len__(self) -> int:
        return len(self._opened)

    def cut(self, index: int) -> Cut:
        """Return a line as a cut. Raises AudioError if the file's header cannot be read."""
        row = self._opened.row(index)
        path, offset = row["audio_filepath"], float(row.get("offset") or 0.0)
        name = row.get("id") or (f"{path}@{offset:g}" if offset else path)
        cut = recording(self._root / path, utterance=name).to_cut()
        cut.start, cut.duration = offset, float(row["duration"])
        cut.supervisions = [
            SupervisionSegment(
                id=name,
                recording_id=name,
                start=0.0,
                duration=cut.duration,
                channel=cut.channel,
                text=row.get("text"),
                language=row.get("lang"),
                speaker=row.get("speaker"),
            )
        ]
        return cut

    def texts(self) -> Iterator[str]:
        """Yield the transcripts in order."""
        with self._opened.path.open("rb") as file:
            file.seek(int(self._opened.offsets[0]))
            for line in file:
                text = orjson.loads(line).get("text")
                if text is not None:
                    yield text

    @property
    def _opened(self) -> ManifestIndex:
        if self._index is None:
            raise RuntimeError(f"nemo:{self.location} is used before open()")
        return self._index


def check_row(row: Row) -> tuple[float, str | None]:
    """Return duration and id of a manifest line. Raises ValueError saying what is wrong."""
    path = row.get("audio_filepath")
    if not isinstance(path, str) or not path:
        raise ValueError(
            "no 'audio_filepath'"
            if path is None
            else f"audio_filepath is {path!r}; expected a path"
        )
    for field in _TEXT_FIELDS:
        value = row.get(field)
        if value is not None and type(value) is not str:
            raise ValueError(f"{field} is {value!r}, a {type(value).__name__}; expected a string")
    offset = row.get("offset")
    if offset is not None and (type(offset) not in (int, float) or offset < 0):
        raise ValueError(f"offset is {offset!r}; expected seconds, 0 or more")
    return checked_duration(row), row.get("id")
