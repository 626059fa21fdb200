from __future__ import annotations

import math
import unicodedata

import editdistance
from hypothesis import given
from hypothesis import strategies as st

from components.metrics.error_rate import (
    Edit,
    ErrorCounts,
    align,
    characters,
    count_errors,
    edit_distance,
    jamo,
    tally,
    words,
)

UNITS = st.lists(st.sampled_from(["a", "b", "c", "가", "나"]), max_size=12)


@given(UNITS, UNITS)
def test_alignment_is_valid_and_as_short_as_the_edit_distance(
    reference: list[str], hypothesis: list[str]
) -> None:
    edits = align(reference, hypothesis)
    assert [edit.reference for edit in edits if edit.reference is not None] == reference
    assert [edit.hypothesis for edit in edits if edit.hypothesis is not None] == hypothesis
    assert Edit(None, None) not in edits
    counts = tally(edits)
    assert counts.errors == editdistance.eval(reference, hypothesis)
    assert counts.errors == edit_distance(reference, hypothesis)
    assert counts.reference_length == len(reference)
    assert counts.insertions - counts.deletions == len(hypothesis) - len(reference)


def test_tells_the_kinds_of_edits_apart() -> None:
    edits = align(words("the cat sat down"), words("the cap sat on a"))
    assert edits[:3] == [Edit("the", "the"), Edit("cat", "cap"), Edit("sat", "sat")]
    assert tally(edits) == ErrorCounts(
        substitutions=2, insertions=1, deletions=0, reference_length=4
    )
    assert align(["a"], []) == [Edit("a", None)]
    assert align([], ["a"]) == [Edit(None, "a")]
    assert align([], []) == []


def test_counts_add_up_and_rates_are_defined_without_reference() -> None:
    first = ErrorCounts(substitutions=1, insertions=2, deletions=3, reference_length=10)
    total = first + ErrorCounts(insertions=1, reference_length=4)
    assert (total.errors, total.reference_length, total.rate) == (7, 14, 0.5)
    assert ErrorCounts().rate == 0.0
    assert ErrorCounts(insertions=1).rate == math.inf


def test_words_and_characters_ignore_how_text_is_composed_and_spaced() -> None:
    decomposed = unicodedata.normalize("NFD", " 안녕  하세요\n")
    assert words(decomposed) == ["안녕", "하세요"]
    assert characters(decomposed) == list("안녕 하세요")
    assert characters(decomposed, spaces=False) == list("안녕하세요")


def test_word_errors() -> None:
    assert count_errors(words("one two three"), words("one too three four")) == ErrorCounts(
        substitutions=1, insertions=1, reference_length=3
    )
    assert count_errors(words("One"), words("one")).substitutions == 1


def test_a_wrong_space_is_a_character_error_only_with_spaces() -> None:
    for spaces, expected in [
        (True, ErrorCounts(deletions=1, reference_length=6)),
        (False, ErrorCounts(reference_length=5)),
    ]:
        reference = characters("안녕 하세요", spaces=spaces)
        assert count_errors(reference, characters("안녕하세요", spaces=spaces)) == expected


def test_an_empty_reference_counts_insertions() -> None:
    assert count_errors([], words("oh no")) == ErrorCounts(insertions=2)
    assert count_errors(characters(" "), []) == ErrorCounts()


def test_jamo_take_syllables_apart_and_nothing_else() -> None:
    assert count_errors(jamo("갔습니다"), jamo("갓습니다")) == ErrorCounts(
        substitutions=1, reference_length=10
    )
    assert count_errors(characters("갔습니다"), characters("갓습니다")).rate == 0.25
    assert jamo("할 수 있다") == jamo("할수있다")
    assert jamo("é ㅋ a") == ["é", "ㅋ", "a"]
    assert jamo(unicodedata.normalize("NFD", "각")) == list(unicodedata.normalize("NFD", "각"))
