from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import DataError
from core.text import describe_character, normalise, normalised_texts


@given(st.text())
def test_the_normal_form_is_its_own_normal_form(text: str) -> None:
    normal = normalise(text)
    assert normalise(normal) == normal
    assert normalise(unicodedata.normalize("NFD", text)) == normal
    assert unicodedata.is_normalized("NFC", normal)


def test_white_space_becomes_single_spaces() -> None:
    assert normalise("\t one\u3000two\n three ") == "one two three"


def test_lower_case_is_composed_too() -> None:
    assert normalise("ÉCOLE", lowercase=True) == "école"
    assert unicodedata.is_normalized("NFC", normalise("İ", lowercase=True))


def test_empty_texts_are_left_out_and_their_absence_refused() -> None:
    assert list(normalised_texts(["a", " ", "B"], lowercase=True)) == ["a", "b"]
    with pytest.raises(DataError, match="no transcripts"):
        list(normalised_texts([" "]))


def test_characters_are_described_by_code_point_and_name() -> None:
    assert describe_character("가") == "'가' (U+AC00 HANGUL SYLLABLE GA)"
    assert "unnamed" in describe_character("\x00")
