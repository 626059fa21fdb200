"""A table of replacements: how the terms of a domain are to be written."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from core.errors import DataError, suggest
from core.text import normalise

_FORMS = (".tsv", ".json")


class Replacements:
    """Strings to put in place of others, in one pass from left to right.

    Of several sources that match at a place the longest is taken, and what was put in is not
    looked at again. A source that begins or ends in a Latin letter or a digit matches only where
    the word or the number does: ``CT`` is not found in ``ACTH``, but in ``CT를`` and ``5mg`` it and
    ``mg`` are.

    Args:
        table: target by source, both in form NFC without outer or repeated white space.
    """

    def __init__(self, table: Mapping[str, str]) -> None:
        self.table = dict(table)
        lengths: dict[str, set[int]] = {}
        for source in self.table:
            lengths.setdefault(source[0], set()).add(len(source))
        self._lengths = {first: sorted(found)[::-1] for first, found in lengths.items()}

    def __len__(self) -> int:
        return len(self.table)

    @property
    def digest(self) -> str:
        """First 16 digits of the SHA-256 of the table; its order does not matter."""
        content = json.dumps(sorted(self.table.items()), ensure_ascii=False)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def __call__(self, text: str) -> str:
        """Return ``text``, in form NFC, with every source replaced."""
        parts: list[str] = []
        place = done = 0
        while place < len(text):
            end = self._match(text, place)
            if end:
                parts += (text[done:place], self.table[text[place:end]])
                place = done = end
            else:
                place += 1
        return "".join([*parts, text[done:]])

    def _match(self, text: str, begin: int) -> int:
        """Return where the longest source that begins at a place ends; 0 if there is none."""
        for length in self._lengths.get(text[begin], ()):
            end = begin + length
            fits = end <= len(text) and text[begin:end] in self.table
            if fits and _whole(text, begin, end):
                return end
        return 0


def read_replacements(path: Path) -> Replacements:
    """Read a table: ``.tsv`` with ``source<TAB>target`` lines, or ``.json`` with one object.

    An empty target removes the source. White space around both is dropped; blank lines are
    allowed.

    Raises:
        DataError: naming file and line of what is not UTF-8, malformed, empty or there twice.
    """
    if path.suffix not in _FORMS:
        raise DataError(
            f"replacements {path}: expected a .tsv or .json file, found '{path.suffix}'; "
            + suggest(path.suffix, _FORMS, noun="forms")
        )
    try:
        content = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}: not UTF-8: {error.reason}") from error
    except OSError as error:
        raise DataError(f"replacements {path}: {error.strerror}") from error
    found = _tsv(path, content) if path.suffix == ".tsv" else _json(path, content)
    table: dict[str, str] = {}
    lines: dict[str, int] = {}
    for line, raw, target in found:
        source = normalise(raw)
        if not source:
            raise DataError(f"{path}:{line}: the source is empty; expected what is to be replaced")
        if source in table:
            raise DataError(f"{path}:{line}: '{source}' is there already, in line {lines[source]}")
        table[source], lines[source] = normalise(target), line
    if not table:
        raise DataError(f"replacements {path}: no entry; expected source and target")
    return Replacements(table)


def _tsv(path: Path, content: str) -> Iterable[tuple[int, str, str]]:
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        cells = line.removesuffix("\r").split("\t")
        if len(cells) != 2:
            raise DataError(
                f"{path}:{number}: expected 'source<TAB>target', found {len(cells)} "
                f"column{'s' if len(cells) > 1 else ''}: '{line.strip()}'"
            )
        yield number, cells[0], cells[1]


def _json(path: Path, content: str) -> Iterable[tuple[int, str, str]]:
    try:
        pairs = json.loads(content, object_pairs_hook=list)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not JSON: {error.msg}") from error
    if not isinstance(pairs, list) or not all(isinstance(pair, tuple) for pair in pairs):
        raise DataError(f"{path}:1: expected one object {{source: target}}")
    place = 0
    for source, target in pairs:
        key = re.compile(
            "|".join(re.escape(json.dumps(source, ensure_ascii=a)) for a in (False, True))
        )
        match = key.search(content, place)
        place = match.end() if match else place
        line = content.count("\n", 0, place) + 1
        if not isinstance(target, str):
            found = "an object" if isinstance(target, list) else json.dumps(target)
            raise DataError(f"{path}:{line}: '{source}' becomes {found}; expected a string")
        yield line, source, target


def _whole(text: str, begin: int, end: int) -> bool:
    """Say whether a match cuts through neither a Latin word nor a number."""
    before, after = text[max(0, begin - 2) : begin], text[end : end + 2]
    first, last = text[begin], text[end - 1]
    if (_latin(first) and _latin(before[-1:])) or (_latin(last) and _latin(after[:1])):
        return False
    if first.isdecimal() and (before[-1:].isdecimal() or _separated(before)):
        return False
    return not (last.isdecimal() and (after[:1].isdecimal() or _separated(after[::-1])))


def _separated(pair: str) -> bool:
    """Say whether a digit and then a decimal point or comma end at a number."""
    return len(pair) == 2 and pair[0].isdecimal() and pair[1] in ".,"


def _latin(character: str) -> bool:
    return character.isascii() and character.isalpha()
