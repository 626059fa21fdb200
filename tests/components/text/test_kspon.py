from __future__ import annotations

import pytest

from components.text.kspon import has_dual, has_half_dual, remove_marks, resolve_dual


@pytest.mark.parametrize(
    ("text", "orthographic", "phonetic"),
    [
        ("(70%)/(칠 십 프로)에서", "70%에서", "칠 십 프로에서"),
        ("( 3.5 ) / (삼 점 오)", "3.5", "삼 점 오"),
        ("(A)/(B) 그리고 (C)/(D)", "A 그리고 C", "B 그리고 D"),
        ("(4/5)/(오분의 사)", "4/5", "오분의 사"),
        ("(웃음) 없다", "(웃음) 없다", "(웃음) 없다"),
    ],
)
def test_one_side_of_a_dual_transcription_is_taken(
    text: str, orthographic: str, phonetic: str
) -> None:
    assert resolve_dual(text, "orthographic") == orthographic
    assert resolve_dual(text, "phonetic") == phonetic


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("b/ 네 n/ 네", "네 네"),
        ("l/ o/ u/", ""),
        ("네 n/.", "네 ."),
        ("아/ 그/, 뭐/", "아 그, 뭐"),
        ("그+ 그래* *", "그 그래"),
        ("club/ open/ km/h n/a", "club open km/h n/a"),
        ("5+3", "5+3"),
        ("b//", ""),
    ],
)
def test_tags_are_whole_tokens_and_marked_words_stay(text: str, expected: str) -> None:
    assert " ".join(remove_marks(text).split()) == expected


def test_dual_transcriptions_are_recognised_whole_and_by_half() -> None:
    assert has_dual("그 (A)/(B)")
    assert not has_dual("그 (A) (B)")
    for text in ("(A)/B", "A/(B)", "(A/(B)", "A)/(B)", "(A)/(B)/(C)", "(A) / B"):
        assert has_half_dual(text), text
    for text in ("(A)/(B) 네", "아/ (웃음)", "3/4", "(웃음)"):
        assert not has_half_dual(text), text
