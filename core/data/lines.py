"""Lines of JSONL manifests: parsed with a reason, or searched without being parsed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import orjson

Row: TypeAlias = dict[str, Any]

BOM = b"\xef\xbb\xbf"
NAMED_LINES = 10
"""Bad lines that a report names; more are only counted."""


def line_groups(path: Path, *, size: int = 1 << 23) -> Iterator[list[bytes]]:
    """Yield the lines of a file, line ends included, in lists of about ``size`` bytes."""
    with path.open("rb", buffering=0) as raw:
        start = len(BOM) if raw.read(len(BOM)) == BOM else 0
    with path.open("rb", buffering=1 << 20) as file:
        file.seek(start)
        while lines := file.readlines(size):
            yield lines


def text_field(line: bytes, key: bytes) -> bytes | None:
    """Return the string that a JSON object has under ``key``, as it stands between its quotes.

    ``key`` is given with its quotes. Nothing is parsed: inside a JSON string a quote is written
    with a backslash, so the quoted key is found nowhere but as a key or as a whole value, and only
    after a key there is a colon. The value must have no escapes; None is returned where it has, or
    where there is no such string.
    """
    at = line.find(key)
    while at >= 0:
        colon = at + len(key)
        while line[colon : colon + 1] in (b" ", b"\t"):
            colon += 1
        if line[colon : colon + 1] == b":":
            start = line.find(b'"', colon)
            if start < 0 or line[colon + 1 : start].strip():
                return None
            end = line.find(b'"', start + 1)
            value = line[start + 1 : end]
            return None if end < 0 or b"\\" in value else value
        at = line.find(key, colon)
    return None


def parse_row(line: bytes) -> Row:
    """Return a manifest line. Raises ValueError saying why it is no JSON object."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ValueError(_fault(line, error)) from error
    if not isinstance(row, dict):
        raise ValueError(f"a JSON {type(row).__name__}; expected an object")
    return row


def _fault(line: bytes, error: orjson.JSONDecodeError) -> str:
    """Say what is wrong with a line that is not JSON."""
    if not line.strip():
        return "blank line"
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as bad:
        return f"not UTF-8: byte 0x{line[bad.start]:02x} at column {bad.start + 1}"
    if line.startswith(BOM):
        return "a byte order mark inside the file"
    if any(token in line for token in (b"NaN", b"Infinity")):
        return f"NaN and Infinity are not JSON (column {error.colno})"
    if not line.rstrip().endswith(b"}"):
        return f"truncated JSON ({error.msg}, column {error.colno})"
    return f"not JSON ({error.msg}, column {error.colno})"


def faults_report(path: Path, faults: list[str], count: int, lines: int) -> str:
    """Say which lines of a manifest are bad: the first ``faults`` of ``count``, in ``lines``."""
    noun = "bad line" if count == 1 else "bad lines"
    more = f"\n  and {count - len(faults)} more" if count > len(faults) else ""
    return f"manifest {path}: {count} {noun} of {lines}:\n  " + "\n  ".join(faults) + more
