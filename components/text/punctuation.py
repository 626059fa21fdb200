"""Which punctuation goes and which is part of a number, a unit or a word."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_BETWEEN_DIGITS = frozenset(".,:/-~+")
_SIGNS = frozenset("-−±")
_PERCENT = frozenset("%‰‱")
# Symbols by Unicode category, punctuation in transcripts: 네~, `quoted`, a|b.
_PUNCTUATING_SYMBOLS = frozenset("~^`|´¨")
_QUANTITY = r"(?:[kmcnpμµ]?g|[kmcnμµ]?m|[kmcdμµ]?l|m?mol|m?Eq|k?cal|IU|U|[㎀-㏟])"
_PER = r"(?:[mcdμµ]?l|[km]?g|[kmc]?m|hr?|min|sec|s|day|d|[㎀-㏟])"
_UNIT_SLASH = re.compile(
    rf"(?<![A-Za-z/]){_QUANTITY}(?P<slash>/){_PER}(?![A-Za-z/])", re.IGNORECASE
)


def without_punctuation(text: str, *, apostrophes: bool) -> str:
    """Return ``text`` with a space for each punctuation character that only punctuates.

    Kept are separators between digits (``3.5``, ``1,000``, ``120/80``, ``3:30``), signs before a
    number, percent signs, the slash of a unit (``mg/dL``) and symbols such as ``℃`` and ``$``.

    Args:
        text: in form NFC.
        apostrophes: keep those inside a word, as in ``don't``, in their straight form.
    """
    slashes = {match.start("slash") for match in _UNIT_SLASH.finditer(text)}
    return "".join(
        _kept(text, place, character, apostrophes=apostrophes)
        if place not in slashes and _punctuates(character)
        else character
        for place, character in enumerate(text)
    )


def without_symbols(text: str) -> str:
    """Return ``text`` with a space for each percent sign, symbol and slash of a unit."""
    slashes = {match.start("slash") for match in _UNIT_SLASH.finditer(text)}
    return "".join(
        " " if place in slashes or _is_symbol(text, place, character) else character
        for place, character in enumerate(text)
    )


def _is_symbol(text: str, place: int, character: str) -> bool:
    symbol = character in _PERCENT or unicodedata.category(character).startswith("S")
    return symbol and not (character in _BETWEEN_DIGITS and _between_digits(text, place))


def _kept(text: str, place: int, character: str, *, apostrophes: bool) -> str:
    """Return a punctuation character where it belongs to a number or a word, else a space."""
    if character in _BETWEEN_DIGITS and _between_digits(text, place):
        return character
    before, after = text[place - 1 : place], text[place + 1 : place + 2]
    free = not before or not (before.isalnum() or before == character)
    if (character in _SIGNS or character == ".") and free and after.isdecimal():
        return character
    if apostrophes and character in "'’" and _in_word(before) and _in_word(after):
        return "'"
    return " "


def _in_word(character: str) -> bool:
    return character.isalpha() or (character != "" and unicodedata.combining(character) > 0)


def _between_digits(text: str, place: int) -> bool:
    before, after = text[max(0, place - 1) : place], text[place + 1 : place + 2]
    return before.isdecimal() and after.isdecimal()


@lru_cache(maxsize=4096)
def _punctuates(character: str) -> bool:
    if character in _PERCENT:
        return False
    if character in _PUNCTUATING_SYMBOLS or character in _SIGNS or character == "+":
        return True
    return unicodedata.category(character).startswith("P")
