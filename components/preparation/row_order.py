"""Rows of a pair manifest taken apart and put together again, without parsing them."""

from __future__ import annotations

import hashlib
import re
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import orjson

from components.preparation.mel_folder import AvailableMels, shard
from core.data.lines import BOM, line_groups, parse_row, text_field
from core.data.npy import Array
from core.errors import DataError

Fingerprint: TypeAlias = tuple[int, int]
"""Number of rows, and the sum of their hashes: equal for the same rows in any order."""

_ROWS_AT_ONCE = 8192


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What one reading of a manifest tells.

    Args:
        path: of the manifest.
        sides: utterances of a row that must have mel.
        offsets: (N + 1,) byte at which each row begins, and the end of the last one.
        where: (sides, N) 0 without mel, 1 with it, 2 with it in a shard.
        leading: rows at the start that name their mel.
        front_bytes: size of the rows that were to be looked at as the front.
        front_sha256: of these bytes.
        fingerprint: of all rows, but for the paths of their mel.
    """

    path: Path
    sides: tuple[str, ...]
    offsets: Array
    where: Array
    leading: int
    front_bytes: int
    front_sha256: str
    fingerprint: Fingerprint

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def complete(self) -> Array:
        """(N,) whether a row has all the mels that it needs."""
        return np.asarray(self.where.all(axis=0))


def scan_rows(
    path: Path, available: AvailableMels, sides: tuple[str, ...], *, front: int | None
) -> Rows:
    """Read a manifest once.

    Args:
        path: of the manifest.
        available: which ids have mel.
        sides: utterances of a row that must have mel.
        front: rows whose bytes are digested.

    Raises:
        DataError: a row has no id of an utterance, or there is no row.
    """
    lengths = array("I")
    where: list[Array] = []
    digest, digested = hashlib.sha256(), 0
    total = leading = 0
    for lines in line_groups(path):
        before = len(lengths)
        where.append(np.stack([available.where(_ids(path, lines, before, s)) for s in sides]))
        if front is not None:
            for line in lines[: max(0, front - before)]:
                digest.update(line)
                digested += len(line)
        if leading == before:
            leading += _leading(lines, sides)
        total += _hash_sum(lines, sides)
        lengths.extend(map(len, lines))
    if not lengths:
        raise DataError(f"pair manifest {path} is empty; expected one JSON object a line")
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(np.frombuffer(lengths, dtype=np.uint32), out=offsets[1:])
    with path.open("rb") as file:
        offsets += len(BOM) if file.read(len(BOM)) == BOM else 0
    return Rows(
        path=path,
        sides=sides,
        offsets=offsets,
        where=np.concatenate(where, axis=1),
        leading=leading,
        front_bytes=digested,
        front_sha256=digest.hexdigest(),
        fingerprint=(len(lengths), total % (1 << 64)),
    )


def fingerprint_rows(path: Path, sides: tuple[str, ...]) -> Fingerprint:
    """Return the fingerprint of a manifest in this process; another process gives another."""
    count = total = 0
    for lines in line_groups(path):
        count += len(lines)
        total += _hash_sum(lines, sides)
    return count, total % (1 << 64)


def copy_rows(
    rows: Rows,
    chosen: Array,
    file: BinaryIO,
    *,
    complete: str | None = None,
    strip: bool = False,
    digest: Any = None,  # noqa: ANN401 - hashlib names no public type
) -> None:
    """Append chosen rows to a file, in their order.

    Args:
        rows: of the manifest.
        chosen: (N,) bool.
        file: written to.
        complete: folder of the mels, whose paths are then put into the rows.
        strip: take paths of mels out of the rows.
        digest: updated with what is written.
    """
    with rows.path.open("rb") as source:
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            numbers = start + np.flatnonzero(chosen[start : start + _ROWS_AT_ONCE])
            if not numbers.size:
                continue
            base = int(rows.offsets[numbers[0]])
            source.seek(base)
            data = source.read(int(rows.offsets[numbers[-1] + 1]) - base)
            begins = (rows.offsets[numbers] - base).tolist()
            ends = (rows.offsets[numbers + 1] - base).tolist()
            lines = [data[begin:end] for begin, end in zip(begins, ends, strict=True)]
            if strip and any(_key(side) in data for side in rows.sides):
                lines = [_stripped(line, rows.sides) for line in lines]
            if complete is not None:
                places = rows.where[:, numbers].T.tolist()
                lines = [
                    _completed(line, rows.sides, place, complete)
                    for line, place in zip(lines, places, strict=True)
                ]
            if not lines[-1].endswith(b"\n"):
                lines[-1] += b"\n"
            text = b"".join(lines)
            if digest is not None:
                digest.update(text)
            file.write(text)


def _ids(path: Path, lines: list[bytes], before: int, side: str) -> list[bytes]:
    """Return the ids of an utterance of each line. Raises DataError naming a line without one."""
    key = b'"%s_id"' % side.encode()
    found = [text_field(line, key) for line in lines]
    return [
        _parsed_id(path, before + number + 1, lines[number], side) if value is None else value
        for number, value in enumerate(found)
    ]


def _parsed_id(path: Path, number: int, line: bytes, side: str) -> bytes:
    try:
        value = parse_row(line).get(f"{side}_id")
        if type(value) is not str:
            raise ValueError(f"{side}_id is {value!r}; expected a string")
    except ValueError as error:
        raise DataError(f"{path}:{number}: {error}") from error
    return value.encode()


def _leading(lines: list[bytes], sides: tuple[str, ...]) -> int:
    """Return how many lines at the start name all their mels."""
    keys = [_key(side) for side in sides]
    lacking = (i for i, line in enumerate(lines) if not all(key in line for key in keys))
    return next(lacking, len(lines))


def _hash_sum(lines: list[bytes], sides: tuple[str, ...]) -> int:
    return sum(hash(_stripped(line, sides).rstrip(b"\r\n")) for line in lines)


def _stripped(line: bytes, sides: tuple[str, ...]) -> bytes:
    """Return a line without the paths of its mels."""
    for side in sides:
        if _key(side) in line:
            inner, first = _FIELDS[side]
            line, count = inner.subn(b"", line, count=1)
            if not count:
                line = first.sub(b"", line, count=1)
    return line


def _completed(line: bytes, sides: tuple[str, ...], where: list[int], folder: str) -> bytes:
    """Return a line with the paths of its mels at the end."""
    text = _stripped(line, sides).rstrip()
    if not text.endswith(b"}"):
        raise DataError(f"a row ends in '{text[-20:].decode(errors='replace')}'; expected '}}'")
    fields = b""
    for side, layout in zip(sides, where, strict=True):
        value = text_field(text, b'"%s_id"' % side.encode())
        identity = parse_row(text)[f"{side}_id"] if value is None else value.decode()
        inside = f"{shard(identity.encode())}/{identity}" if layout == 2 else identity
        path = orjson.dumps(f"{folder}/{inside}.npy")
        fields += b", " + _key(side) + b": " + path
    return text[:-1] + fields + b"}\n"


def _key(side: str) -> bytes:
    return b'"%s_mel_path"' % side.encode()


def _field(side: str) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """Return what finds a path with the comma before it, and with the one behind it."""
    value = rb'\s*:\s*(?:"(?:[^"\\]|\\.)*"|null)'
    return re.compile(rb",\s*" + _key(side) + value), re.compile(_key(side) + value + rb"\s*,?\s*")


_FIELDS = {side: _field(side) for side in ("target", "prompt")}
