"""The markup of KsponSpeech transcripts (AI Hub, 969 hours of spontaneous Korean).

``(A)/(B)`` gives one passage twice: as it is spelt and as it was pronounced. ``b/ l/ n/ o/ u/``
are breath, laughter, noise, overlap and an unknown word; ``word/`` is a filler, ``word+`` a
repetition, and ``*`` marks what is unclear.
"""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

Reading: TypeAlias = Literal["orthographic", "phonetic"]
"""Which side of ``(A)/(B)`` to take: A or B."""

_DUAL = re.compile(r"\(([^()]*)\)\s*/\s*\(([^()]*)\)")
_HALF = re.compile(r"\)\s*/|/\(")
_END = r"(?=[\s.,?!…]|$)"
_TAG = re.compile(rf"(?<!\S)[blnou]/+{_END}")
_FILLER = re.compile(rf"(?<=[^\s/])/+{_END}")
_REPEATED = re.compile(r"\++(?!\d)|(?<!\d)\++")


def resolve_dual(text: str, reading: Reading) -> str:
    """Return ``text`` with one side of every ``(A)/(B)``; must come before slashes are touched."""
    side = 1 if reading == "orthographic" else 2
    return _DUAL.sub(lambda match: match[side].strip(), text)


def remove_marks(text: str) -> str:
    """Return ``text`` without tags and marks; the words that were marked stay.

    A tag is one only as a whole token, sentence punctuation behind it allowed, so the ``n/`` of
    ``km n/a`` or the ``b/`` of ``club/`` is none.
    """
    text = _REPEATED.sub("", text.replace("*", ""))
    return _FILLER.sub("", _TAG.sub(" ", text))


def has_dual(text: str) -> bool:
    """Say whether ``text`` has a dual transcription."""
    return _DUAL.search(text) is not None


def has_half_dual(text: str) -> bool:
    """Say whether a dual transcription in ``text`` lacks a bracket, so neither side is certain."""
    return _HALF.search(_DUAL.sub(" ", text)) is not None
