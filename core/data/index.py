"""An index beside a JSONL manifest: where each row is and how long its audio lasts.

A million rows take about two seconds to check and 12 MB to keep, and any row can then be read
without reading the ones before it.
"""

from __future__ import annotations

import hashlib
import math
import os
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import orjson

from core.data.lines import BOM, NAMED_LINES, Row, faults_report, parse_row
from core.data.plan import Indices
from core.data.source import Seconds
from core.errors import DataError

CheckRow: TypeAlias = Callable[[Row], tuple[float, str | None]]
"""Returns duration and id (or None) of a row; raises ValueError saying what is wrong with it.

The duration is NaN where the row declares none.
"""
MeasureRow: TypeAlias = Callable[[Row], float]
"""Returns the seconds of a row that declares none, NaN where they cannot be found out."""

INDEX_SUFFIX = ".sori-index.npz"
_VERSION = 2
_THREADS = 16
_ROWS_AT_ONCE = 4096


class ManifestIndex:
    """Rows of a JSONL manifest by number.

    Args:
        path: of the manifest.
        offsets: (N + 1,) byte at which each row begins, and the end of the last one.
        durations: (N,) seconds; NaN where neither manifest nor audio says it.
        digest: SHA-256 of the manifest.
        undeclared: rows whose duration the manifest does not say.
    """

    def __init__(
        self,
        *,
        path: Path,
        offsets: Indices,
        durations: Seconds,
        digest: str,
        undeclared: Indices,
    ) -> None:
        self.path = path
        self.offsets = offsets
        self.durations = durations
        self.digest = digest
        self.undeclared = undeclared
        self._file: int | None = None

    def __len__(self) -> int:
        return len(self.durations)

    @property
    def fingerprint(self) -> str:
        """Digest of the manifest and of the durations that are not in it."""
        if not self.undeclared.size:
            return self.digest
        found = self.durations[self.undeclared].tobytes()
        return hashlib.sha256(self.digest.encode() + found).hexdigest()

    @property
    def unknown(self) -> Indices:
        """Rows of unknown duration."""
        return np.flatnonzero(np.isnan(self.durations))

    def row(self, index: int) -> Row:
        """Read row ``index``, from 0. Raises DataError if the file is no longer what it was."""
        if self._file is None:
            self._file = os.open(self.path, os.O_RDONLY)
        start, end = int(self.offsets[index]), int(self.offsets[index + 1])
        try:
            row: Row = orjson.loads(os.pread(self._file, end - start, start))
        except orjson.JSONDecodeError as error:
            raise DataError(
                f"{self.path}:{index + 1}: the manifest changed while it was being read ({error})"
            ) from error
        return row

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}

    def __del__(self) -> None:
        if self._file is not None:
            os.close(self._file)


def open_index(
    path: Path,
    *,
    kind: str,
    check: CheckRow,
    measure: MeasureRow | None = None,
    cache_dir: Path | None = None,
) -> ManifestIndex:
    """Load the index of ``path`` or build it and keep it beside the manifest.

    Where the manifest's folder cannot be written, the index is kept under ``cache_dir``. A kept
    index is used while size and modification time agree, or the content's digest does. Rows of
    unknown duration are measured again each time: what was missing may have been mounted since.

    Args:
        path: JSONL manifest.
        kind: of rows; an index that was checked as another kind is built again.
        check: called with every row when the index is built.
        measure: called, from several threads, with rows that declare no duration.
        cache_dir: None to keep the index nowhere but beside the manifest.

    Raises:
        DataError: if the manifest is missing, empty or has bad lines; all are counted and the
            first ten named with line number and reason.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise DataError(f"manifest {path}: {found}; expected a JSONL file")
    stat = path.stat()
    if stat.st_size == 0:
        raise DataError(f"manifest {path} is empty; expected one JSON object a line")
    places = [path.with_name(path.name + INDEX_SUFFIX)]
    if cache_dir is not None:
        name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:24]
        places.append(cache_dir / "index" / (name + INDEX_SUFFIX))
    key = np.array([_VERSION, stat.st_size, stat.st_mtime_ns], dtype=np.int64)
    kept = next(filter(None, (_load(place, path, kind, key) for place in places)), None)
    index = build_index(path, check=check) if kept is None else kept
    learned = _measure_unknown(index, measure)
    if kept is not None and not learned:
        return kept
    for place in places:
        if _save(place, index, kind, key):
            break
    return index


def build_index(path: Path, *, check: CheckRow) -> ManifestIndex:
    """Read and check every row of a manifest. Raises DataError naming bad lines."""
    offsets: list[int] = []
    durations: list[float] = []
    faults: list[str] = []
    count = 0
    seen: dict[str, int] = {}
    with path.open("rb") as file:
        position = len(BOM) if file.read(len(BOM)) == BOM else 0
        file.seek(position)
        for number, line in enumerate(file, 1):
            offsets.append(position)
            position += len(line)
            try:
                duration, name = check(parse_row(line))
                if name is not None and seen.setdefault(name, number) != number:
                    raise ValueError(f"id '{name}' is also on line {seen[name]}")
                durations.append(duration)
            except ValueError as error:
                count += 1
                if len(faults) < NAMED_LINES:
                    faults.append(f"{path}:{number}: {error}")
    if count:
        raise DataError(faults_report(path, faults, count, len(offsets)))
    return ManifestIndex(
        path=path,
        offsets=np.array([*offsets, position], dtype=np.int64),
        durations=np.array(durations, dtype=np.float32),
        digest=_digest(path),
        undeclared=np.flatnonzero(np.isnan(durations)),
    )


def _measure_unknown(index: ManifestIndex, measure: MeasureRow | None) -> bool:
    """Fill in unknown durations; say whether any became known."""
    unknown = index.unknown
    if measure is None or not unknown.size:
        return False
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, unknown.size, _ROWS_AT_ONCE):
            numbers = unknown[start : start + _ROWS_AT_ONCE]
            rows = [index.row(number) for number in numbers.tolist()]
            index.durations[numbers] = list(pool.map(measure, rows))
    return index.unknown.size < unknown.size


def checked_duration(row: Row) -> float:
    """Return ``row["duration"]`` if it is a number of seconds. Raises ValueError otherwise."""
    value = row.get("duration")
    if type(value) is float or type(value) is int:
        if 0 <= value < math.inf:
            return float(value)
        raise ValueError(f"duration is {value}; expected seconds, 0 or more")
    if "duration" not in row:
        raise ValueError("no 'duration'; expected seconds")
    raise ValueError(f"duration is {value!r}, a {type(value).__name__}; expected seconds")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _load(place: Path, path: Path, kind: str, key: Indices) -> ManifestIndex | None:
    """Read a kept index; None if there is none, or it is damaged or of other content."""
    try:
        with np.load(place, allow_pickle=False) as kept:
            old, digest = kept["key"], str(kept["digest"])
            if str(kept["kind"]) != kind or (old[:2] != key[:2]).any():
                return None
            if old[2] != key[2] and _digest(path) != digest:
                return None
            return ManifestIndex(
                path=path,
                offsets=kept["offsets"],
                durations=kept["durations"],
                digest=digest,
                undeclared=kept["undeclared"],
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _save(place: Path, index: ManifestIndex, kind: str, key: Indices) -> bool:
    """Write an index whole or not at all; say whether it could be written."""
    partial = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            np.savez(
                file,
                key=key,
                kind=np.array(kind),
                digest=np.array(index.digest),
                offsets=index.offsets,
                durations=index.durations,
                undeclared=index.undeclared,
            )
        partial.replace(place)
    except OSError:
        partial.unlink(missing_ok=True)
        return False
    return True
