from __future__ import annotations

import pytest

from components.text.punctuation import without_punctuation, without_symbols


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("네, 그래요. 정말?", "네 그래요 정말"),
        ("3.5kg, 1,000원.", "3.5kg 1,000원"),
        ("120/80 010-1234 3:30 3~5일", "120/80 010-1234 3:30 3~5일"),
        ("70% ±2 -3℃ .5", "70% ±2 -3℃ .5"),
        ("...5개 --3 네.5", "5개 3 네 5"),
        ("140 mg/dL 5㎍/㎖ km/h 5mEq/L", "140 mg/dL 5㎍/㎖ km/h 5mEq/L"),
        ("그/그녀 and/or img/dl", "그 그녀 and or img dl"),
        ("네~ `따옴표` “인용” 「책」…", "네 따옴표 인용 책"),
        ("don't 'quoted'", "don t quoted"),
    ],
)
def test_what_only_punctuates_goes(text: str, expected: str) -> None:
    assert " ".join(without_punctuation(text, apostrophes=False).split()) == expected


def test_apostrophes_inside_words_stay_if_asked() -> None:
    found = without_punctuation("Don’t say 'it's' o' clock", apostrophes=True)
    assert found.split() == ["Don't", "say", "it's", "o", "clock"]


def test_symbols_go_only_where_asked_and_never_out_of_a_number() -> None:
    found = without_symbols("70% $5 -3.5℃ mg/dL 120/80 3~5")
    assert found.split() == ["70", "5", "-3.5", "mg", "dL", "120/80", "3~5"]
