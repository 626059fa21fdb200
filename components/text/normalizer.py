"""The text normaliser."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias

from components.text.kspon import Reading, has_dual, has_half_dual, remove_marks, resolve_dual
from components.text.punctuation import without_punctuation, without_symbols
from components.text.replacements import Replacements, read_replacements
from core.registry import register
from core.text import normalise

Language: TypeAlias = Literal["ko", "en"]
Brackets: TypeAlias = Literal["drop", "unwrap", "keep"]
Treatment: TypeAlias = Literal["drop", "keep"]

VERSION = 1
"""Goes up whenever any text would come out otherwise than before."""

_INVISIBLE = re.compile("[\u00ad\u200b\u2060\ufeff]")
_BRACKETED = re.compile(r"\(([^()]*)\)|\[([^\[\]]*)\]|\{([^{}]*)\}|（([^（）]*)）|【([^【】]*)】")


@register("text", "normalizer")
class TextNormalizer:
    """Bring a transcript into the form that is trained on and scored.

    In this order: form NFC; dual transcriptions and tags of KsponSpeech; bracketed notes; the
    table of replacements; punctuation and symbols; lower case; white space. Numbers stay as they
    are written: whether 1004 was read as a number or as a word, text alone does not tell.

    Applied to its own result it changes nothing, unless a table of replacements puts in what it
    looks for.

    Args:
        language: ``en`` keeps apostrophes inside words, as in ``don't``; ``ko`` takes them for
            quotation marks.
        brackets: drop bracketed notes, unwrap them (the brackets alone go), or keep them.
        kspon: which side of ``(A)/(B)`` to take, and tags and marks of KsponSpeech to be removed;
            None where a corpus has no such markup.
        punctuation: drop or keep what only punctuates. Numbers (3.5, 120/80) are never broken.
        symbols: drop or keep percent signs, units and other symbols (℃, $, the slash of mg/dL).
        lowercase: map to lower case.
        replacements: TSV or JSON file with the terms of a domain; read when first needed.
    """

    def __init__(
        self,
        *,
        language: Language = "ko",
        brackets: Brackets = "drop",
        kspon: Reading | None = None,
        punctuation: Treatment = "drop",
        symbols: Treatment = "keep",
        lowercase: bool = False,
        replacements: Path | None = None,
    ) -> None:
        self.language = language
        self.brackets = brackets
        self.kspon = kspon
        self.punctuation = punctuation
        self.symbols = symbols
        self.lowercase = lowercase
        self.replacements = replacements

    @cached_property
    def table(self) -> Replacements | None:
        """The replacements, None where there are none. Raises DataError naming a bad line."""
        return None if self.replacements is None else read_replacements(self.replacements)

    @property
    def fingerprint(self) -> str:
        """Name, version and options, to be kept beside every score; the same text for the same.

        Of a table it gives size and digest, not the path. Raises DataError if it cannot be read.
        """
        options = {
            "language": self.language,
            "brackets": self.brackets,
            "kspon": self.kspon,
            "punctuation": self.punctuation,
            "symbols": self.symbols,
            "lowercase": self.lowercase,
            "replacements": f"{len(self.table)}:{self.table.digest}" if self.table else None,
        }
        listed = " ".join(f"{name}={str(value).lower()}" for name, value in options.items())
        return f"text/normalizer version={VERSION} {listed}"

    def __call__(self, text: str) -> str:
        """Return the normal form of a transcript; it may be empty."""
        text = _settled(self._without_markup, normalise(_INVISIBLE.sub("", text)))
        if self.table is not None:
            return _settled(self._without_punctuation, normalise(self.table(text)))
        return _settled(lambda t: self._without_punctuation(self._without_markup(t)), text)

    def fault(self, text: str) -> str | None:
        """Say why a transcript cannot be normalised with certainty; None if it can.

        A dual transcription that lacks a bracket would lose words or keep both readings, and one
        that is not expected would lose both: such rows are better left out than guessed.
        """
        text = unicodedata.normalize("NFC", text)
        if self.kspon is None:
            return "dual transcription, and kspon is not set" if has_dual(text) else None
        return "half a dual transcription" if has_half_dual(text) else None

    def _without_markup(self, text: str) -> str:
        if self.kspon is not None:
            text = remove_marks(resolve_dual(text, self.kspon))
        if self.brackets != "keep":
            text = _BRACKETED.sub(self._bracketed, text)
        return normalise(text)

    def _without_punctuation(self, text: str) -> str:
        if self.punctuation == "drop":
            text = without_punctuation(text, apostrophes=self.language == "en")
        if self.symbols == "drop":
            text = without_symbols(text)
        return normalise(text, lowercase=self.lowercase)

    def _bracketed(self, match: re.Match[str]) -> str:
        return " " if self.brackets == "drop" else f" {match[match.lastindex or 0]} "


def _settled(step: Callable[[str], str], text: str) -> str:
    """Apply ``step`` until it changes nothing: what one removal joins may be markup again.

    It comes to an end, since a step removes characters or puts white space in their place.
    """
    while (found := step(text)) != text:
        text = found
    return text
