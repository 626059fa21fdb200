"""An index beside a pair manifest: where each row is, how long it is, who speaks, what has mel.

The arrays are memory-mapped: all processes share them, a row costs 33 bytes on disk and no Python
object, and opening takes as long for ten million rows as for ten.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson

from core.checkpoint.atomic import publish, scratch
from core.data.lines import BOM, NAMED_LINES, Row, faults_report, parse_row
from core.data.npy import Array
from core.errors import DataError

PAIRS_SUFFIX = ".sori-pairs"
TARGET_MEL, PROMPT_MEL = 1, 2
"""Bits of ``PairIndex.mels``."""

_VERSION = 1
_EDGE = 1 << 20
_COLUMNS = {
    "offsets": "int64",
    "marks": "uint64",
    "text_lengths": "int32",
    "code_lengths": "int32",
    "speakers": "int32",
    "mels": "uint8",
}
_TEXTS = (
    "id",
    "speaker",
    "prompt_id",
    "target_id",
    "prompt_condition_path",
    "target_text_ids_path",
    "target_codes_path",
)


class PairRow(NamedTuple):
    """What the index keeps of a row."""

    speaker: str
    text_length: int
    code_length: int
    mels: int


class PairIndex:
    """Rows of a pair manifest by number.

    Args:
        path: of the manifest.
        columns: ``offsets`` (N + 1,) bytes, ``marks`` (N,) digests of the lines, ``text_lengths``
            and ``code_lengths`` (N,) tokens, ``speakers`` (N,) places in ``names``, ``mels`` (N,)
            bits that say which mel the row names.
        names: folder of the kept index, or the speakers by place.
    """

    def __init__(self, *, path: Path, columns: dict[str, Array], names: Path | list[str]) -> None:
        self.path = path
        self.offsets = columns["offsets"]
        self.marks = columns["marks"]
        self.text_lengths = columns["text_lengths"]
        self.code_lengths = columns["code_lengths"]
        self.speakers = columns["speakers"]
        self.mels = columns["mels"]
        self._names = names
        self._file: int | None = None

    def __len__(self) -> int:
        return len(self.marks)

    def names(self) -> list[str]:
        """Return the speakers, in the order in which the manifest first names them."""
        if isinstance(self._names, list):
            return self._names
        found: list[str] = orjson.loads((self._names / "speakers.json").read_bytes())
        return found

    def prefix(self, bits: int) -> int:
        """Return how many rows lead the manifest that name all mels of ``bits``."""
        lacking = (self.mels & bits) != bits
        return int(lacking.argmax()) if lacking.any() else len(self)

    def digest(self, rows: int | None = None) -> str:
        """Return a digest of the first ``rows`` lines, or of all."""
        return hashlib.sha256(np.ascontiguousarray(self.marks[:rows]).data).hexdigest()

    def row(self, number: int) -> Row:
        """Read row ``number``, from 0. Raises DataError if the file is no longer what it was."""
        if self._file is None:
            self._file = os.open(self.path, os.O_RDONLY)
        start, end = int(self.offsets[number]), int(self.offsets[number + 1])
        line = os.pread(self._file, end - start, start)
        if _mark(line) != int(self.marks[number]):
            raise DataError(f"{self.path}:{number + 1}: the manifest changed while it was read")
        row: Row = orjson.loads(line)
        return row

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}

    def __del__(self) -> None:
        if self._file is not None:
            os.close(self._file)


def open_pairs(path: Path, *, cache_dir: Path | None = None) -> PairIndex:
    """Load the index of ``path``, or build it and keep it beside the manifest.

    A kept index is used while size, modification time, and the first and last MiB agree. Where the
    manifest's folder cannot be written, the index is kept under ``cache_dir``.

    Raises:
        DataError: the manifest is missing or empty, or has bad lines; all are counted and the first
            ten named with line number and reason.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise DataError(f"pair manifest {path}: {found}; expected a JSONL file")
    if path.stat().st_size == 0:
        raise DataError(f"pair manifest {path} is empty; expected one JSON object a line")
    places = [path.with_name(path.name + PAIRS_SUFFIX)]
    if cache_dir is not None:
        name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:24]
        places.append(cache_dir / "index" / (name + PAIRS_SUFFIX))
    key = _key(path)
    for place in places:
        kept = _load(place, path, key)
        if kept is not None:
            return kept
    columns, names = _scan(path)
    if _key(path) != key:
        raise DataError(f"pair manifest {path} changed while it was being read; start again")
    for place in places:
        if _save(place, columns, names, key):
            return _load(place, path, key) or PairIndex(path=path, columns=columns, names=names)
    return PairIndex(path=path, columns=columns, names=names)


def check_pair(row: Row) -> PairRow:
    """Return what the index keeps of a row. Raises ValueError saying what is wrong with it."""
    for field in _TEXTS:
        value = row.get(field)
        if type(value) is not str or not value:
            if value is None and "audio_path" in row and "prompt_id" not in row:
                raise ValueError(
                    "an utterance, not a pair; python -m core.prepare pairs makes pairs of them"
                )
            raise ValueError(_fault(field, value, "a string"))
    text_length, code_length = row.get("target_text_len"), row.get("target_code_len")
    for field, value in (("target_text_len", text_length), ("target_code_len", code_length)):
        if type(value) is not int or not 0 < value < 1 << 31:
            raise ValueError(_fault(field, value, "a number of tokens, 1 or more"))
    assert isinstance(text_length, int)
    assert isinstance(code_length, int)
    return PairRow(
        speaker=row["speaker"],
        text_length=text_length,
        code_length=code_length,
        mels=TARGET_MEL * bool(row.get("target_mel_path"))
        + PROMPT_MEL * bool(row.get("prompt_mel_path")),
    )


def _fault(field: str, value: object, expected: str) -> str:
    return f"no '{field}'" if value is None else f"{field} is {value!r}; expected {expected}"


def _mark(line: bytes) -> int:
    digest = hashlib.blake2b(line.rstrip(b"\r\n"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _scan(path: Path) -> tuple[dict[str, Array], list[str]]:
    """Read and check every row."""
    offsets, marks = array("q"), array("Q")
    texts, codes, speakers, mels = array("i"), array("i"), array("i"), array("B")
    places: dict[str, int] = {}
    faults: list[str] = []
    count = lines = 0
    with path.open("rb", buffering=1 << 20) as file:
        position = len(BOM) if file.read(len(BOM)) == BOM else 0
        file.seek(position)
        for lines, line in enumerate(file, 1):
            offsets.append(position)
            position += len(line)
            try:
                row = check_pair(parse_row(line))
            except ValueError as error:
                count += 1
                if len(faults) < NAMED_LINES:
                    faults.append(f"{path}:{lines}: {error}")
                continue
            marks.append(_mark(line))
            texts.append(row.text_length)
            codes.append(row.code_length)
            speakers.append(places.setdefault(row.speaker, len(places)))
            mels.append(row.mels)
    if count:
        raise DataError(faults_report(path, faults, count, lines))
    offsets.append(position)
    found = (offsets, marks, texts, codes, speakers, mels)
    columns: dict[str, Array] = {
        name: np.frombuffer(values, dtype=dtype)
        for (name, dtype), values in zip(_COLUMNS.items(), found, strict=True)
    }
    return columns, list(places)


def _key(path: Path) -> dict[str, Any]:
    """Return what tells one state of a manifest from another without reading all of it."""
    with path.open("rb") as file:
        stat = os.fstat(file.fileno())
        edges = hashlib.sha256(file.read(_EDGE))
        file.seek(max(0, stat.st_size - _EDGE))
        edges.update(file.read())
    return {
        "version": _VERSION,
        "size": stat.st_size,
        "modified": stat.st_mtime_ns,
        "edges": edges.hexdigest(),
    }


def _load(place: Path, path: Path, key: dict[str, Any]) -> PairIndex | None:
    """Map a kept index; None if there is none, or it is damaged or of another state."""
    try:
        if orjson.loads((place / "key.json").read_bytes()) != key:
            return None
        columns: dict[str, Array] = {
            name: np.load(place / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in _COLUMNS
        }
    except (OSError, ValueError, EOFError):
        return None
    if len(columns["offsets"]) - 1 != len(columns["marks"]):
        return None
    return PairIndex(path=path, columns=columns, names=place)


def _save(place: Path, columns: dict[str, Array], names: list[str], key: dict[str, Any]) -> bool:
    """Write an index whole or not at all; say whether it could be written."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with scratch(place.parent, place.name) as work:
            for name, column in columns.items():
                np.save(work / f"{name}.npy", column, allow_pickle=False)
            (work / "speakers.json").write_bytes(orjson.dumps(names))
            (work / "key.json").write_bytes(orjson.dumps(key))
            publish(work, place)
    except OSError:
        return False
    return True
