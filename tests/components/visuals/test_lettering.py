from __future__ import annotations

import unicodedata

import pytest

pytest.importorskip("matplotlib")

from components.visuals.lettering import Lettering, lettering

LATIN = Lettering(("DejaVu Sans",), frozenset(range(32, 127)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain $text_1$", "plain $text_1$"),
        ("안녕 하세요", "annyeong haseyo"),
        (unicodedata.normalize("NFD", "한글"), "hangeul"),
        ("a\tb\nc", "a b c"),
        ("漢\x07", "<U+6F22><U+0007>"),
        ("", ""),
    ],
)
def test_spells_what_the_font_lacks(text: str, expected: str) -> None:
    assert LATIN.printable(text) == expected


def test_keeps_what_the_font_has() -> None:
    korean = Lettering(("a", "b"), LATIN.covered | {ord("안"), ord("녕")})
    assert korean.printable("안녕 하") == "안녕 ha"


def test_the_fonts_of_this_machine_cover_latin() -> None:
    here = lettering()
    assert here.families[0] == "DejaVu Sans"
    assert here.printable("Ärger, naïve: p ≥ 0.9 ▁the ␣…") == "Ärger, naïve: p ≥ 0.9 ▁the ␣…"
