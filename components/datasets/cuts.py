"""Lhotse cut manifests."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
from lhotse.cut import Cut
from lhotse.serialization import deserialize_item

from core.data.index import ManifestIndex, checked_duration, open_index
from core.data.lines import Row
from core.data.source import Seconds
from core.errors import DataError
from core.registry import register

_CUT_TYPES = ("MonoCut", "MultiCut", "MixedCut", "PaddingCut")


@register("dataset", "cuts")
class CutsSource:
    """A Lhotse ``CutSet`` as JSONL, plain or compressed with gzip.

    A compressed manifest is unpacked once into the cache, for random access. Cuts whose audio is
    the output of a command are refused: loading data executes nothing.

    Args:
        location: path of the manifest, ``.jsonl`` or ``.jsonl.gz``.
        root: folder that relative audio paths start from; None for the working directory, as in
            Lhotse.
    """

    def __init__(self, *, location: str, root: str | None = None) -> None:
        self.location = location
        self._path = Path(location).expanduser()
        self._root = Path(root).expanduser() if root else None
        self._index: ManifestIndex | None = None

    def open(self, cache_dir: Path | None) -> None:
        """Read or build the index. Raises DataError naming bad lines."""
        path = self._path
        if path.suffix == ".gz":
            path = _unpacked(path, cache_dir)
        self._index = open_index(path, kind="cuts", check=check_cut, cache_dir=cache_dir)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the unpacked manifest."""
        return self._opened.digest

    @property
    def durations(self) -> Seconds:
        """(N,) seconds."""
        return self._opened.durations

    def __len__(self) -> int:
        return len(self._opened)

    def cut(self, index: int) -> Cut:
        """Return a line as the cut it describes."""
        cut = deserialize_item(self._opened.row(index))
        return cut if self._root is None else cut.with_recording_path_prefix(self._root)

    def texts(self) -> Iterator[str]:
        """Yield the transcripts in order."""
        with self._opened.path.open("rb") as file:
            file.seek(int(self._opened.offsets[0]))
            for line in file:
                for part in _parts(orjson.loads(line)):
                    texts = [s["text"] for s in part.get("supervisions", ()) if s.get("text")]
                    if texts:
                        yield " ".join(texts)

    @property
    def _opened(self) -> ManifestIndex:
        if self._index is None:
            raise RuntimeError(f"cuts:{self.location} is used before open()")
        return self._index


def check_cut(row: Row) -> tuple[float, str]:
    """Return duration and id of a cut. Raises ValueError saying what is wrong."""
    name = row.get("id")
    if not isinstance(name, str) or not name:
        raise ValueError(f"id is {name!r}; expected a string")
    if row.get("type") not in _CUT_TYPES:
        raise ValueError(f"type is {row.get('type')!r}; expected one of {', '.join(_CUT_TYPES)}")
    parts = _parts(row)
    if not parts:
        raise ValueError("a MixedCut without tracks")
    for part in parts:
        for source in (part.get("recording") or {}).get("sources", ()):
            if source.get("type") == "command":
                raise ValueError(
                    f"audio is the output of '{source.get('source')}'; loading data never executes "
                    "a command: write the audio to a file"
                )
    if row["type"] != "MixedCut":
        return checked_duration(row), name
    ends = [
        float(track.get("offset") or 0) + checked_duration(track["cut"]) for track in row["tracks"]
    ]
    return max(ends), name


def _parts(row: Row) -> list[dict[str, Any]]:
    """Return the cuts of a row: itself, or the tracks of a mix."""
    if row.get("type") != "MixedCut":
        return [row]
    return [track["cut"] for track in row.get("tracks", ())]


def _unpacked(path: Path, cache_dir: Path | None) -> Path:
    """Unpack a compressed manifest once; the result is named by path, size and time."""
    if not path.is_file():
        raise DataError(f"manifest {path}: no such file; expected JSONL compressed with gzip")
    if cache_dir is None:
        raise DataError(f"manifest {path}: a compressed manifest needs a cache folder to unpack to")
    stat = path.stat()
    key = f"{path.resolve()}\n{stat.st_size}\n{stat.st_mtime_ns}".encode()
    target = cache_dir / "unpacked" / hashlib.sha256(key).hexdigest()[:24] / path.stem
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with gzip.open(path, "rb") as packed, partial.open("wb") as plain:
            shutil.copyfileobj(packed, plain)
        partial.replace(target)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"manifest {path}: damaged gzip data: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return target
