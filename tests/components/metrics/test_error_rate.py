from __future__ import annotations

import unicodedata

from components.metrics.edits import ErrorCounts
from components.metrics.error_rate import character_errors, characters, word_errors, words


def test_words_and_characters_ignore_how_text_is_composed_and_spaced() -> None:
    decomposed = unicodedata.normalize("NFD", " 안녕  하세요\n")
    assert words(decomposed) == ["안녕", "하세요"]
    assert characters(decomposed) == list("안녕 하세요")
    assert characters(decomposed, spaces=False) == list("안녕하세요")


def test_word_errors() -> None:
    assert word_errors("one two three", "one too three four") == ErrorCounts(
        substitutions=1, insertions=1, reference_length=3
    )
    assert word_errors("One", "one").substitutions == 1


def test_a_wrong_space_is_a_character_error_only_with_spaces() -> None:
    assert character_errors("안녕 하세요", "안녕하세요") == ErrorCounts(
        deletions=1, reference_length=6
    )
    assert character_errors("안녕 하세요", "안녕하세요", spaces=False) == ErrorCounts(
        reference_length=5
    )


def test_an_empty_reference_counts_insertions() -> None:
    assert word_errors("", "oh no") == ErrorCounts(insertions=2)
    assert character_errors(" ", "") == ErrorCounts()
