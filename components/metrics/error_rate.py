"""Word and character error rates."""

from __future__ import annotations

import unicodedata

from components.metrics.edits import ErrorCounts, align, count_errors


def words(text: str) -> list[str]:
    """Split text, in Unicode normal form C, at white space."""
    return unicodedata.normalize("NFC", text).split()


def characters(text: str, *, spaces: bool = True) -> list[str]:
    """Split text into the code points of its normal form C.

    Args:
        text: a transcript.
        spaces: count one space between words as a character. Korean spacing varies between
            writers, so its character error rate is often given without.
    """
    return list((" " if spaces else "").join(words(text)))


def word_errors(reference: str, hypothesis: str) -> ErrorCounts:
    """Count word errors. Nothing but NFC is normalised: case and punctuation matter."""
    return count_errors(align(words(reference), words(hypothesis)))


def character_errors(reference: str, hypothesis: str, *, spaces: bool = True) -> ErrorCounts:
    """Count character errors; ``spaces`` as for :func:`characters`."""
    return count_errors(
        align(characters(reference, spaces=spaces), characters(hypothesis, spaces=spaces))
    )
