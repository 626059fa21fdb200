"""Fonts for what pictures say, whatever its script."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cache

# The default font of matplotlib has no Hangul, kana or ideographs. These have, and come with
# common systems; the first one that is installed is used.
_CJK_FAMILIES = (
    "Noto Sans CJK KR",
    "Noto Sans KR",
    "Noto Sans CJK JP",
    "Source Han Sans KR",
    "NanumGothic",
    "NanumBarunGothic",
    "Malgun Gothic",
    "Apple SD Gothic Neo",
    "AppleGothic",
    "Arial Unicode MS",
    "UnDotum",
    "Baekmuk Gulim",
    "WenQuanYi Zen Hei",
    "Unifont",
)
_DEFAULT_FAMILY = "DejaVu Sans"


@dataclass(frozen=True, slots=True)
class Lettering:
    """Installed fonts, the first that has a character wins, and the code points they cover."""

    families: tuple[str, ...]
    covered: frozenset[int]

    def printable(self, text: str) -> str:
        """Spell text with characters that can be drawn.

        White space becomes a space. A Hangul syllable without a font is romanised by its Unicode
        name (``안녕`` is ``annyeong``); other characters without one become ``<U+1F600>``.
        """
        return "".join(self._spell(char) for char in unicodedata.normalize("NFC", text))

    def _spell(self, char: str) -> str:
        if char.isspace():
            return " "
        if ord(char) in self.covered and char.isprintable():
            return char
        prefix, found, syllable = unicodedata.name(char, "").partition("HANGUL SYLLABLE ")
        return syllable.lower() if found and not prefix else f"<U+{ord(char):04X}>"


@cache
def lettering() -> Lettering:
    """Return the fonts of this machine. Needs matplotlib."""
    from matplotlib.font_manager import fontManager

    installed = set(fontManager.get_font_names())
    found = [family for family in _CJK_FAMILIES if family in installed][:1]
    families = (_DEFAULT_FAMILY, *found)
    return Lettering(families, frozenset().union(*map(_code_points, families)))


def _code_points(family: str) -> frozenset[int]:
    from matplotlib.font_manager import findfont, get_font

    return frozenset(get_font(findfont(family)).get_charmap())
