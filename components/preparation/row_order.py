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
            head = b"".join(lines[: max(0, front - before)])
            digest.update(head)
            digested += len(head)
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
            editing = complete is not None or (strip and _named(data, rows.sides))
            lines = _slices(rows.offsets, numbers, data, apart=editing)
            if complete is not None:
                places = rows.where[:, numbers].T.tolist()
                lines = [
                    _completed(bytes(line), rows.sides, place, complete)
                    for line, place in zip(lines, places, strict=True)
                ]
            elif editing:
                lines = [_stripped(bytes(line), rows.sides) for line in lines]
            text = b"".join(lines)
            if not text.endswith(b"\n"):
                text += b"\n"
            if digest is not None:
                digest.update(text)
            file.write(text)


def _slices(offsets: Array, numbers: Array, data: bytes, *, apart: bool) -> list[Any]:
    """Return chosen rows of a piece of the manifest, those in succession as one unless ``apart``.

    Args:
        offsets: (N + 1,) of all rows.
        numbers: of the chosen rows, ascending; ``data`` begins with the first of them.
        data: the piece.
        apart: give each row by itself.
    """
    first = numbers if apart else numbers[np.diff(numbers, prepend=-2) != 1]
    last = numbers if apart else numbers[np.diff(numbers, append=-2) != 1]
    base = offsets[numbers[0]]
    view = memoryview(data)
    bounds = zip((offsets[first] - base).tolist(), (offsets[last + 1] - base).tolist(), strict=True)
    return [view[begin:end] for begin, end in bounds]


def _ids(path: Path, lines: list[bytes], before: int, side: str) -> list[bytes]:
    """Return the ids of an utterance of each line. Raises DataError naming a line without one.

    Nearly all lines are written alike: what precedes the id is looked for as a whole, and only
    where it is not found, or the id has escapes, a line is looked at more closely.
    """
    key = b'"%s_id"' % side.encode()
    before_id = key + (b': "' if key + b': "' in lines[0] else b':"')
    found = [line.partition(before_id)[2].partition(b'"')[0] for line in lines]
    if all(found) and b"\\" not in b"".join(found):
        return found
    return [_slow_id(path, before + n, line, side, key) for n, line in enumerate(lines, 1)]


def _slow_id(path: Path, number: int, line: bytes, side: str, key: bytes) -> bytes:
    value = text_field(line, key)
    return _parsed_id(path, number, line, side) if value is None else value


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
    lacking = (n for n, line in enumerate(lines) if not all(text_field(line, k) for k in keys))
    return next(lacking, len(lines))


def _named(data: bytes, sides: tuple[str, ...]) -> bool:
    """Say whether any row names a mel."""
    return any(_key(side) in data for side in sides)


def _hash_sum(lines: list[bytes], sides: tuple[str, ...]) -> int:
    """Return the sum of the hashes of lines, without the paths of their mels."""
    if not lines[-1].endswith(b"\n"):
        lines = [*lines[:-1], lines[-1] + b"\n"]
    if not _named(b"".join(lines), sides):
        return sum(map(hash, lines))
    return sum(hash(_stripped(line, sides)) for line in lines)


def _stripped(line: bytes, sides: tuple[str, ...]) -> bytes:
    """Return a line without the paths of its mels."""
    for side in sides:
        key, inner, first = _FIELDS[side]
        if key in line:
            line, count = inner.subn(b"", line, count=1)
            if not count:
                line = first.sub(b"", line, count=1)
    return line


def _completed(line: bytes, sides: tuple[str, ...], where: list[int], folder: str) -> bytes:
    """Return a line with the paths of its mels at the end."""
    bare = _stripped(line, sides)
    text = bare.rstrip()
    if not text.endswith(b"}"):
        raise DataError(f"a row ends in '{text[-20:].decode(errors='replace')}'; expected '}}'")
    fields = b""
    for side, layout in zip(sides, where, strict=True):
        value = text_field(text, b'"%s_id"' % side.encode())
        identity = parse_row(text)[f"{side}_id"] if value is None else value.decode()
        inside = f"{shard(identity.encode())}/{identity}" if layout == 2 else identity
        path = orjson.dumps(f"{folder}/{inside}.npy")
        fields += b", " + _key(side) + b": " + path
    return text[:-1] + fields + b"}" + (bare[len(text) :] or b"\n")


def _key(side: str) -> bytes:
    return b'"%s_mel_path"' % side.encode()


def _field(side: str) -> tuple[bytes, re.Pattern[bytes], re.Pattern[bytes]]:
    """Return a key, what finds its path with the comma before it, and with the one behind it."""
    value = rb'\s*:\s*(?:"(?:[^"\\]|\\.)*"|null)'
    key = _key(side)
    return key, re.compile(rb",\s*" + key + value), re.compile(key + value + rb"\s*,?\s*")


_FIELDS = {side: _field(side) for side in ("target", "prompt")}
