"""One form for every text, so that equal transcripts are equal strings."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator

from core.errors import DataError


def normalise(text: str, *, lowercase: bool = False) -> str:
    """Return ``text`` in Unicode form NFC, trimmed, with every run of white space as one space.

    Hangul that was written as separate letters (form NFD, as macOS file names and some corpora
    have it) becomes syllables.

    Args:
        text: as it was read.
        lowercase: map to lower case as well.
    """
    if lowercase:
        text = text.lower()
    return " ".join(unicodedata.normalize("NFC", text).split())


def normalised_texts(texts: Iterable[str], *, lowercase: bool = False) -> Iterator[str]:
    """Yield the normal forms of ``texts``, leaving out empty ones.

    Raises:
        DataError: after the last one, if there was no text at all.
    """
    empty = True
    for text in texts:
        if normal := normalise(text, lowercase=lowercase):
            empty = False
            yield normal
    if empty:
        raise DataError("there are no transcripts to learn a vocabulary from")


def describe_character(character: str) -> str:
    """Return a character with its code point and name: ``'é' (U+00E9 LATIN SMALL LETTER ...)``."""
    points = ", ".join(
        f"U+{ord(point):04X} {unicodedata.name(point, 'unnamed')}" for point in character
    )
    return f"{character!r} ({points})"
