"""The letters of Hangul as tokens."""

from __future__ import annotations

import unicodedata

from components.tokenizers.vocabulary import VocabularyTokenizer
from core.registry import register

_FIRST_SYLLABLE, _LAST_SYLLABLE = "가", "힣"


@register("tokenizer", "jamo")
class JamoTokenizer(VocabularyTokenizer):
    """Hangul syllables as conjoining jamo (Unicode 3.12), other characters as they are.

    All 11,172 syllables take 67 tokens: 19 initial consonants, 21 vowels and 27 final consonants.
    Initial and final consonants are different tokens, so that syllables come back exactly.

    Args:
        lowercase: map text to lower case first.
    """

    kind = "jamo"

    def __init__(self, *, lowercase: bool = False) -> None:
        super().__init__(lowercase=lowercase)

    def _split(self, text: str) -> str:
        return "".join(
            unicodedata.normalize("NFD", character)
            if _FIRST_SYLLABLE <= character <= _LAST_SYLLABLE
            else character
            for character in text
        )
